"""Peak memory: what CUDA's allocator held at most, or how far the process grew on the CPU; and when it ran out."""

from __future__ import annotations

import ctypes
import errno
import gc
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from harness.errors import OutOfMemory

# mallopt(3)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """The largest memory in bytes between construction and :meth:`read`, without what is paused.

    On CUDA: bytes in all tensors that the process has on the device, whoever made them: model, images and optimizer
    included, the CUDA context and what the allocator holds in reserve not. On the CPU: peak resident set of the
    process above its size when this object was made, so weights and data loaded before do not count. Linux resets
    the peak then; elsewhere the process's lifetime peak is an upper bound.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.peak = 0
        self._reset()
        self.baseline = 0 if device.type == "cuda" else _resident("VmRSS")

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
        else:
            return_freed_memory()  # in a hole of the heap the C library keeps what was freed, and it would count
            _reset_resident_peak()


# What a failed allocation says where it has no exception class of its own. The kinds that may also mean something else
# (oneDNN's "could not create a primitive", cuDNN's "not initialized") are not among them.
_SAYS_SO = re.compile(
    r"can't allocate memory|Cannot allocate memory|std::bad_alloc|CUDA (driver )?error: out of memory"
    r"|_STATUS_ALLOC_FAILED|_STATUS_INTERNAL_ERROR_(HOST|DEVICE)_ALLOCATION_FAILED"
)
_ASKED = re.compile(r"tried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)", re.IGNORECASE)
_UNITS = {"bytes": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out: torch's CPU allocator raises a plain RuntimeError."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError | OutOfMemory):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError | ImportError) and _SAYS_SO.search(str(error)) is not None


def bytes_asked(error: BaseException) -> int | None:
    """How much the allocation that failed asked for, where ``error`` says it."""
    found = _ASKED.search(str(error))
    return round(float(found[1]) * _UNITS[found[2].lower()]) if found else None


def first_sentence(error: BaseException) -> str:
    """The first sentence of ``error``: CUDA's allocator appends a page of advice."""
    text = str(error).partition("\n")[0] or type(error).__name__
    found = _ASKED.search(text)
    return text[: found.end()] if found else text


def free_memory() -> None:
    """Give everything back that nobody refers to any more, and let a new peak begin."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        for index in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(index)
    return_freed_memory()
    _reset_resident_peak()


def return_freed_memory() -> None:
    """Give what the C library keeps back to the system; otherwise nobody would see it being used again."""
    _glibc("malloc_trim", 0)


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Inside, the C library keeps what is freed for what comes next; at the end the system gets it back.

    Otherwise an ANIL step gives its layers' states back and asks for them again every time, and the system clears
    each page anew: a tenth of the step. Blocks of 32 MiB and more still go their way at once.
    """
    try:
        with _limits(mapped=2**25, kept=2**30):
            yield
    finally:
        return_freed_memory()


@contextmanager
def freed_memory_returned() -> Iterator[None]:
    """Inside, a block of 128 KiB and more goes back to the system when it is freed, whatever was said around.

    The process is then as large as what it holds. A heap is a quarter larger: what is free in it lies in pieces.
    """
    with _limits(mapped=2**17, kept=2**17):
        yield


#: what is in force, innermost last; first what glibc's own moving limits come to once a large block has been freed
_in_force = [(2**25, 2**26)]


@contextmanager
def _limits(mapped: int, kept: int) -> Iterator[None]:
    """Blocks of ``mapped`` bytes are mapped by themselves; up to ``kept`` freed bytes stay at the heap's end."""
    _in_force.append((mapped, kept))
    _set_limits()
    try:
        yield
    finally:
        _in_force.pop()
        _set_limits()


def _set_limits() -> None:
    mapped, kept = _in_force[-1]
    _glibc("mallopt", _M_MMAP_THRESHOLD, mapped)
    _glibc("mallopt", _M_TRIM_THRESHOLD, kept)


def _glibc(name: str, *arguments: int) -> None:
    function = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*arguments)


def _reset_resident_peak() -> None:
    try:
        _CLEAR.write_text("5")  # proc(5): resets the peak resident set size to the current one
    except OSError:
        pass


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
