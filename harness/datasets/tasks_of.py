"""Benchmarks of what Python has in hand: labelled data sets, and task sets of other libraries."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.datasets.class_images import Identity, check_enough
from harness.datasets.drawing import tasks_by_class
from harness.datasets.options import HeldOut
from harness.datasets.task_sets import TaskSet, is_task, seeded, sequence_of
from harness.errors import InputError
from harness.problem.benchmark import SPLITS, Benchmark, TaskShape
from harness.store.foreign import one_line
from harness.strangers.blame import blamed

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from harness.problem.tasks import TaskBatch

#: tasks of each split that a benchmark of task sets is known by
_KNOWN_BY = 4


def tasks_of(
    train: Iterable[Any],
    validation: Iterable[Any] | None = None,
    test: Iterable[Any] | None = None,
    split_seed: int = 0,
) -> Benchmark:
    """Few-shot tasks of data that Python has in hand, for ``benchmark=`` of every function that takes one.

    Each argument is a data set of ``(x, label)``, such as a ``torch.utils.data.Dataset``: x a tensor or array of one
    shape, floating point or int64 tokens, label a whole number. Tasks are drawn as those of images are; x is as it
    comes, read once. Without ``validation`` or ``test`` a fifth of the training classes each is held out, by
    ``split_seed``. Or each is a set of tasks, such as learn2learn's: see :class:`harness.datasets.task_sets.TaskSet`.
    All three are then needed. Raises :class:`InputError`.
    """
    given = {"train": train, "validation": validation, "test": test}
    parts = {s: sequence_of(part, f"tasks_of: {s}") for s, part in given.items() if part is not None}
    kinds = {split: is_task(_first(part, split)) for split, part in parts.items()}
    if not any(kinds.values()):
        return Examples(parts, split_seed)
    if not all(kinds.values()) or len(kinds) < len(SPLITS):
        without = next(split for split in SPLITS if not kinds.get(split))
        raise InputError(
            f"tasks_of: {without} has no tasks, and others have; allowed: train, validation and test of tasks"
        )
    sets = {split: TaskSet(part, split) for split, part in parts.items()}
    return (RegressionTaskSets if sets["train"].raw(0, 0)[1].is_floating_point() else TaskSets)(sets)


class Examples(Benchmark):
    """Tasks of labelled examples, held in memory class after class."""

    name = "examples"
    summary = "tasks of a labelled data set"

    def __init__(self, parts: Mapping[str, Sequence[Any]], split_seed: int = 0) -> None:
        super().__init__()
        read = {split: _classes(part, split) for split, part in parts.items()}
        train = read.pop("train")
        for split, classes in read.items():
            named = hasattr(parts[split], "classes") and hasattr(parts["train"], "classes")
            if named and (shared := sorted(classes.keys() & train.keys())):
                raise InputError(
                    f"tasks_of: class {shared[0]!r} is in both train and {split}; allowed: held-out classes"
                )
        names = HeldOut.model_validate({"split_seed": split_seed}).split_of(
            train, [split for split in SPLITS[1:] if split not in read]
        )
        read |= {split: {name: train[name] for name in names[split]} for split in names}
        self.parts = {split: read[split] for split in SPLITS}
        self._device: dict[tuple[str, str], Tensor] = {}
        shapes = {tuple(x.shape[1:]) for classes in self.parts.values() for x in classes.values()}
        kinds = {x.dtype for classes in self.parts.values() for x in classes.values()}
        if len(shapes) > 1 or len(kinds) > 1:
            found = ", ".join(map(str, sorted(map(list, shapes)) if len(shapes) > 1 else kinds))
            raise InputError(f"tasks_of: examples of different splits are of {found}; allowed: one shape and type")
        self._shape = shapes.pop() if shapes else ()

    @functools.cached_property
    def known(self) -> dict[str, Identity]:
        """What the splits hold, by content."""
        found = {}
        for split, classes in self.parts.items():
            digests = tuple(_digest(x) for x in classes.values())
            whole = hashlib.sha256(repr((self._shape, digests)).encode()).hexdigest()
            found[split] = Identity(whole, tuple(map(len, classes.values())), tuple(classes), digests)
        return found

    @property
    def version(self) -> str:
        """See :attr:`Benchmark.version`: a hash of all examples and their order."""
        return "examples " + hashlib.sha256("".join(i.digest for i in self.known.values()).encode()).hexdigest()[:32]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """See :attr:`Benchmark.input_shape`."""
        return self._shape

    def check(self, ways: int, shots: int, queries: int) -> None:
        """See :meth:`Benchmark.check`."""
        for split in SPLITS:
            if not self.parts[split]:
                raise InputError(f"benchmark examples: its {split} split has no classes; allowed: at least {ways}")
            where = f"benchmark examples: its {split} split"
            check_enough(self.known[split], where, ways, shots, queries, "examples")

    def draw(
        self, split: str, first: int, tasks: int, shape: TaskShape, device: torch.device, dtype: torch.dtype
    ) -> TaskBatch:
        """See :meth:`Benchmark.draw`."""
        import torch

        if (where := (split, str(device))) not in self._device:
            self._device[where] = torch.cat([*self.parts[split].values()]).to(device)
        every, counts = self._device[where], self.known[split].counts

        def take(rows: Tensor) -> Tensor:
            chosen = every.index_select(0, rows.to(device))
            return chosen.to(dtype) if chosen.is_floating_point() else chosen

        return tasks_by_class(split, first, tasks, shape, counts, take)


class TaskSets(Benchmark):
    """The tasks of other libraries' task sets, one for each split."""

    name = "task_sets"
    summary = "tasks of another library's task sets"

    def __init__(self, sets: Mapping[str, TaskSet]) -> None:
        super().__init__()
        self.sets = sets

    @property
    def version(self) -> str:
        """See :attr:`Benchmark.version`: a hash of the first tasks, as they come."""
        tasks = [self.sets[split].raw(0, number) for split in SPLITS for number in range(_KNOWN_BY)]
        return "task sets " + hashlib.sha256("".join(_digest(p) for t in tasks for p in t).encode()).hexdigest()[:32]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """See :attr:`Benchmark.input_shape`."""
        return tuple(self.sets["train"].raw(0, 0)[0].shape[1:])

    def check(self, ways: int, shots: int, queries: int) -> None:
        """See :meth:`Benchmark.check`: the first task of each set is looked at."""
        for split in SPLITS:
            self.sets[split].task(0, TaskShape(0, ways, shots, queries))

    def draw(
        self, split: str, first: int, tasks: int, shape: TaskShape, device: torch.device, dtype: torch.dtype
    ) -> TaskBatch:
        """See :meth:`Benchmark.draw`."""
        from harness.problem.tasks import TaskBatch

        drawn = [self.sets[split].task(number, shape) for number in range(first, first + tasks)]
        return TaskBatch.of([(a.to(device), b.to(device), c.to(device), d.to(device)) for a, b, c, d in drawn])


class RegressionTaskSets(TaskSets):
    """Such task sets with numbers for labels."""

    loss = "mse"
    defaults = {"ways": 1}

    def outputs(self, ways: int) -> int:
        """See :meth:`Benchmark.outputs`."""
        labels = self.sets["train"].raw(0, 0)[1]
        return int(labels.shape[1]) if labels.dim() > 1 else 1

    def check(self, ways: int, shots: int, queries: int) -> None:
        """See :meth:`Benchmark.check`."""
        if ways != 1:
            raise InputError(f"ways {ways} for benchmark {self.name}: regression tasks have no classes, allowed: 1")
        super().check(ways, shots, queries)


def _first(part: Sequence[Any], split: str) -> Any:
    with blamed(f"tasks_of: {split}"), seeded(0):  # a set of tasks may decide now what its first one is
        return part[0]


def _classes(part: Sequence[Any], split: str) -> dict[str, Tensor]:
    """Each class's examples ``[n, *x]``, in order, by name."""
    import torch

    rows: dict[int, list[Tensor]] = {}
    with blamed(f"tasks_of: {split}"):
        for number in range(len(part)):  # a Dataset need not end by itself
            x, label = _example(part[number], f"tasks_of: {split}, example {number}")
            first = next(iter(rows.values()))[0] if rows else x
            if x.shape != first.shape or x.dtype != first.dtype:
                raise InputError(
                    f"tasks_of: {split}, example {number} has shape {list(x.shape)} and type {x.dtype}; "
                    f"allowed: those of the first, {list(first.shape)} and {first.dtype}"
                )
            rows.setdefault(label, []).append(x)
        names: Callable[[int], str] = str
        if isinstance(classes := getattr(part, "classes", None), list | tuple) and len(classes) > max(rows, default=0):
            names = lambda label: str(classes[label])  # noqa: E731
        found = {names(label): torch.stack(rows[label]) for label in sorted(rows)}
    if len(found) < len(rows):
        raise InputError(f"tasks_of: {split} has two classes of one name; allowed: a name of its own for each")
    return found


def _example(item: Any, where: str) -> tuple[Tensor, int]:
    import torch

    if not isinstance(item, list | tuple) or len(item) != 2:
        raise InputError(f"{where} is a {type(item).__name__}; allowed: (x, label)")
    x, label = item
    try:
        x = torch.as_tensor(x)
    except Exception as error:
        raise InputError(
            f"{where}: x is a {type(x).__name__}; allowed: a tensor, as transform=ToTensor() gives"
        ) from error
    if not (x.is_floating_point() or x.dtype == torch.int64):
        raise InputError(f"{where}: x has type {x.dtype}; allowed: floating point, or int64 tokens")
    if x.is_floating_point() and not x.isfinite().all():
        raise InputError(f"{where}: x has numbers that are not finite; allowed: finite ones")
    try:
        value = label.item() if hasattr(label, "item") else label
        if (number := int(value)) == value:
            return x, number
    except (TypeError, ValueError):
        pass
    raise InputError(f"{where}: its label is {one_line(label)[:40]!r}; allowed: a whole number")


def _digest(part: Tensor) -> str:
    raw = part.detach().cpu().contiguous().reshape(-1).numpy().tobytes()
    return hashlib.sha256(f"{part.dtype} {list(part.shape)} ".encode() + raw).hexdigest()
