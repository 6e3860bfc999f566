"""The program of a worker: it imports once what every run needs, and forks a process for each request.

What a fork does it does in a process that has imported much and computed nothing, as a new one would be: whatever a run
or a model in it leaves behind (torch's flags and random numbers, freed memory, a crash) ends with it.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NoReturn, TextIO

_EVENT_SECONDS = 0.5
#: elsewhere libraries of the system do not survive a fork: there each request has a program of its own
_FORKS = sys.platform == "linux"


class Events:
    """JSON lines for whoever started this process."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._sent = 0.0

    def send(self, event: str, **content: Any) -> None:
        """Write one event; nobody reading is no reason to fail."""
        with suppress(BrokenPipeError):
            print(json.dumps({"event": event, **content}, default=str), file=self._out, flush=True)

    def now_and_then(self, event: str, **content: Any) -> None:
        """Write one event unless there was one a moment ago."""
        if time.monotonic() - self._sent > _EVENT_SECONDS:
            self._sent = time.monotonic()
            self.send(event, **content)


def serve(channel: int) -> NoReturn:
    """Do requests, a JSON line of stdin each, until stdin closes; events go to the file descriptor ``channel``.

    A request names the ``module`` whose ``main(request, events)`` does it; events before and after it are ``started``
    and ``ended``, with the exit status (negative: a signal).
    """
    # A terminal's signals are for what is forked.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)}
    os.set_inheritable(channel, False)
    events = Events(os.fdopen(channel, "w"))
    for line in sys.stdin:
        request = json.loads(line)
        main = importlib.import_module(request["module"]).main
        if _FORKS:
            _read_data(request)
        pid = os.fork() if _FORKS else 0
        if not pid:
            for number, handler in before.items():
                signal.signal(number, handler)
            threading.Thread(target=_stop_when_left, daemon=True).start()
            _do(main, request, events)
        events.send("started", pid=pid)
        events.send("ended", code=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os._exit(0)


def _do(main: Callable[[dict[str, Any], Events], None], request: dict[str, Any], events: Events) -> NoReturn:
    """Do a request and end: not as Python does, which takes each of a million objects apart for a second."""
    status = 1
    try:
        _adopt(request)
        main(request, events)
        status = 0
    except BaseException:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    ctypes.CDLL(None).fflush(None)  # of what a library prints
    os._exit(status)


def _read_data(request: Mapping[str, Any]) -> None:
    """Decode pictures of the project's own benchmarks once for all that is forked; what is wrong the run will say."""
    from harness.datasets.held import hold
    from harness.settings.registry import own_benchmark
    from harness.settings.resolve import options_of

    with suppress(Exception):
        kind: Any = own_benchmark(request["benchmark"])
        hold(kind(options_of(kind, request["benchmark_options"], "benchmark_options")))


def _adopt(request: Mapping[str, Any]) -> None:
    """Set the threads and flags of torch that are asked for."""
    import torch

    from harness.measure.precision import adopt

    adopt(request["flags"])
    if request["threads"] is not None:
        torch.set_num_threads(request["threads"])


def _stop_when_left() -> None:
    """Whoever asked for this has gone or wants it to stop: save a checkpoint and end."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
