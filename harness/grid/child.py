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
from typing import IO, Any

from harness.path import import_path

#: from which process, and what it tells; None is its end
Heard = tuple[int, dict[str, Any] | None]
#: what one of these processes executes: the code that this one does, whatever lies in the current folder
_PROGRAM = "import sys; sys.path[:] = {path!r}; from {module} import main; sys.exit(main({channel}))"
_MOST_PRINTED = 1 << 20


@dataclass(frozen=True)
class Place:
    """Where a run may compute: a device, and a number of CPU threads (None: as torch chooses)."""

    device: str | None = None
    threads: int | None = None


class Child:
    """``main`` of ``module`` with ``request`` on its stdin; its events arrive in ``heard`` under :attr:`number`.

    Events come through a pipe of their own, so that what a model prints is none. The module accepts with
    :func:`harness.grid.worker.accept`.
    """

    def __init__(self, module: str, request: dict[str, Any], place: Place, heard: queue.Queue[Heard]) -> None:
        from harness.measure.precision import flags

        self.place = place
        self._heard = heard
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115  (both live as long as the process)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        environment = dict(os.environ)
        if place.threads is not None:
            environment["OMP_NUM_THREADS"] = str(place.threads)
        self._events, channel = os.pipe()
        program = _PROGRAM.format(path=import_path(), module=module, channel=channel)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", program],
                stdin=subprocess.PIPE,
                stdout=self._printed,
                stderr=self._errors,
                text=True,
                env=environment,
                pass_fds=(channel,),
            )
        except BaseException:
            os.close(self._events)
            raise
        finally:
            os.close(channel)
        self.number = self._process.pid
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({**request, "threads": place.threads, "flags": flags()}) + "\n")
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
        return _end_of(self._errors).decode(errors="replace").strip().splitlines()

    def printed(self) -> bytes:
        """What it wrote to stdout, and then to stderr; of each no more than the last of it."""
        return _end_of(self._printed) + _end_of(self._errors)

    def how_it_ended(self) -> str:
        """Its end in words, with the last line of stderr."""
        code, lines = self.exit_status(), self.errors()
        how = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
        if code == -9:
            how += ", as the system does when memory runs out"
        return f"{how}: {lines[-1] if lines else 'no message'}"

    def _listen(self) -> None:
        with open(self._events) as events:
            for line in events:
                try:
                    event = json.loads(line)
                except ValueError:  # torn by its end
                    continue
                self._heard.put((self.number, event))
        self._heard.put((self.number, None))


def _end_of(file: IO[bytes]) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _MOST_PRINTED))
    return file.read()
