"""Clocks that time phases and laps: perf_counter on the CPU, events on CUDA, read with one synchronisation."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class DeviceClock(ABC):
    """Adds up the seconds spent in named phases, which may not nest, and takes laps.

    Nothing but :meth:`seconds` and :meth:`laps` waits for the device.
    """

    def __init__(self) -> None:
        self.totals: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Everything inside belongs to the phase ``name``."""
        begin = self._mark()
        try:
            yield
        finally:
            self._add(name, begin)

    @abstractmethod
    def seconds(self) -> dict[str, float]:
        """Seconds of each phase so far."""

    @abstractmethod
    def start(self) -> None:
        """Begin a stretch of laps."""

    @abstractmethod
    def lap(self) -> None:
        """End a lap."""

    @abstractmethod
    def laps(self) -> list[float]:
        """Seconds from :meth:`start` to the end of each lap."""

    @abstractmethod
    def _mark(self) -> object: ...

    @abstractmethod
    def _add(self, name: str, begin: object) -> None: ...


class CpuClock(DeviceClock):
    """``time.perf_counter_ns``: on the CPU an operation has ended when it returns."""

    def __init__(self) -> None:
        super().__init__()
        self._marks: list[int] = []

    def seconds(self) -> dict[str, float]:
        """See :meth:`DeviceClock.seconds`."""
        return dict(self.totals)

    def start(self) -> None:
        """See :meth:`DeviceClock.start`."""
        self._marks = [time.perf_counter_ns()]

    def lap(self) -> None:
        """See :meth:`DeviceClock.lap`."""
        self._marks.append(time.perf_counter_ns())

    def laps(self) -> list[float]:
        """See :meth:`DeviceClock.laps`."""
        return [(mark - self._marks[0]) * 1e-9 for mark in self._marks[1:]]

    def _mark(self) -> int:
        return time.perf_counter_ns()

    def _add(self, name: str, begin: object) -> None:
        assert isinstance(begin, int)
        self.totals[name] += (time.perf_counter_ns() - begin) * 1e-9


class CudaClock(DeviceClock):
    """CUDA events in the stream of the work itself, so that timing adds no synchronisation."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device
        self._open: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self._marks: list[torch.cuda.Event] = []

    def seconds(self) -> dict[str, float]:
        """See :meth:`DeviceClock.seconds`."""
        torch.cuda.synchronize(self._device)
        for name, begin, end in self._open:
            self.totals[name] += begin.elapsed_time(end) * 1e-3
        self._open.clear()
        return dict(self.totals)

    def start(self) -> None:
        """See :meth:`DeviceClock.start`."""
        self._marks = [self._mark()]

    def lap(self) -> None:
        """See :meth:`DeviceClock.lap`."""
        self._marks.append(self._mark())

    def laps(self) -> list[float]:
        """See :meth:`DeviceClock.laps`."""
        torch.cuda.synchronize(self._device)
        return [self._marks[0].elapsed_time(mark) * 1e-3 for mark in self._marks[1:]]

    def _mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _add(self, name: str, begin: object) -> None:
        assert isinstance(begin, torch.cuda.Event)
        self._open.append((name, begin, self._mark()))


def make_clock(device: torch.device) -> DeviceClock:
    """The clock of ``device``."""
    return CudaClock(device) if device.type == "cuda" else CpuClock()
