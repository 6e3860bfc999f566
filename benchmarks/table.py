"""A table of your own: rows are examples, and a column says which task each is of."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from harness.datasets.drawing import distinct
from harness.datasets.folders import SPLIT_NAMES
from harness.datasets.options import AbsolutePath, HeldOut
from harness.datasets.tables import numbers, read_columns, texts
from harness.errors import InputError, MissingData
from harness.problem.benchmark import SPLITS, Benchmark

if TYPE_CHECKING:
    import numpy as np
    import torch

    from harness.problem.benchmark import TaskShape
    from harness.problem.tasks import TaskBatch


class TableOptions(HeldOut):
    """Where the table is, and what its columns are."""

    path: AbsolutePath = Field("", description="a CSV or Parquet file")
    task: str = Field("task", description="column that says which task a row is of")
    target: tuple[str, ...] | str = Field("target", description="column to predict; several, as a list, in regression")
    features: tuple[str, ...] = Field((), description="columns to predict it from; none: all others")
    kind: Literal["regression", "classification"] = "regression"
    split: str | None = Field(None, description="column of train, validation (val), test; unset: by split_seed")
    standardise: bool = Field(True, description="features less their mean over training rows, over their deviation")


class Rows(NamedTuple):
    """A table in numbers."""

    #: ``[n, d]`` as in the table
    features: np.ndarray
    #: ``[n, outputs]``, or the number of each row's class ``[n]``
    targets: np.ndarray
    #: for each split, by task, its rows: of each class in order of names, in regression all in one
    tasks: Mapping[str, Mapping[str, list[np.ndarray]]]


class Table(Benchmark):
    """Rows of one task are its examples: ``shots`` support and ``queries`` query rows, of each class or in regression.

    Tasks are drawn with equal chances, and rows of one without putting back. In classification a task's labels are the
    places of its ``ways`` classes in the order of their names.
    """

    name = "table"
    summary = "a table of your own, with a column of tasks"
    model = "mlp"
    defaults = {"ways": 1}
    places = ("path",)
    Options = TableOptions

    def __init__(self, options: Any = None, root: Path | None = None) -> None:
        super().__init__(options, root)
        self.loss = "mse" if self.options.kind == "regression" else "cross_entropy"
        target = self.options.target
        self.targets = (target,) if isinstance(target, str) else tuple(target)

    def missing(self) -> str | None:
        """What is not there, in one line; None where the table is."""
        if not self.options.path:
            return "table is not told where it is: --benchmark-options '{path: FILE.csv, task: COLUMN, target: COLUMN}'"
        return None if Path(self.options.path).is_file() else f"table: {self.options.path} is no file"

    @property
    def version(self) -> str:
        """See :attr:`Benchmark.version`: a hash of all numbers, tasks and splits."""
        features, targets, tasks = self._rows
        sha = hashlib.sha256(f"{features.shape} {targets.shape} {targets.dtype}".encode())
        for part in (features, targets):
            sha.update(part.tobytes())
        for split in SPLITS:
            for name, groups in tasks[split].items():
                sha.update(repr((split, name, [rows.tolist() for rows in groups])).encode())
        return f"table {sha.hexdigest()[:32]}"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """See :attr:`Benchmark.input_shape`."""
        return (self._rows.features.shape[1],)

    def outputs(self, ways: int) -> int:
        """See :meth:`Benchmark.outputs`."""
        return len(self.targets) if self.loss == "mse" else ways

    def check(self, ways: int, shots: int, queries: int) -> None:
        """See :meth:`Benchmark.check`."""
        regression, each = self.loss == "mse", shots + queries
        if regression and ways != 1:
            raise InputError(f"ways {ways} for benchmark table: regression tasks have no classes, allowed: 1")
        for split in SPLITS:
            tasks = self._rows.tasks[split]
            if not tasks:
                raise InputError(f"benchmark table: its {split} split has no tasks, allowed: at least 1")
            for name, groups in tasks.items():
                least = min(map(len, groups))
                if not regression and not 2 <= ways <= len(groups):
                    raise InputError(
                        f"ways {ways} for task {name!r}, which has {len(groups)} classes; allowed: 2 to that"
                    )
                if each > least:
                    of = "" if regression else " of a class"
                    raise InputError(
                        f"shots {shots} + queries {queries} for task {name!r}, which has {least} rows{of}; "
                        f"allowed: at most {least} together"
                    )

    def draw(
        self, split: str, first: int, tasks: int, shape: TaskShape, device: torch.device, dtype: torch.dtype
    ) -> TaskBatch:
        """See :meth:`Benchmark.draw`."""
        import numpy as np
        import torch

        from harness.problem.tasks import TaskBatch, random_bits

        there, ways, each = list(self._rows.tasks[split].values()), shape.ways, shape.shots + shape.queries
        task, slot = torch.arange(first, first + tasks)[:, None], torch.arange(1 + ways * (1 + each))
        bits = random_bits(shape.seed, SPLITS.index(split), task, slot).numpy()
        picked = np.empty((tasks, ways, each), np.int64)
        for number, row in enumerate(bits):
            groups = there[distinct(row[:1], np.array(len(there)))[0]]
            chosen = np.sort(distinct(row[1 : 1 + ways], np.array(len(groups))))
            sizes = np.array([len(groups[place]) for place in chosen])
            members = distinct(row[1 + ways :].reshape(ways, each), sizes)
            picked[number] = [groups[place][of] for place, of in zip(chosen, members, strict=True)]

        def part(rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
            rows = rows.reshape(tasks, -1)
            x = torch.from_numpy(self._scaled[rows]).to(device, dtype)
            if self.loss == "mse":
                return x, torch.from_numpy(self._rows.targets[rows]).to(device, dtype)
            return x, torch.arange(ways, device=device).repeat_interleave(rows.shape[1] // ways).expand(tasks, -1)

        return TaskBatch(*part(picked[:, :, : shape.shots]), *part(picked[:, :, shape.shots :]))

    @functools.cached_property
    def _scaled(self) -> np.ndarray:
        import numpy as np

        features, _, tasks = self._rows
        if not self.options.standardise:
            return features
        train = features[np.concatenate([rows for groups in tasks["train"].values() for rows in groups])]
        spread = train.std(0)
        return (features - train.mean(0)) / np.where(spread > 0, spread, 1)

    @functools.cached_property
    def _rows(self) -> Rows:
        import numpy as np

        if (problem := self.missing()) is not None:
            raise MissingData(problem)
        options, path = self.options, Path(self.options.path)
        columns = read_columns(path)
        task = texts(columns, options.task, path)
        splits = None if options.split is None else _splits(texts(columns, options.split, path), task, path)
        used = {options.task, options.split, *self.targets}
        names = options.features or [name for name in columns if name not in used]
        if not names or used.intersection(names) or len(set(names)) < len(names):
            raise InputError(
                f"{path}: features {', '.join(names) or 'none'}; allowed: columns that are nothing else, once"
            )
        features = np.stack([numbers(columns, name, path) for name in names], 1)
        if self.loss == "mse":
            targets = np.stack([numbers(columns, name, path) for name in self.targets], 1)
        elif len(self.targets) > 1:
            raise InputError(f"{path}: classification with targets {', '.join(self.targets)}; allowed: one column")
        else:
            targets = np.unique(texts(columns, self.targets[0], path), return_inverse=True)[1]
        members: dict[str, list[int]] = {}
        for row, name in enumerate(task):
            members.setdefault(name, []).append(row)
        found = splits or options.split_of(members)
        return Rows(features, targets, {s: {n: _groups(targets, members[n]) for n in found[s]} for s in SPLITS})


def _groups(targets: np.ndarray, rows: list[int]) -> list[np.ndarray]:
    """``rows`` by class; in regression all together."""
    import numpy as np

    every = np.array(rows)
    if targets.ndim > 1:
        return [every]
    return [every[targets[every] == number] for number in np.unique(targets[every])]


def _splits(said: list[str], task: list[str], path: Path) -> dict[str, list[str]]:
    """The tasks of each split, by name, as a column says."""
    known = {name: split for split, names in SPLIT_NAMES.items() for name in names}
    split_of: dict[str, str] = {}
    for row, (name, word) in enumerate(zip(task, said, strict=True), 1):
        if (split := known.get(word.lower())) is None:
            raise InputError(f"{path}: row {row} is of split {word!r}; allowed: train, validation, val, test")
        if split_of.setdefault(name, split) != split:
            raise InputError(f"{path}: row {row} of task {name!r} is of split {split}, a row before {split_of[name]}")
    return {split: sorted(name for name in split_of if split_of[name] == split) for split in SPLITS}
