"""Tasks of unequal sizes: batches of equal ones, and where each task stood among all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.errors import InputError
from harness.problem.tasks import Task, TaskBatch

_PARTS = ("support_x", "support_y", "query_x", "query_y")
#: examples of one task in its support or its query set; beyond these it is a slip of the hand
MOST_EXAMPLES = 1_000_000


class RaggedBatch(TaskBatch):
    """A :class:`TaskBatch` that has no tensors of its own, as no tensor holds all of its tasks.

    Whoever forgets about its :attr:`groups` gets an AttributeError, and not some of the tasks for all.
    """

    def __init__(self, groups: Sequence[TaskBatch], places: Tensor) -> None:
        # ``places[i]`` is where task i is when the groups are put one after the other
        vars(self).update(_groups=tuple(groups), _places=places)

    @property
    def tasks(self) -> int:
        """See :attr:`TaskBatch.tasks`."""
        return len(self._places)

    @property
    def groups(self) -> tuple[TaskBatch, ...]:
        """See :attr:`TaskBatch.groups`."""
        found: tuple[TaskBatch, ...] = vars(self)["_groups"]
        return found

    @property
    def _places(self) -> Tensor:
        found: Tensor = vars(self)["_places"]
        return found

    def in_order(self, parts: Sequence[Tensor]) -> Tensor:
        """See :meth:`TaskBatch.in_order`."""
        return torch.cat(list(parts), -1).index_select(-1, self._places.to(parts[0].device))

    def with_groups(self, groups: Sequence[TaskBatch]) -> TaskBatch:
        """See :meth:`TaskBatch.with_groups`."""
        return RaggedBatch(groups, self._places)

    def chunk(self, start: int, stop: int) -> TaskBatch:
        """See :meth:`TaskBatch.chunk`; tasks that are stacked anew are copies."""
        one_by_one = [group.chunk(row, row + 1) for group in self.groups for row in range(group.tasks)]
        return _in_groups([one_by_one[place] for place in self._places[start:stop].tolist()])

    def double(self) -> TaskBatch:
        """See :meth:`TaskBatch.double`."""
        return self.with_groups([group.double() for group in self.groups])


def grouped(tasks: Sequence[Task]) -> TaskBatch:
    """See :meth:`TaskBatch.of`."""
    if not tasks:
        raise InputError("TaskBatch.of: no tasks; allowed: at least 1")
    for number, task in enumerate(tasks):
        _check(task, tasks[0], f"TaskBatch.of, task {number}")
    return _in_groups([TaskBatch(*(part[None] for part in task)) for task in tasks])


def _in_groups(single: Sequence[TaskBatch]) -> TaskBatch:
    """Batches of one task each, together; dense where all are of one shape."""
    members: dict[tuple[torch.Size, ...], list[int]] = {}
    for number, task in enumerate(single):
        members.setdefault(tuple(part.shape for part in vars(task).values()), []).append(number)
    groups = [
        TaskBatch(*(torch.cat(parts) for parts in zip(*(vars(single[n]).values() for n in numbers), strict=True)))
        for numbers in members.values()
    ]
    if len(groups) == 1:
        return groups[0]
    order = torch.tensor([number for numbers in members.values() for number in numbers])
    return RaggedBatch(groups, order.argsort())


def _check(task: Task, first: Task, who: str) -> None:
    """Raise :class:`InputError` unless ``task`` differs from ``first`` in its numbers of examples alone."""
    if not isinstance(task, list | tuple) or len(task) != 4 or not all(isinstance(part, Tensor) for part in task):
        raise InputError(f"{who} is no four tensors; allowed: {', '.join(_PARTS)}")
    for name, part, other in zip(_PARTS, task, first, strict=True):
        if part.dim() == 0 or not 0 < len(part) <= MOST_EXAMPLES:
            found = list(part.shape)
            raise InputError(f"{who}: {name} has shape {found}; allowed: 1 to {MOST_EXAMPLES} examples, first")
        if part.shape[1:] != other.shape[1:] or part.dtype != other.dtype or part.device != other.device:
            raise InputError(f"{who}: {name} is {_kind(part)}; allowed: as in task 0, {_kind(other)}")
    for x, y in ((0, 1), (2, 3)):
        if len(task[x]) != len(task[y]):
            raise InputError(
                f"{who}: {_PARTS[x]} has {len(task[x])} examples and {_PARTS[y]} {len(task[y])}; allowed: as many"
            )


def _kind(part: Tensor) -> str:
    sizes = ", ".join(["examples", *map(str, part.shape[1:])])
    return f"[{sizes}] of {str(part.dtype).removeprefix('torch.')} on {part.device}"
