"""The processes that work on a study here: started, heard, replaced when they die, until the study is done."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import optuna

from harness.errors import HarnessError
from harness.pool import Place
from harness.tune.plan import StudyPlan
from harness.tune.slots import filled, finished, recover, spent

_POLL_SECONDS = 1.0
_FALSE_STARTS = 3


class Crew:
    """Workers on one study; :meth:`work` returns when the study is done."""

    def __init__(
        self,
        study: optuna.Study,
        storage: optuna.storages.BaseStorage,
        plan: StudyPlan,
        request: dict[str, Any],
        places: list[Place],
        watch: Callable[[dict[str, Any]], None],
    ) -> None:
        self._study, self._storage, self._plan, self._watch = study, storage, plan, watch
        self._request, self._places = request, list(places)
        self._running: dict[int, _Worker] = {}
        self._ended: dict[str, str] = {}
        self._events: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
        self._stopping = False
        self._false_starts = 0

    def work(self) -> None:
        """Until the places asked for are taken by finished trials, or the budget is spent.

        Raises :class:`KeyboardInterrupt` after the running trials have saved a checkpoint.
        """
        try:
            self._work()
        except KeyboardInterrupt:
            self._stopping = True
            for worker in self._running.values():
                worker.leave()
            try:
                self._work()
            except KeyboardInterrupt:
                for worker in self._running.values():
                    worker.popen.kill()
            raise

    def _work(self) -> None:
        owners = Path(self._request["owners"])
        while True:
            if self._running or not self._stopping:
                recover(self._study, self._storage, owners, self._ended.get)
            if not self._stopping:
                self._start()
                if not self._running and self._done():
                    return
            elif not self._running:
                recover(self._study, self._storage, owners)
                return
            self._listen(_POLL_SECONDS)

    def _done(self) -> bool:
        trials = self._request["trials"]
        if len(finished(self._study, trials)) >= trials:
            return True
        running = any(not trial.state.is_finished() for trial in filled(self._study).values())
        return self._spent() and not running

    def _spent(self) -> bool:
        budget = self._request["budget"]
        return budget is not None and spent(self._study) >= budget

    def _start(self) -> None:
        taken = filled(self._study)
        free = sum(slot not in taken for slot in range(self._request["trials"]))
        idle = sum(not worker.busy for worker in self._running.values())
        while self._places and free > idle and not self._spent():
            worker = _Worker(self._request, self._places.pop())
            self._running[worker.popen.pid] = worker
            threading.Thread(target=self._hear, args=(worker.popen.pid, worker.popen.stdout), daemon=True).start()
            free -= 1

    def _hear(self, number: int, out: IO[str]) -> None:
        for line in out:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            self._events.put((number, event))
        self._events.put((number, None))

    def _listen(self, seconds: float) -> None:
        """Follow events until none comes for a while or a worker has ended."""
        while True:
            try:
                number, event = self._events.get(timeout=seconds)
            except queue.Empty:
                return
            worker = self._running[number]
            if event is None:
                del self._running[number]
                self._places.append(worker.place)
                self._end(worker)
                return
            worker.follow(event)
            if event["event"] != "owner":
                self._watch({**event, "worker": number})

    def _end(self, worker: _Worker) -> None:
        how = worker.ended()
        self._false_starts = self._false_starts + 1 if worker.owner is None and how is not None else 0
        if self._false_starts >= _FALSE_STARTS and not self._stopping:
            raise HarnessError(f"workers end before they begin: {how}")
        if worker.owner is not None and how is not None and not self._stopping:
            self._ended[worker.owner] = how
        self._watch({"event": "left", "worker": worker.popen.pid})


class _Worker:
    def __init__(self, request: dict[str, Any], place: Place) -> None:
        self.place = place
        self.owner: str | None = None
        self.busy = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the process)
        environment = dict(os.environ)
        if place.threads is not None:
            environment["OMP_NUM_THREADS"] = str(place.threads)
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "harness.tune.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
        )
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps({**request, "threads": place.threads, "device": place.device}) + "\n")
        self.popen.stdin.flush()

    def follow(self, event: dict[str, Any]) -> None:
        """Remember who it is and whether it has a trial."""
        if event["event"] == "owner":
            self.owner = event["name"]
        self.busy = event["event"] not in ("owner", "told")

    def leave(self) -> None:
        """Let it end by itself, soon."""
        assert self.popen.stdin is not None
        self.popen.stdin.close()

    def ended(self) -> str | None:
        """How it ended, in words; None where it had nothing more to do."""
        from harness.tune.worker import SPOILT

        code = self.popen.wait()
        if code in (0, SPOILT):
            return None
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        how = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
        return f"{how}: {lines[-1]}" if lines else how
