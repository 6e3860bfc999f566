"""A process of one's own that works on a request: started, heard, asked to leave, and how it ended."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from typing import Any

#: from which process, and what it tells; None is its end
Heard = tuple[int, dict[str, Any] | None]


@dataclass(frozen=True)
class Place:
    """Where a run may compute: a device, and a number of CPU threads (None: as torch chooses)."""

    device: str | None = None
    threads: int | None = None


class Child:
    """``python -m module`` with ``request`` on its stdin; its events arrive in ``heard`` under :attr:`number`.

    The module accepts with :func:`harness.worker.accept`.
    """

    def __init__(self, module: str, request: dict[str, Any], place: Place, heard: queue.Queue[Heard]) -> None:
        self.place = place
        self._heard = heard
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the process)
        environment = dict(os.environ)
        if place.threads is not None:
            environment["OMP_NUM_THREADS"] = str(place.threads)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
        )
        self.number = self._process.pid
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({**request, "threads": place.threads}) + "\n")
        self._process.stdin.flush()
        threading.Thread(target=self._listen, daemon=True).start()

    def leave(self) -> None:
        """Let it end by itself, soon."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def exit_status(self) -> int:
        """Its exit status, negative the signal that killed it; waits for its end."""
        return self._process.wait()

    def errors(self) -> list[str]:
        """What it wrote to stderr, in lines."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip().splitlines()

    def how_it_ended(self) -> str:
        """Its end in words, with the last line of stderr."""
        code, lines = self.exit_status(), self.errors()
        how = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
        if code == -9:
            how += ", as the system does when memory runs out"
        return f"{how}: {lines[-1] if lines else 'no message'}"

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            self._heard.put((self.number, event))
        self._heard.put((self.number, None))
