"""Sets of tasks as other libraries have them, made a stream that depends on seed and number alone."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.errors import InputError
from harness.problem.benchmark import SPLITS, TaskShape
from harness.strangers.blame import blamed

if TYPE_CHECKING:
    from torch import Tensor

    from harness.problem.tasks import Task

#: items that an iterable may have of which they are taken one after the other
_MOST = 1_000_000
_PAIRS = (("train", "test"), ("support", "query"))


def is_task(item: Any) -> bool:
    """Whether an item of a data set is a task and no example: it has many labels, or a support and a query set."""
    if isinstance(item, Mapping):
        return any(support in item and query in item for support, query in _PAIRS)
    if not isinstance(item, list | tuple) or len(item) != 2:
        return False
    shape: tuple[int, ...] = getattr(item[1], "shape", ())
    return isinstance(item[1], list | tuple) or (len(shape) > 0 and shape[0] != 1)


def sequence_of(items: Any, where: str) -> Any:
    """``items`` if they have numbers and a length, else a list of them; raises :class:`InputError` for none."""
    with blamed(where):
        if not (hasattr(items, "__getitem__") and hasattr(items, "__len__")):
            items = list(itertools.islice(items, _MOST + 1))
            if len(items) > _MOST:
                raise InputError(f"{where} has no length and no end; allowed: at most {_MOST} items")
        if not len(items):
            raise InputError(f"{where} is empty; allowed: at least one item")
    return items


class TaskSet:
    """One split's tasks: a sequence of ``(x, labels)``, as learn2learn's TaskDataset gives.

    The first ``shots`` examples of each label are the support set, its next ``queries`` the query set. Labels are
    whole numbers and are counted from 0 in their order; numbers are targets of a regression, whose first rows are the
    support set. Or of ``((x, y), (x, y))`` or mappings of these by ``train`` and ``test``, or ``support`` and
    ``query``, as torchmeta's loaders give for one task: they stay as they are.

    Of a set with a length tasks are drawn by number; one that draws tasks itself (``num_tasks`` -1) is asked with
    Python's, NumPy's and torch's random numbers set by seed and number of the task, and left as they were.
    """

    def __init__(self, tasks: Any, split: str) -> None:
        self.tasks, self.split, self.where = tasks, split, f"tasks_of: {split}"
        self.size = None if getattr(tasks, "num_tasks", 0) == -1 else len(tasks)
        self._asked = set[int]()

    def raw(self, seed: int, number: int) -> tuple[Tensor, ...]:
        """x and labels of a task, or those of its support and of its query set, as they come."""
        import torch

        from harness.problem.tasks import random_bits

        bits = int(random_bits(seed, SPLITS.index(self.split), number))
        place, seed = (0, bits) if self.size is None else ((bits >> 1) % self.size,) * 2
        if self.size is not None and place not in self._asked:
            # What a set decides about a task when it is first asked takes random numbers that it does not take again.
            with blamed(f"{self.where}, task {number}"), seeded(seed):
                self.tasks[place]
            self._asked.add(place)
        with blamed(f"{self.where}, task {number}"), seeded(seed):
            item = self.tasks[place]
            if isinstance(item, Mapping):
                names = next((pair for pair in _PAIRS if pair[0] in item and pair[1] in item), None)
                item = [item[name] for name in names] if names else item
            if not isinstance(item, list | tuple) or len(item) != 2:
                raise InputError(f"{self.where}, task {number} is a {type(item).__name__}; allowed: (x, labels)")
            halves = item if isinstance(item[0], list | tuple) else [item]
            return tuple(torch.as_tensor(part) for half in halves for part in half)

    def task(self, number: int, shape: TaskShape) -> Task:
        """Task ``number`` of the stream, for TaskBatch.of; raises :class:`InputError` where it is not of ``shape``."""
        import torch

        parts, where = self.raw(shape.seed, number), f"{self.where}, task {number}"
        if len(parts) == 4:
            return parts[0], _targets(parts[1]), parts[2], _targets(parts[3])
        x, y = parts
        if x.shape[:1] != y.shape[:1] or not len(y):
            raise InputError(f"{where} has {list(x.shape)} examples and {list(y.shape)} labels; allowed: as many")
        each = shape.shots + shape.queries
        if y.is_floating_point():
            if len(y) != each:
                raise InputError(f"{where} has {len(y)} examples; allowed: shots + queries, {each}")
            y, rows = _targets(y), torch.arange(each)[None]
        else:
            classes, y = y.unique(return_inverse=True)
            counts = y.bincount()
            if len(classes) != shape.ways or int(counts.min()) != each or int(counts.max()) != each:
                raise InputError(
                    f"{where} has {len(classes)} classes of {int(counts.min())} to {int(counts.max())} examples; "
                    f"allowed: ways {shape.ways}, each of shots {shape.shots} + queries {shape.queries}"
                )
            rows = y.argsort(stable=True).view(shape.ways, each)
        support, query = rows[:, : shape.shots].flatten(), rows[:, shape.shots :].flatten()
        return x[support], y[support], x[query], y[query]


def _targets(y: Tensor) -> Tensor:
    """Numbers ``[n]`` as ``[n, 1]``; labels as int64."""
    if y.is_floating_point():
        return y[:, None] if y.dim() == 1 else y
    return y.long()


@contextmanager
def seeded(number: int) -> Iterator[None]:
    """Inside, random numbers of Python, NumPy and torch on the CPU begin at ``number``; afterwards where they were."""
    import numpy as np
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(number)
        np.random.seed(number % 2**32)
        torch.manual_seed(number)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
