"""Runs in processes of their own, a few at a time: what they tell, how they end, what they left when they crashed."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

_LOCKED_SECONDS = 2.0


@dataclass
class Job:
    """One run to do. ``result`` holds its summary, or why there is none, when it has ended."""

    config: dict[str, Any]
    directory: Path
    fresh: bool = False
    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Where a run may compute: a device, and a number of CPU threads (None: as torch chooses)."""

    device: str | None = None
    threads: int | None = None


class Pool:
    """Runs jobs in as many processes as there are places, until all have ended or :meth:`stop` is called."""

    def __init__(self, jobs: list[Job], places: list[Place]) -> None:
        self._waiting = deque(jobs)
        self._places = list(places)
        self._running: dict[int, _Process] = {}
        self._events: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
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
            process = self._running[number]
            if event is not None:
                process.last = event
                if event["event"] in ("begin", "trained", "evaluated"):
                    yield process.job, event
                continue
            del self._running[number]
            self._places.append(process.place)
            result = process.result()
            if result["status"] == "locked":  # another process does this very run: look again later
                self._waiting.append(process.job)
                self._not_before = time.monotonic() + _LOCKED_SECONDS
                continue
            process.job.result = result
            yield process.job, {"event": "end"}

    def stop(self, at_once: bool = False) -> None:
        """Start nothing more; let the running jobs save a checkpoint, or kill them ``at_once``."""
        self._stopping = True
        for process in self._running.values():
            process.kill() if at_once else process.leave()

    def _start(self, job: Job, place: Place) -> None:
        process = _Process(job, place)
        number = process.popen.pid
        self._running[number] = process
        threading.Thread(target=self._listen, args=(number, process.popen.stdout), daemon=True).start()

    def _listen(self, number: int, out: IO[str]) -> None:
        for line in out:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            self._events.put((number, event))
        self._events.put((number, None))


class _Process:
    def __init__(self, job: Job, place: Place) -> None:
        self.job, self.place = job, place
        self.last: dict[str, Any] = {}
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the process)
        environment = dict(os.environ)
        if place.threads is not None:
            environment["OMP_NUM_THREADS"] = str(place.threads)
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "harness.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=environment,
        )
        config = job.config if place.device is None else {**job.config, "device": place.device}
        request = {
            "config": config,
            "results": str(job.directory.parent),
            "fresh": job.fresh,
            "threads": place.threads,
        }
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps(request) + "\n")
        self.popen.stdin.flush()

    def leave(self) -> None:
        """Let it end by itself, soon."""
        assert self.popen.stdin is not None
        self.popen.stdin.close()

    def kill(self) -> None:
        """End it now."""
        self.popen.kill()

    def result(self) -> dict[str, Any]:
        """The summary, or status ``refused``, ``locked`` or ``crashed`` with a message."""
        code = self.popen.wait()
        kind = self.last.get("event")
        if kind == "end":
            summary: dict[str, Any] = self.last["summary"]
            return summary
        if kind in ("refused", "locked"):
            return {"status": kind, "message": self.last["message"]}
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        how = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
        return {"status": "crashed", "message": f"{how}: {lines[-1] if lines else 'no message'}", "stderr": lines[-50:]}
