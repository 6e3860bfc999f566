"""One run of a suite in a process of its own: a request on stdin, events on a pipe, a stop when stdin closes."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from harness.experiment.progress import Measured
    from harness.settings.config import RunConfig

_EVENT_SECONDS = 0.5


class Events:
    """Implements :class:`harness.experiment.progress.Progress`: JSON lines for whoever started this process."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._sent = 0.0

    def send(self, event: str, **content: Any) -> None:
        """Write one event; nobody reading is no reason to fail."""
        try:
            print(json.dumps({"event": event, **content}, default=str), file=self._out, flush=True)
        except BrokenPipeError:
            pass

    def begin(self, config: RunConfig, done: int) -> None:
        """See :class:`Progress`."""
        self.send("begin", iteration=done)

    def trained(self, record: dict[str, Any]) -> None:
        """See :class:`Progress`."""
        self._now_and_then("trained", iteration=record["iteration"], loss=record["loss"])

    def evaluated(self, split: str, done: int, total: int) -> None:
        """See :class:`Progress`."""
        self._now_and_then("evaluated", done=done, total=total)

    def measured(self, what: Measured, record: dict[str, Any]) -> str | None:
        """See :class:`Progress`."""
        return None

    def end(self) -> None:
        """See :class:`Progress`."""

    def _now_and_then(self, event: str, **content: Any) -> None:
        if time.monotonic() - self._sent > _EVENT_SECONDS:
            self._sent = time.monotonic()
            self.send(event, **content)


def accept(channel: int) -> tuple[dict[str, Any], TextIO]:
    """The request on stdin, and where events go: the file descriptor that this process was started with.

    Sets the threads and flags of torch that it asks for, and ends this process gently once stdin is closed.
    """
    os.set_inheritable(channel, False)
    out = os.fdopen(channel, "w")
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_stop_when_left, daemon=True).start()
    if request["flags"]:
        from harness.measure.precision import adopt

        adopt(request["flags"])
    if request["threads"] is not None:
        import torch

        torch.set_num_threads(request["threads"])
    return request, out


def main(channel: int) -> int:
    """Do what the first line of stdin asks; the last event is ``end``, ``refused``, ``out_of_memory`` or ``locked``."""
    request, out = accept(channel)
    from harness.errors import InputError, OutOfMemory
    from harness.experiment.run import run
    from harness.grid.compare import Entry
    from harness.settings.config import RunConfig
    from harness.settings.resolve import resolve
    from harness.store.lock import Locked

    events = Events(out)
    try:
        config, directory = RunConfig(**request["config"]), Path(request["directory"])
        if Entry(resolve(config), directory.parent).directory != directory:
            raise InputError("its code or data have changed since this command began; allowed: the same command again")
        summary = run(config, results=directory.parent, resume=True, replaces=request["replaces"], progress=events)
    except Locked as error:
        events.send("locked", message=str(error))
    except InputError as error:
        events.send("refused", message=str(error))
    except OutOfMemory as error:
        events.send("out_of_memory", message=str(error))
    else:
        events.send("end", summary=summary)
    return 0


def _stop_when_left() -> None:
    """The process that started this one has gone or wants it to stop: save a checkpoint and end."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)
