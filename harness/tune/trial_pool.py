"""Trials of a study, done by workers here or on a cluster, and done again where they die, until the study is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna

from harness.errors import HarnessError
from harness.grid.workers import Event, Workers
from harness.store.directory import OUTPUT
from harness.store.files import append
from harness.tune.owners import Owners
from harness.tune.slots import filled, finished, recover, spent

_POLL_SECONDS = 1.0
_FALSE_STARTS = 3


class TrialPool:
    """Has trials of one study done; :meth:`work` returns when the study is done."""

    def __init__(
        self,
        study: optuna.Study,
        storage: optuna.storages.BaseStorage,
        request: dict[str, Any],
        workers: Workers,
        watch: Callable[[Event], None],
    ) -> None:
        self._study, self._storage, self._watch = study, storage, watch
        self._request, self._workers = request, workers
        # Workers on a database may have other folders; it has a heartbeat of its own.
        self._owners = Owners(Path(request["owners"]), complete=not isinstance(storage, optuna.storages.RDBStorage))
        #: names of those that run, None before they have said it
        self._running: dict[int, str | None] = {}
        self._busy: set[int] = set()
        self._ended: dict[str, str] = {}
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
            self._workers.stop()
            try:
                self._work()
            except KeyboardInterrupt:
                self._workers.stop(at_once=True)
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
            self._listen()

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
        idle = len(self._running.keys() - self._busy)
        for _ in range(min(free - idle, (self._workers.most or 1) - len(self._running))):
            if not self._spent():
                self._running[self._workers.submit(self._request)] = None

    def _listen(self) -> None:
        """Follow events until none comes for a while or a worker has ended."""
        while (heard := self._workers.listen(_POLL_SECONDS)) is not None:
            number, event = heard
            if number not in self._running:
                continue
            if event["event"] == "ended":
                self._end(number, self._running.pop(number), event)
                return
            if event["event"] == "owner":
                self._running[number] = event["name"]
                continue
            self._busy.add(number)
            self._watch({**event, "worker": number})

    def _end(self, number: int, owner: str | None, event: Event) -> None:
        how, folder = event["how"], Path(self._request["results"]).parent
        self._busy.discard(number)
        if event["printed"] and folder.is_dir():
            append(folder / OUTPUT, event["printed"])
        self._false_starts = self._false_starts + 1 if owner is None and how is not None else 0
        if self._false_starts >= _FALSE_STARTS and not self._stopping:
            raise HarnessError(f"workers end before they begin: {how}")
        if owner is not None and how is not None and not self._stopping:
            self._ended[owner] = how
        self._watch({"event": "left", "worker": number})
