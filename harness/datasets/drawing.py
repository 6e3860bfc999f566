"""Which images a task is made of: a stream of random numbers that needs no state, and images by their rows."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from harness.problem.benchmark import SPLITS

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch

    from harness.problem.benchmark import TaskShape
    from harness.problem.tasks import TaskBatch


#: changes with the way in which :meth:`ImageBenchmark.draw` turns random numbers into tasks
DRAWING = 1


# Tasks whose numbers are drawn together.
BLOCK = 64


def tasks_by_class(
    split: str,
    first: int,
    tasks: int,
    shape: TaskShape,
    counts: tuple[int, ...],
    take: Callable[[torch.Tensor], torch.Tensor],
) -> TaskBatch:
    """Tasks of ``split``, whose examples lie class after class, ``counts`` of each; ``take`` gives those of rows."""
    import numpy as np
    import torch

    from harness.problem.tasks import TaskBatch

    ways, shots, queries = shape.ways, shape.shots, shape.queries
    blocks = range(first // BLOCK, (first + tasks - 1) // BLOCK + 1)
    stream = (shape.seed, SPLITS.index(split), ways, shots + queries, counts)
    drawn = [block_of_tasks(block, *stream) for block in blocks]
    begin = first - blocks[0] * BLOCK
    chosen, picked = (np.concatenate(parts)[begin : begin + tasks] for parts in zip(*drawn, strict=True))
    index = picked + (np.cumsum(counts) - counts)[chosen][:, :, None]

    rows = np.concatenate([index[:, :, :shots].ravel(), index[:, :, shots:].ravel()])
    support_x, query_x = take(torch.from_numpy(rows)).tensor_split([tasks * ways * shots])
    labels = torch.arange(ways, device=support_x.device)
    return TaskBatch(
        support_x.unflatten(0, (tasks, ways * shots)),
        labels.repeat_interleave(shots).expand(tasks, -1),
        query_x.unflatten(0, (tasks, ways * queries)),
        labels.repeat_interleave(queries).expand(tasks, -1),
    )


@functools.lru_cache(maxsize=8)
def block_of_tasks(
    block: int, seed: int, split: int, ways: int, examples: int, counts: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Classes ``[64, ways]`` and members of them ``[64, ways, examples]`` of 64 tasks of the stream.

    So many at a time because a call costs as much as its numbers; on the CPU whatever the device,
    because a hundred tiny kernels would take longer. Task ``t`` does not depend on the block's size.
    """
    import numpy as np
    import torch

    from harness.problem.tasks import random_bits

    # One call draws every number of a task: the choice of classes first, then of each class's images.
    task = torch.arange(block * BLOCK, (block + 1) * BLOCK)
    slot = torch.arange(ways * (1 + examples))
    bits = random_bits(seed, split, task[:, None], slot).numpy()
    sizes = np.array(counts)
    chosen = distinct(bits[:, :ways], np.full(BLOCK, len(sizes)))
    return chosen, distinct(bits[:, ways:].reshape(BLOCK, ways, examples), sizes[chosen])


def distinct(bits: np.ndarray, population: np.ndarray) -> np.ndarray:
    """``k`` different numbers below ``population`` from int64 ``[..., k]`` random bits, in random order.

    Floyd's algorithm (Bentley and Floyd 1987): ``k`` draws, however large the population, where ranking
    a random key for every member would cost as much as the images themselves. ``population`` has the
    shape of ``bits`` less the last dimension; the upper half of the bits draws and the lower half shuffles.
    """
    import numpy as np

    k = bits.shape[-1]
    last = population[..., None] - k + np.arange(k)
    picked = ((bits >> 32) & 0xFFFFFFFF) % (last + 1)
    # The algorithm changes nothing where the draws differ already, which is nearly everywhere.
    ordered = np.sort(picked, axis=-1)
    for row in np.argwhere((ordered[..., 1:] == ordered[..., :-1]).any(-1)):
        seen: set[int] = set()
        for number, limit in zip(picked[tuple(row)].tolist(), last[tuple(row)].tolist(), strict=True):
            picked[(*row, len(seen))] = limit if number in seen else number
            seen.add(limit if number in seen else number)
    return np.take_along_axis(picked, (bits & 0xFFFFFFFF).argsort(axis=-1, kind="stable"), axis=-1)


def scaled(images: torch.Tensor, rows: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The chosen images in [0, 1]: bytes by one rounded multiplication by 1/255, the same on every device."""
    import numpy as np
    import torch

    if images.dtype != torch.uint8:
        return images.index_select(0, _moved(rows, images.device)).to(dtype)
    if images.device.type != "cpu" or dtype not in (torch.float32, torch.float64):
        return images.index_select(0, _moved(rows, images.device)).to(dtype).mul_(1 / 255)
    # NumPy converts and scales in one pass through the cache, where torch on the CPU takes two through memory.
    target = np.dtype(np.float32 if dtype == torch.float32 else np.float64)
    chosen: np.ndarray = images.numpy().take(rows.numpy(), axis=0)
    return torch.from_numpy(np.multiply(chosen, target.type(1 / 255), dtype=target))


def _moved(rows: torch.Tensor, device: torch.device) -> torch.Tensor:
    """``rows`` on ``device``; for CUDA through pinned memory, from where the host need not wait for the copy."""
    if device.type != "cuda":
        return rows.to(device)
    return rows.pin_memory().to(device, non_blocking=True)  # which keeps that memory until it has been read
