"""A batch of few-shot tasks, and the counter-based random numbers that tasks are drawn with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.errors import InputError
from harness.problem.benchmark import TaskShape
from harness.problem.losses import Loss, stated
from harness.problem.objective import target_fault
from harness.strangers.blame import blamed

if TYPE_CHECKING:
    from harness.problem.benchmark import Benchmark
    from harness.settings.config import ProblemConfig


#: what :meth:`TaskBatch.of` takes for one task
Task = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class TaskBatch:
    """B tasks drawn together, all tensors on one device; of unequal sizes see :meth:`of`.

    ``support_x`` has shape ``[B, S, *input]`` and ``query_x`` ``[B, Q, *input]``; labels are
    ``[B, S]`` and ``[B, Q]`` class indices, ``[B, S, out]`` and ``[B, Q, out]`` targets, or what a person's own
    loss takes for each example.
    """

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor

    @property
    def tasks(self) -> int:
        """B, the number of tasks."""
        return self.support_x.shape[0]

    @staticmethod
    def of(tasks: Sequence[Task]) -> TaskBatch:
        """Tasks of any sizes, of each (``support_x`` ``[S, *input]``, ``support_y``, ``query_x``, ``query_y``).

        S, and Q of the query set, may differ from task to task; every task counts alike. Raises :class:`InputError`.
        """
        from harness.problem.ragged import grouped

        return grouped(tasks)

    @property
    def groups(self) -> tuple[TaskBatch, ...]:
        """These tasks in batches of equal sizes, which is what engines and oracles take."""
        return (self,)

    def in_order(self, parts: Sequence[Tensor]) -> Tensor:
        """What each of :attr:`groups` gave for its tasks, ``[..., its tasks]``, as ``[..., B]`` in the tasks' order."""
        return parts[0]

    def chunk(self, start: int, stop: int) -> TaskBatch:
        """Tasks ``start`` to ``stop`` as views."""
        rows = slice(start, stop)
        return TaskBatch(self.support_x[rows], self.support_y[rows], self.query_x[rows], self.query_y[rows])

    def same(self, other: TaskBatch) -> bool:
        """Whether ``other`` holds the same numbers."""
        parts = [[part for group in batch.groups for part in vars(group).values()] for batch in (self, other)]
        return len(parts[0]) == len(parts[1]) and all(map(torch.equal, *parts))

    def with_groups(self, groups: Sequence[TaskBatch]) -> TaskBatch:
        """The same with others for its :attr:`groups`."""
        return groups[0]

    def double(self) -> TaskBatch:
        """The same tasks in float64, exactly."""
        return TaskBatch(*(part.double() if part.is_floating_point() else part for part in vars(self).values()))


def draw(
    benchmark: Benchmark,
    config: ProblemConfig,
    split: str,
    first: int,
    tasks: int,
    device: torch.device,
    dtype: torch.dtype,
) -> TaskBatch:
    """Tasks ``first`` to ``first + tasks`` of ``split``, of the shape that ``config`` asks for.

    Checked as they enter; on CUDA every number of the first ones of a split alone, as looking waits for the device.
    """
    with blamed(f"benchmark {benchmark.name!r}"):
        batch = benchmark.draw(split, first, tasks, TaskShape.of(config), device, dtype)
        shape, outputs = tuple(benchmark.input_shape), benchmark.outputs(config.ways)
    where = f"benchmark {benchmark.name!r}, {split} tasks from {first}"
    values = device.type == "cpu" or first == 0
    return checked(batch, where, shape, outputs, stated(benchmark, config), tasks, dtype, device, values)


def checked(
    batch: object,
    who: str,
    shape: tuple[int, ...],
    outputs: int,
    loss: Loss | str,
    tasks: int,
    dtype: torch.dtype,
    device: torch.device,
    values: bool = True,
) -> TaskBatch:
    """``batch`` with its numbers in ``dtype``; raises :class:`InputError` where it is not what a benchmark promises.

    ``who`` is named then. ``values``: look at every number too, which waits for the device.
    """

    def refuse(name: str, found: object, allowed: str) -> InputError:
        return InputError(f"{who}: {name} {found}; allowed: {allowed}")

    if not isinstance(batch, TaskBatch):
        raise refuse("gives", f"a {type(batch).__name__}", "a harness.TaskBatch")
    if len(groups := batch.groups) > 1:
        if batch.tasks != tasks:
            raise refuse("gives", f"{batch.tasks} tasks", str(tasks))
        return batch.with_groups(
            [checked(group, who, shape, outputs, loss, group.tasks, dtype, device, values) for group in groups]
        )
    made: dict[str, Tensor] = {}
    for name in (part.name for part in fields(TaskBatch)):
        part = getattr(batch, name)
        if not isinstance(part, Tensor) or part.layout != torch.strided:
            raise refuse(name, f"is a {type(part).__name__} of several sizes or none", "a dense tensor")
        if part.device != device:
            raise refuse(name, f"is on {part.device}", str(device))
        whole = part.dtype in (torch.int64, torch.int32)  # of tokens
        if name.endswith("_x") and not (whole or part.dtype.is_floating_point):
            raise refuse(name, f"has type {_short(part.dtype)}", _short(dtype))
        made[name] = part.to(dtype) if part.dtype.is_floating_point else part
    for x_name, y_name in (("support_x", "support_y"), ("query_x", "query_y")):
        x = made[x_name]
        if x.ndim < 2 or x.shape[0] != tasks or x.shape[1] == 0 or x.shape[2:] != shape:
            raise refuse(x_name, f"has shape {list(x.shape)}", f"[{', '.join(map(str, [tasks, 'examples', *shape]))}]")
        if fault := target_fault(Loss.of(loss), made[y_name], (x.shape[0], x.shape[1]), outputs, values):
            raise refuse(y_name, *fault)
    for name, part in made.items() if values else ():
        if part.dtype.is_floating_point and not part.sum().isfinite() and not part.isfinite().all():
            raise refuse(name, "has numbers that are not finite", "finite ones")
    return replace(batch, **made)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


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
