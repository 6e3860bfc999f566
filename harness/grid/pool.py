"""The runs of a grid, a few at a time: what they tell, and what became of them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.grid.workers import Event, Workers
from harness.store.directory import OUTPUT
from harness.store.files import write
from harness.store.records import Status

_LOCKED_SECONDS = 2.0


@dataclass
class Job:
    """One run to do, anew where ``replaces`` is what became of it. ``result`` is its summary, or why there is none."""

    config: dict[str, Any]
    directory: Path
    replaces: dict[str, Any] | None = None
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def request(self) -> dict[str, Any]:
        """What :mod:`harness.grid.worker` is asked for."""
        data = {name: self.config[name] for name in ("benchmark", "benchmark_options")}
        run = {"config": self.config, "directory": str(self.directory), "replaces": self.replaces}
        return {"module": "harness.grid.worker", **data, **run}


class Pool:
    """Has jobs done until all have ended or :meth:`stop` is called."""

    def __init__(self, jobs: list[Job], workers: Workers) -> None:
        self._waiting, self._workers = list(jobs), workers
        self._running: dict[int, Job] = {}
        self._last: dict[int, Event] = {}
        self._not_before: dict[Path, float] = {}
        self._stopping = False

    def events(self, until: float = math.inf) -> Iterator[tuple[Job, Event]]:
        """Every event of every job as it comes; the last one of a job is ``end``, with :attr:`Job.result` set.

        At ``until``, a time of :func:`time.monotonic`, it stops by itself.
        """
        most = self._workers.most or len(self._waiting)
        while self._running or (self._waiting and not self._stopping):
            if not self._stopping and time.monotonic() >= until:
                self.stop()
            while len(self._running) < most and not self._stopping and (job := self._ready()):
                self._waiting.remove(job)
                self._running[self._workers.submit(job.request)] = job
            heard = self._workers.listen(0.5)
            if heard is None or heard[0] not in self._running:
                continue
            number, event = heard
            job = self._running[number]
            if event["event"] in ("begin", "trained", "evaluated"):
                yield job, event
            if event["event"] != "ended":
                self._last[number] = event
                continue
            del self._running[number]
            result = _result(self._last.pop(number, {}), event)
            if result["status"] == "locked":  # another process does this very run: look again later
                self._waiting.append(job)
                self._not_before[job.directory] = time.monotonic() + _LOCKED_SECONDS
                continue
            if result["status"] == Status.CRASHED and self._stopping:  # before it could save anything
                result = {"status": "interrupted"}
            job.result = result
            _keep(event["printed"], Path(result.get("run_dir", job.directory)))
            yield job, {"event": "end"}

    def _ready(self) -> Job | None:
        """The first one that waits for nobody else."""
        now = time.monotonic()
        return next((job for job in self._waiting if now >= self._not_before.get(job.directory, now)), None)

    def stop(self, at_once: bool = False) -> None:
        """Start nothing more; let the running jobs save a checkpoint, or kill them ``at_once``."""
        self._stopping = True
        self._workers.stop(at_once)


def _keep(printed: bytes, directory: Path) -> None:
    """What a run printed, in its directory if there is one."""
    if printed and directory.is_dir():
        with suppress(HarnessError):  # the run itself is whole
            write(directory / OUTPUT, printed)


def _result(last: Event, ended: Event) -> dict[str, Any]:
    """The summary, or status ``refused``, ``out_of_memory``, ``locked`` or ``crashed`` with a message."""
    if last.get("event") == "end":
        summary: dict[str, Any] = last["summary"]
        return summary
    if last.get("event") in ("refused", "out_of_memory", "locked"):
        return {"status": last["event"], "message": last["message"]}
    return {"status": Status.CRASHED, "message": ended["how"] or "exit status 0: no message", "stderr": ended["errors"]}
