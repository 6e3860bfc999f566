"""Clocks that time phases and laps: perf_counter on the CPU, events on CUDA, read with one synchronisation."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch


class DeviceClock(ABC):
    """Adds up the seconds spent in named phases, which may not nest, and takes laps.

    Nothing but :meth:`seconds`, :meth:`laps` and an :meth:`attempt` after one that failed waits for the device.
    """

    #: whose seconds these are
    name: ClassVar[str]

    def __init__(self) -> None:
        self.totals: defaultdict[str, float] = defaultdict(float)
        self._lost = 0.0
        self._failed_since: Any = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Everything inside belongs to the phase ``name``."""
        begin = self._mark()
        try:
            yield
        finally:
            self._add(name, begin)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """What ends in an error inside belongs to no phase, and up to the next attempt to no lap."""
        before, begin = self._phases(), self._mark()
        if self._failed_since is not None:
            self._lost += self._between(self._failed_since, begin)
            self._failed_since = None
        try:
            yield
        except BaseException:
            self._take_back(before)
            self._failed_since = begin
            raise

    @abstractmethod
    def seconds(self, laps: int | None = None) -> dict[str, float]:
        """Seconds of each phase so far; with ``laps``, without what came after that many laps of the stretch."""

    def start(self) -> None:
        """Begin a stretch of laps."""
        self._lost, self._failed_since = 0.0, None
        self._begin = self._mark()
        self._laps: list[tuple[Any, float, Any]] = []

    def lap(self) -> None:
        """End a lap."""
        self._laps.append((self._mark(), self._lost, self._phases()))

    @abstractmethod
    def laps(self) -> list[float]:
        """Seconds from :meth:`start` to the end of each lap."""

    @abstractmethod
    def _mark(self) -> Any:
        """Now, on the device."""

    @abstractmethod
    def _between(self, begin: Any, end: Any) -> float:
        """Seconds from one mark to another; waits for the device."""

    @abstractmethod
    def _add(self, name: str, begin: Any) -> None: ...

    @abstractmethod
    def _phases(self) -> Any:
        """What :meth:`_take_back` needs in order to forget all phases from now on."""

    @abstractmethod
    def _take_back(self, phases: Any) -> None: ...


class CpuClock(DeviceClock):
    """``time.perf_counter_ns``: on the CPU an operation has ended when it returns."""

    name = "wall"

    def seconds(self, laps: int | None = None) -> dict[str, float]:
        """See :meth:`DeviceClock.seconds`."""
        return dict(self.totals if laps is None else self._laps[laps - 1][2])

    def laps(self) -> list[float]:
        """See :meth:`DeviceClock.laps`."""
        return [self._between(self._begin, mark) - lost for mark, lost, _ in self._laps]

    def _mark(self) -> int:
        return time.perf_counter_ns()

    def _between(self, begin: int, end: int) -> float:
        return (end - begin) * 1e-9

    def _add(self, name: str, begin: int) -> None:
        self.totals[name] += self._between(begin, self._mark())

    def _phases(self) -> dict[str, float]:
        return dict(self.totals)

    def _take_back(self, phases: dict[str, float]) -> None:
        self.totals.clear()
        self.totals.update(phases)


class CudaClock(DeviceClock):
    """CUDA events in the stream of the work itself, so that timing adds no synchronisation."""

    name = "device events"

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device
        self._open: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    def seconds(self, laps: int | None = None) -> dict[str, float]:
        """See :meth:`DeviceClock.seconds`."""
        torch.cuda.synchronize(self._device)
        if laps is not None:
            self._take_back(self._laps[laps - 1][2])
        for name, begin, end in self._open:
            self.totals[name] += begin.elapsed_time(end) * 1e-3
        self._open.clear()
        return dict(self.totals)

    def laps(self) -> list[float]:
        """See :meth:`DeviceClock.laps`."""
        torch.cuda.synchronize(self._device)
        return [self._begin.elapsed_time(mark) * 1e-3 - lost for mark, lost, _ in self._laps]

    def _mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _between(self, begin: torch.cuda.Event, end: torch.cuda.Event) -> float:
        torch.cuda.synchronize(self._device)
        seconds: float = begin.elapsed_time(end) * 1e-3
        return seconds

    def _add(self, name: str, begin: torch.cuda.Event) -> None:
        self._open.append((name, begin, self._mark()))

    def _phases(self) -> int:
        return len(self._open)

    def _take_back(self, phases: int) -> None:
        del self._open[phases:]


def make_clock(device: torch.device) -> DeviceClock:
    """The clock of ``device``."""
    return CudaClock(device) if device.type == "cuda" else CpuClock()


def seconds_of(call: Callable[[], object], device: torch.device, times: int = 1) -> float:
    """Wall seconds of ``times`` calls in a row; the device has nothing else to do before, and is done at the end."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begin = time.perf_counter_ns()
    for _ in range(times):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter_ns() - begin) * 1e-9


def device_seconds_of(call: Callable[[], object], device: torch.device, times: int = 1) -> float:
    """Seconds of ``times`` calls in a row by the device's own clock, see :func:`make_clock`.

    On CUDA from when the device begins the first to when it ends the last: what it takes to launch a call counts
    only as far as the device waits for it.
    """
    clock = make_clock(device)
    clock.start()
    for _ in range(times):
        call()
    clock.lap()
    return clock.laps()[0]
