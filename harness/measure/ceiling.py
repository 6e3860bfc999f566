"""What the device reaches at best: a large matrix product and a large convolution, timed in the same run."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from harness.measure.clocks import seconds_of
from harness.measure.memory import free_memory, is_out_of_memory

#: seconds of a sample: long enough that what else the machine does falls on it as on a cell's block
LONG = 0.3


class Ceiling:
    """Samples FLOP/s of work that has nothing in its way; call :meth:`sample` once a round."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        big = 8 if device.type == "cuda" else 1
        size = 1024 * big
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        images, channels, edge = 256 * big, 64, 16
        x = torch.randn(images, channels, edge, edge, device=device, dtype=dtype)
        weight = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
        packed = x.contiguous(memory_format=torch.channels_last)
        conv_flops = 2 * images * edge**2 * channels**2 * 9
        self.work: dict[str, tuple[Callable[[], object], int]] = {
            "matmul": (lambda: a @ b, 2 * size**3),
            "conv": (lambda: F.conv2d(x, weight, padding=1), conv_flops),
            "conv_channels_last": (lambda: F.conv2d(packed, weight, padding=1), conv_flops),
        }
        self.samples: dict[str, list[float]] = {name: [] for name in self.work}

    def sample(self) -> None:
        """Time each kind of work, after a warm-up; what does not fit into memory has no sample."""
        for name in self.work:
            try:
                self._time(name)
                continue
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            free_memory()  # out here, where the error no longer holds what it was raised among

    @property
    def flops_per_second(self) -> float | None:
        """The convolution ceiling: the better memory layout's median; None where neither was ever measured."""
        return max(
            (statistics.median(taken) for name, taken in self.samples.items() if "conv" in name and taken), default=None
        )

    def report(self) -> dict[str, Any]:
        """Median FLOP/s of each kind, and the samples."""
        medians = {name: statistics.median(taken) for name, taken in self.samples.items() if taken}
        return {"flops_per_second": medians, "samples": self.samples}

    def _time(self, name: str) -> None:
        call, flops = self.work[name]
        call()
        times = 1 + int(LONG / seconds_of(call, self.device))
        self.samples[name].append(flops * times / seconds_of(call, self.device, times))
