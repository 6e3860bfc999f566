"""One run of a suite, in a process of its own: see :mod:`harness.grid.serve`, whose forks have all this imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from harness.errors import InputError, OutOfMemory
from harness.experiment.progress import Silent
from harness.experiment.run import run
from harness.grid.compare import Entry
from harness.grid.serve import Events
from harness.settings.config import RunConfig
from harness.settings.resolve import resolve
from harness.store.lock import Locked

torch.optim.SGD([torch.zeros(1)])  # the first optimizer imports more of torch than torch itself


class Watch(Silent):
    """Events of a run, now and then."""

    def __init__(self, events: Events) -> None:
        self._events = events

    def begin(self, config: RunConfig, done: int) -> None:
        """See :class:`Progress`."""
        self._events.send("begin", iteration=done)

    def trained(self, record: dict[str, Any]) -> None:
        """See :class:`Progress`."""
        self._events.now_and_then("trained", iteration=record["iteration"], loss=record["loss"])

    def evaluated(self, split: str, done: int, total: int) -> None:
        """See :class:`Progress`."""
        self._events.now_and_then("evaluated", done=done, total=total)


def main(request: dict[str, Any], events: Events) -> None:
    """Do the run; the last event is ``end``, ``refused``, ``out_of_memory`` or ``locked``."""
    config, directory = RunConfig(**request["config"]), Path(request["directory"])
    if request["device"] is not None:
        config = config.model_copy(update={"device": request["device"]})
    try:
        if Entry(resolve(config), directory.parent).directory != directory:
            raise InputError("its code or data have changed since this command began; allowed: the same command again")
        watch, replaces = Watch(events), request["replaces"]
        summary = run(config, results=directory.parent, resume=True, replaces=replaces, progress=watch)
    except Locked as error:
        events.send("locked", message=str(error))
    except InputError as error:
        events.send("refused", message=str(error))
    except OutOfMemory as error:
        events.send("out_of_memory", message=str(error))
    else:
        events.send("end", summary=summary)
