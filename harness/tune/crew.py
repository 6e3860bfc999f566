"""The processes that work on a study here: started, heard, replaced when they die, until the study is done."""

from __future__ import annotations

import queue
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna

from harness.errors import HarnessError
from harness.grid.child import Child, Heard, Place
from harness.store.directory import OUTPUT
from harness.store.files import append
from harness.tune.owners import Owners
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
        # Workers on a database may have other folders; it has a heartbeat of its own.
        self._owners = Owners(Path(request["owners"]), complete=not isinstance(storage, optuna.storages.RDBStorage))
        self._running: dict[int, _Worker] = {}
        self._ended: dict[str, str] = {}
        self._events: queue.Queue[Heard] = queue.Queue()
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
                    worker.kill()
            raise

    def _work(self) -> None:
        while True:
            if self._running or not self._stopping:
                recover(self._study, self._storage, self._owners, self._ended.get)
            if not self._stopping:
                self._start()
                if not self._running and self._done():
                    return
            elif not self._running:
                recover(self._study, self._storage, self._owners)
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
            worker = _Worker(self._request, self._places.pop(), self._events)
            self._running[worker.number] = worker
            free -= 1

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
        folder = Path(self._request["results"]).parent
        if (printed := worker.printed()) and folder.is_dir():
            append(folder / OUTPUT, printed)
        self._false_starts = self._false_starts + 1 if worker.owner is None and how is not None else 0
        if self._false_starts >= _FALSE_STARTS and not self._stopping:
            raise HarnessError(f"workers end before they begin: {how}")
        if worker.owner is not None and how is not None and not self._stopping:
            self._ended[worker.owner] = how
        self._watch({"event": "left", "worker": worker.number})


class _Worker(Child):
    def __init__(self, request: dict[str, Any], place: Place, heard: queue.Queue[Heard]) -> None:
        super().__init__("harness.tune.worker", {**request, "device": place.device}, place, heard)
        self.owner: str | None = None
        self.busy = False

    def follow(self, event: dict[str, Any]) -> None:
        """Remember who it is and whether it has a trial."""
        if event["event"] == "owner":
            self.owner = event["name"]
        self.busy = event["event"] not in ("owner", "told")

    def ended(self) -> str | None:
        """How it ended, in words; None where it had nothing more to do."""
        from harness.tune.worker import SPOILT

        return None if self.exit_status() in (0, SPOILT) else self.how_it_ended()
