"""Who does requests: children of this process, or those of the workers of a Dask cluster.

A Dask worker does its tasks in threads, which no signal reaches, of a process whose memory they share and whose crash
is that of all; what crashed it tries again, and says nothing of how. So Dask carries requests to a machine and events
back, and there as here a :class:`Child` does them.
"""

from __future__ import annotations

import logging
import queue
import re
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, InputError
from harness.grid.child import Child, Place
from harness.path import import_path
from harness.store.foreign import one_line, read_json_object

if TYPE_CHECKING:
    from distributed import Future

Event = dict[str, Any]
_ADDRESSES = "HOST:PORT of a Dask scheduler that runs, or its --scheduler-file"
_ADDRESS = re.compile(r"((tcp|tls|wss?)://)?[^/\s]+:\d+")
_CONNECT_SECONDS, _MOST_BYTES = 10, 1 << 20


class Workers:
    """Children of this process, one a place: they do requests, and tell events of each by its number."""

    def __init__(self, places: list[Place]) -> None:
        self._children = [Child(place) for place in places]
        self._free: queue.SimpleQueue[Child] = queue.SimpleQueue()
        for child in self._children:
            self._free.put(child)
        self._heard: queue.Queue[tuple[int, Event]] = queue.Queue()
        self._last = 0
        #: requests at a time; None: any number
        self.most: int | None = len(places)

    def submit(self, request: dict[str, Any]) -> int:
        """Have a request done (:func:`harness.grid.serve.serve`) with this process's flags of torch; its number."""
        from harness.measure.precision import flags

        self._last += 1
        self._submit(self._last, {**request, "flags": flags()})
        return self._last

    def listen(self, seconds: float) -> tuple[int, Event] | None:
        """The next event, the last one of a request being ``ended``; None if there is none for so long.

        Raises :class:`HarnessError` where nobody does requests any more.
        """
        try:
            number, event = self._heard.get(timeout=seconds)
        except queue.Empty:
            return None
        if event["event"] == "lost":
            raise HarnessError(event["message"])
        return number, event

    def stop(self, at_once: bool = False) -> None:
        """Begin nothing more; let what runs save a checkpoint, or end it ``at_once``."""
        for child in self._children:
            child.kill() if at_once else child.leave()

    def close(self) -> None:
        """End all that was started here."""
        self.stop()
        for child in self._children:
            child.wait()

    def _submit(self, number: int, request: dict[str, Any]) -> None:
        threading.Thread(target=self._do, args=(number, request), daemon=True).start()

    def _do(self, number: int, request: dict[str, Any]) -> None:
        child = self._free.get()
        try:
            child.work(request, lambda event: self._heard.put((number, event)))
        except OSError as error:  # no process, no memory, no file any more
            self._heard.put((number, {"event": "lost", "message": f"a worker cannot be started: {error}"}))
        self._free.put(child)


class Cluster(Workers):
    """The workers of a Dask scheduler: its address, or the file that it wrote. What one leaves undone, others do."""

    def __init__(self, scheduler: str, most: int | None) -> None:
        super().__init__([])
        self.most = most
        try:
            from distributed import Client
        except ImportError:
            raise InputError("--scheduler needs Dask; allowed: pip install 'anil-vs-maml-harness[dask]'") from None
        self._scheduler = f"--scheduler {one_line(scheduler)}"
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what is wrong is said in one line
        try:
            self._client = Client(_address(scheduler), timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{self._scheduler}: {one_line(error)}; allowed: {_ADDRESSES}") from error
        self._name, self._stopping = uuid.uuid4().hex, False
        self._futures: dict[int, Future] = {}
        self._begun: set[int] = set()
        self._client.subscribe_topic(self._name, lambda told: self._hear(*told[1]))

    def stop(self, at_once: bool = False) -> None:
        """See :class:`Workers`."""
        self._stopping = True
        self._client.cancel(list(self._futures.values()))

    def close(self) -> None:
        """See :class:`Workers`."""
        self._client.close()

    def _submit(self, number: int, request: dict[str, Any]) -> None:
        key = f"{request['module']}-{self._name}-{number}"
        future = self._client.submit(_on_cluster, self._name, number, request, import_path(), key=key)
        self._futures[number] = future
        future.add_done_callback(lambda future: self._done(number, future))

    def _hear(self, number: int, event: Event) -> None:
        self._begun.add(number)
        if event["event"] == "ended":
            self._futures.pop(number, None)
        self._heard.put((number, event))

    def _done(self, number: int, future: Future) -> None:
        """Say what no child will: that a request was not begun, that those who tried it died, that all are gone."""
        from distributed import KilledWorker

        if number not in self._futures or (self._stopping and number in self._begun):
            return
        error = future.exception() if future.status == "error" else None
        how = "stopped before it began" if self._stopping else f"{error}" if isinstance(error, KilledWorker) else None
        if how is None:
            why = " ".join(f"{type(error).__name__}: {error}".split()) if error else "the scheduler has gone"
            self._heard.put((number, {"event": "lost", "message": f"{self._scheduler}: {why}"}))
        else:
            self._hear(number, {"event": "ended", "how": how, "errors": [], "printed": b""})


def _address(scheduler: str) -> str:
    """The address itself, which may stand in a file; raises :class:`ValueError` or :class:`OSError`."""
    if _ADDRESS.fullmatch(scheduler):
        return scheduler
    found = read_json_object(Path(scheduler), _MOST_BYTES).get("address")
    if not isinstance(found, str) or not _ADDRESS.fullmatch(found):
        raise ValueError("no address of a scheduler")
    return found


#: of each thread of a Dask worker: its child, and whose it is
_children: dict[int, tuple[str, Child]] = {}


def _on_cluster(name: str, number: int, request: dict[str, Any], path: list[str]) -> None:
    """A task: has a request done by this thread's child, and tells the topic ``name``."""
    from distributed import Reschedule, get_worker

    worker, thread = get_worker(), threading.get_ident()
    key = worker.get_current_task()
    if _children.get(thread, ("", None))[0] != name:
        if thread in _children:
            _children[thread][1].leave()
        _children[thread] = name, Child(Place(), path)

    def closing() -> bool:
        return worker.status.name not in ("running", "paused")

    def wanted() -> bool:  # else the command has gone, or has cancelled it
        task = worker.state.tasks.get(key)
        return not closing() and task is not None and task.state != "cancelled"

    def tell(event: Event) -> None:
        if not closing():
            worker.log_event(name, (number, event))

    _children[thread][1].work(request, tell, wanted)
    if not wanted():  # and so it was left
        del _children[thread]
    if closing():
        raise Reschedule
