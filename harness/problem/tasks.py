"""A batch of few-shot tasks, and the counter-based random numbers that tasks are drawn with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TaskBatch:
    """B tasks drawn together, all tensors on one device.

    ``support_x`` has shape ``[B, S, *input]`` and ``query_x`` ``[B, Q, *input]``; labels are
    ``[B, S]`` and ``[B, Q]`` class indices, or ``[B, S, out]`` and ``[B, Q, out]`` targets.
    """

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor

    @property
    def tasks(self) -> int:
        """B, the number of tasks."""
        return self.support_x.shape[0]

    def chunk(self, start: int, stop: int) -> TaskBatch:
        """Tasks ``start`` to ``stop`` as views."""
        rows = slice(start, stop)
        return TaskBatch(self.support_x[rows], self.support_y[rows], self.query_x[rows], self.query_y[rows])


_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer


def _mix(z: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014) on int64 tensors, wrapping."""
    z = (z ^ ((z >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    z = (z ^ ((z >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    return z ^ ((z >> 31) & 0x1FFFFFFFF)


def random_bits(seed: int, *counters: Tensor | int, device: torch.device | None = None) -> Tensor:
    """64 random bits (int64) for every combination of broadcast ``counters``.

    Stateless: the same seed and counters give the same bits on every device, so a stream of tasks
    has no state to save and task ``t`` does not depend on how many are drawn at once.
    """
    state = _mix(torch.tensor(seed, dtype=torch.int64, device=device) + _GOLDEN)
    for counter in counters:
        counter = torch.as_tensor(counter, dtype=torch.int64, device=device)
        state = _mix(state + (counter + 1) * _GOLDEN)
    return state


def random_uniform(seed: int, *counters: Tensor | int, device: torch.device | None = None) -> Tensor:
    """Float64 numbers in [0, 1) with 53 random bits; counters as in :func:`random_bits`."""
    bits = random_bits(seed, *counters, device=device)
    return ((bits >> 11) & 0x1FFFFFFFFFFFFF).double() * 2.0**-53


def random_normal(seed: int, *counters: Tensor | int, device: torch.device | None = None) -> Tensor:
    """Float64 standard normal numbers (Box-Muller); counters as in :func:`random_bits`."""
    first = random_uniform(seed, 1, *counters, device=device)
    second = random_uniform(seed, 2, *counters, device=device)
    return torch.sqrt(-2.0 * torch.log1p(-first)) * torch.cos(2.0 * torch.pi * second)
