"""A process of one's own that does requests one by one (:mod:`harness.grid.serve`): heard, left, and how each ended."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from harness.path import import_path

#: what such a process executes: the code that this one does, whatever lies in the current folder
_PROGRAM = "import sys; sys.path[:] = {path!r}; from harness.grid.serve import serve; serve({channel})"
_MOST_PRINTED = 1 << 20
_LOOK_SECONDS = 0.5
#: how long a process waits for another request
_IDLE_SECONDS = 60.0
Tell = Callable[[dict[str, Any]], object]


@dataclass(frozen=True)
class Place:
    """Where a run may compute: a device, and a number of CPU threads (None: as torch chooses)."""

    device: str | None = None
    threads: int | None = None


class Child:
    """Started with its first request, and again where it has died; ``path`` is searched for modules before its own.

    Events come through a pipe of their own, so that what a model prints is none.
    """

    def __init__(self, place: Place, path: Iterable[str] = ()) -> None:
        self.place = place
        self._path = list(dict.fromkeys([*path, *import_path()]))
        self._printed, self._errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self._process: subprocess.Popen[bytes] | None = None
        self._forked: int | None = None
        self._idle: threading.Timer | None = None
        self._left = False
        self._lock = threading.RLock()

    def work(self, request: dict[str, Any], tell: Tell, wanted: Callable[[], bool] = lambda: True) -> None:
        """Do a request and :meth:`leave` once it is not ``wanted``; the last event is ``ended``, with how it ended."""
        for file in (self._printed, self._errors):
            os.ftruncate(file.fileno(), 0)
            os.lseek(file.fileno(), 0, os.SEEK_SET)
        code = None
        if self._begin({**request, **vars(self.place)}):
            assert self._process is not None
            for event in self._heard(wanted):
                if event["event"] == "started":
                    self._forked = event["pid"]
                elif event["event"] == "ended":
                    code = event["code"]
                    break
                else:
                    tell(event)
            self._forked = None
            code = self._process.wait() if code is None else code
            self._idle = threading.Timer(_IDLE_SECONDS, self._close)
            self._idle.daemon = True
            self._idle.start()
        errors = _end_of(self._errors)
        lines = errors.decode(errors="replace").strip().splitlines()
        printed = _end_of(self._printed) + errors
        tell({"event": "ended", "how": _how(code, lines), "errors": lines[-50:], "printed": printed})

    def leave(self) -> None:
        """Let it end by itself, soon, and begin nothing more."""
        with self._lock:
            self._left = True
            self._close()

    def wait(self) -> None:
        """Until its process has ended."""
        if self._process is not None:
            self._process.wait()

    def kill(self) -> None:
        """End it now."""
        self.leave()
        if self._process is not None:
            self._process.kill()
        if (forked := self._forked) is not None:
            with suppress(ProcessLookupError):
                os.kill(forked, signal.SIGKILL)

    def _begin(self, request: dict[str, Any]) -> bool:
        """Send a request to the process, a new one if need be; False where it was left."""
        with self._lock:
            if self._left:
                return False
            if self._idle is not None:
                self._idle.cancel()
            if self._process is None or self._stdin.closed or self._process.poll() is not None:
                self.wait()
                self._start()
            with suppress(BrokenPipeError):
                self._stdin.write(json.dumps(request).encode() + b"\n")
        return True

    def _start(self) -> None:
        environment = dict(os.environ)
        if self.place.threads is not None:
            environment["OMP_NUM_THREADS"] = str(self.place.threads)
        events, channel = os.pipe()
        self._events = os.fdopen(events, "rb", buffering=0)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM.format(path=self._path, channel=channel)],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=self._printed,
                stderr=self._errors,
                env=environment,
                pass_fds=(channel,),
            )
        finally:
            os.close(channel)
        assert self._process.stdin is not None
        self._stdin = self._process.stdin

    def _close(self) -> None:
        """Whoever reads on the other side ends, soon."""
        with self._lock:
            if self._process is not None:
                self._stdin.close()

    def _heard(self, wanted: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """Its events, until it and what it forked have ended."""
        assert self._process is not None
        rest = b""
        while True:
            if not wanted():
                self.leave()
            elif self._process.poll() is not None:  # what it forked is alone
                self._close()
            if not select.select([self._events], [], [], _LOOK_SECONDS)[0]:
                continue
            if not (some := self._events.read(1 << 16)):
                self._events.close()
                return
            *lines, rest = (rest + some).split(b"\n")
            for line in lines:
                with suppress(ValueError):  # torn by its end
                    yield json.loads(line)


def _how(code: int | None, lines: list[str]) -> str | None:
    """An end in words, with the last line of stderr; None for a good one."""
    if code == 0:
        return None
    if code is None:
        return "stopped before it began"
    how = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
    if code == -9:
        how += ", as the system does when memory runs out"
    return f"{how}: {lines[-1] if lines else 'no message'}"


def _end_of(file: IO[bytes]) -> bytes:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), _MOST_PRINTED, max(0, size - _MOST_PRINTED))
