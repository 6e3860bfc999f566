"""Runs in processes of their own, a few at a time: what they tell, and what became of them."""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.grid.child import Child, Heard, Place
from harness.store.directory import OUTPUT
from harness.store.files import write

_LOCKED_SECONDS = 2.0


@dataclass
class Job:
    """One run to do, anew where ``replaces`` is what became of it. ``result`` is its summary, or why there is none."""

    config: dict[str, Any]
    directory: Path
    replaces: dict[str, Any] | None = None
    result: dict[str, Any] = field(default_factory=dict)


class Pool:
    """Runs jobs in as many processes as there are places, until all have ended or :meth:`stop` is called."""

    def __init__(self, jobs: list[Job], places: list[Place]) -> None:
        self._waiting = deque(jobs)
        self._places = list(places)
        self._running: dict[int, _Running] = {}
        self._events: queue.Queue[Heard] = queue.Queue()
        self._not_before = 0.0
        self._stopping = False

    def events(self) -> Iterator[tuple[Job, dict[str, Any]]]:
        """Every event of every job as it comes; the last one of a job is ``end``, with :attr:`Job.result` set."""
        while self._waiting or self._running:
            while self._waiting and self._places and time.monotonic() >= self._not_before and not self._stopping:
                self._start(self._waiting.popleft(), self._places.pop())
            if self._stopping and not self._running:
                return
            try:
                number, event = self._events.get(timeout=0.5)
            except queue.Empty:
                continue
            running = self._running[number]
            if event is not None:
                running.last = event
                if event["event"] in ("begin", "trained", "evaluated"):
                    yield running.job, event
                continue
            del self._running[number]
            self._places.append(running.child.place)
            result = running.result()
            if result["status"] == "locked":  # another process does this very run: look again later
                self._waiting.append(running.job)
                self._not_before = time.monotonic() + _LOCKED_SECONDS
                continue
            if result["status"] == "crashed" and self._stopping:  # before it could save anything
                result = {"status": "interrupted"}
            running.job.result = result
            _keep(running.child.printed(), Path(result.get("run_dir", running.job.directory)))
            yield running.job, {"event": "end"}

    def stop(self, at_once: bool = False) -> None:
        """Start nothing more; let the running jobs save a checkpoint, or kill them ``at_once``."""
        self._stopping = True
        for running in self._running.values():
            running.child.kill() if at_once else running.child.leave()

    def _start(self, job: Job, place: Place) -> None:
        config = job.config if place.device is None else {**job.config, "device": place.device}
        request = {"config": config, "directory": str(job.directory), "replaces": job.replaces}
        child = Child("harness.grid.worker", request, place, self._events)
        self._running[child.number] = _Running(job, child)


def _keep(printed: bytes, directory: Path) -> None:
    """What a run printed, in its directory if there is one."""
    if printed and directory.is_dir():
        with suppress(HarnessError):  # the run itself is whole
            write(directory / OUTPUT, printed)


@dataclass
class _Running:
    job: Job
    child: Child
    last: dict[str, Any] = field(default_factory=dict)

    def result(self) -> dict[str, Any]:
        """The summary, or status ``refused``, ``out_of_memory``, ``locked`` or ``crashed`` with a message."""
        kind = self.last.get("event")
        if kind == "end":
            summary: dict[str, Any] = self.last["summary"]
            return summary
        if kind in ("refused", "out_of_memory", "locked"):
            return {"status": kind, "message": self.last["message"]}
        return {"status": "crashed", "message": self.child.how_it_ended(), "stderr": self.child.errors()[-50:]}
