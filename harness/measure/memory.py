"""Peak memory: what CUDA's allocator held at most, or how far the process grew on the CPU."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """The largest memory in bytes between construction and :meth:`read`, without what is paused.

    On CUDA: bytes held by the caching allocator, model and data included. On the CPU: peak resident
    set of the process above its size when this object was made, so weights and data loaded before
    do not count. Linux resets the peak then; elsewhere the process's lifetime peak is an upper bound.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.baseline = 0 if device.type == "cuda" else _resident("VmRSS")
        self.peak = 0
        self._reset()

    def read(self) -> int:
        """Peak so far, in bytes."""
        if self.device.type == "cuda":
            now = torch.cuda.max_memory_allocated(self.device)
        else:
            now = max(0, _resident("VmHWM") - self.baseline)
        self.peak = max(self.peak, now)
        return self.peak

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is used inside does not count."""
        self.read()
        try:
            yield
        finally:
            self._reset()

    def _reset(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        try:
            _CLEAR.write_text("5")  # proc(5): resets the peak resident set size to the current one
        except OSError:
            pass


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out: torch's CPU allocator raises a plain RuntimeError."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _resident(name: str) -> int:
    """``VmRSS`` (now) or ``VmHWM`` (peak) of this process, in bytes; 0 where the system does not say."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
