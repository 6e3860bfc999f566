"""Few-shot image benchmarks: one uint8 tensor on the device, tasks drawn by index on it."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.errors import InputError, MissingData
from harness.problem.benchmark import SPLITS, Benchmark

if TYPE_CHECKING:
    import numpy as np
    import torch

    from harness.problem.tasks import TaskBatch

#: changes with the way in which :meth:`ImageBenchmark.draw` turns random numbers into tasks
DRAWING = 1
# Tasks whose numbers are drawn together.
_BLOCK = 64


@dataclass(frozen=True)
class ClassImages:
    """The images of one split, class after class.

    ``images`` is uint8 ``[n, channels, height, width]``; ``counts`` holds the number of images of
    each class, in the order of ``names``.
    """

    images: np.ndarray
    counts: tuple[int, ...]
    names: tuple[str, ...]


class ImageBenchmark(Benchmark):
    """Base of every image benchmark: a subclass says where the images of a split come from."""

    #: channels, height, width
    shape: ClassVar[tuple[int, int, int]]
    #: number of classes of each split, as published
    classes: Mapping[str, int]
    #: whether the images are made here, so that nothing has to be put on the disk first
    embedded: ClassVar[bool] = False

    @property
    @abstractmethod
    def data_version(self) -> str:
        """Names the images and their order; a class attribute will do."""

    @property
    def version(self) -> str:
        """See :attr:`Benchmark.version`."""
        return f"{self.data_version}, drawing {DRAWING}"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """See :attr:`Benchmark.input_shape`."""
        return self.shape

    @abstractmethod
    def load_split(self, split: str) -> ClassImages:
        """Read one split from disk; raises :class:`InputError` naming what is missing and where."""

    @abstractmethod
    def images_per_class(self, split: str) -> int:
        """The smallest number of images that a class of ``split`` has, known without reading them."""

    @abstractmethod
    def missing(self) -> str | None:
        """One line saying which file to put where, or None when the data are there."""

    def prepare(self) -> str:
        """Download, unpack or render the data; returns where they are. Raises InputError if it cannot."""
        if (problem := self.missing()) is not None:
            raise MissingData(problem)
        return str(self.root)

    def verify(self) -> list[str]:
        """Read everything and compare counts and class splits with the published ones; the faults found."""
        faults = []
        seen: dict[str, str] = {}
        for split in SPLITS:
            data = self.load_split(split)
            if len(data.names) != self.classes[split]:
                faults.append(f"{split}: {len(data.names)} classes, expected {self.classes[split]}")
            if sum(data.counts) != len(data.images) or data.images.shape[1:] != self.shape:
                faults.append(f"{split}: images of shape {data.images.shape}, expected {self.shape} each")
            low = min(data.counts, default=0)
            if low != self.images_per_class(split):
                faults.append(f"{split}: a class has {low} images, expected {self.images_per_class(split)}")
            for name in data.names:
                if name in seen:
                    faults.append(f"class {name!r} is in both {seen[name]} and {split}")
                seen[name] = split
        return faults

    def check(self, ways: int, shots: int, queries: int) -> None:
        """See :meth:`Benchmark.check`."""
        if (problem := self.missing()) is not None:
            raise MissingData(problem)
        for split in SPLITS:
            if ways > self.classes[split]:
                raise InputError(
                    f"ways {ways} for benchmark {self.name}: its {split} split has {self.classes[split]} classes, "
                    f"allowed: 2 to {min(self.classes.values())}"
                )
            if shots + queries > self.images_per_class(split):
                raise InputError(
                    f"shots {shots} + queries {queries} for benchmark {self.name}: a {split} class has "
                    f"{self.images_per_class(split)} images, allowed: at most that many together"
                )

    def draw(
        self,
        split: str,
        first: int,
        tasks: int,
        *,
        seed: int,
        ways: int,
        shots: int,
        queries: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> TaskBatch:
        """See :meth:`Benchmark.draw`; images are scaled to [0, 1]."""
        import numpy as np
        import torch

        from harness.problem.tasks import TaskBatch

        images, counts, starts = self._on(device, split)
        blocks = range(first // _BLOCK, (first + tasks - 1) // _BLOCK + 1)
        stream = (seed, SPLITS.index(split), ways, shots + queries, counts)
        drawn = [_block_of_tasks(block, *stream) for block in blocks]
        begin = first - blocks[0] * _BLOCK
        chosen, picked = (np.concatenate(parts)[begin : begin + tasks] for parts in zip(*drawn, strict=True))
        index = picked + starts[chosen][:, :, None]

        rows = np.concatenate([index[:, :, :shots].ravel(), index[:, :, shots:].ravel()])
        support_x, query_x = _scaled(images, torch.from_numpy(rows), dtype).tensor_split([tasks * ways * shots])
        labels = torch.arange(ways, device=device)
        return TaskBatch(
            support_x.view(tasks, ways * shots, *self.shape),
            labels.repeat_interleave(shots).expand(tasks, -1),
            query_x.view(tasks, ways * queries, *self.shape),
            labels.repeat_interleave(queries).expand(tasks, -1),
        )

    def _on(self, device: torch.device, split: str) -> tuple[torch.Tensor, tuple[int, ...], np.ndarray]:
        """The images of the split on ``device``, and the sizes of its classes and the row where each starts."""
        import numpy as np
        import torch

        cache: dict[tuple[str, str], tuple[torch.Tensor, tuple[int, ...], np.ndarray]]
        cache = self.__dict__.setdefault("_tensors", {})
        key = (str(device), split)
        if key not in cache:
            data = self.load_split(split)
            counts = np.array(data.counts)
            starts = counts.cumsum() - counts
            cache[key] = (torch.from_numpy(data.images).to(device), tuple(counts.tolist()), starts)
        return cache[key]


@functools.lru_cache(maxsize=8)
def _block_of_tasks(
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
    task = torch.arange(block * _BLOCK, (block + 1) * _BLOCK)
    slot = torch.arange(ways * (1 + examples))
    bits = random_bits(seed, split, task[:, None], slot).numpy()
    sizes = np.array(counts)
    chosen = _distinct(bits[:, :ways], np.full(_BLOCK, len(sizes)))
    return chosen, _distinct(bits[:, ways:].reshape(_BLOCK, ways, examples), sizes[chosen])


def _distinct(bits: np.ndarray, population: np.ndarray) -> np.ndarray:
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


def _scaled(images: torch.Tensor, rows: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The chosen images in [0, 1]: one rounded multiplication by 1/255, the same on every device."""
    import numpy as np
    import torch

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
