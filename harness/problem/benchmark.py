"""What a benchmark is: a seeded stream of tasks over the splits train, validation and test."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import platformdirs
from pydantic import BaseModel, ConfigDict

from harness.errors import InputError

if TYPE_CHECKING:
    import torch

    from harness.problem.tasks import TaskBatch
    from harness.settings.config import ProblemConfig

SPLITS = ("train", "validation", "test")


def data_root() -> Path:
    """Where data sets live: ``$HARNESS_DATA``, else the platform's user cache directory."""
    if named := os.environ.get("HARNESS_DATA"):
        return Path(named).expanduser()
    try:
        found = platformdirs.user_cache_path("anil-vs-maml-harness")
    except RuntimeError:
        found = Path("~")
    if not found.is_absolute():  # a user whom the system does not know has no home
        raise InputError("data: this user has no home directory; allowed: a folder in $HARNESS_DATA")
    return found


class NoOptions(BaseModel):
    """Options of a plugin that has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class TaskShape:
    """Which stream of tasks, and how large they are: ``shots`` and ``queries`` are examples of each of ``ways``."""

    seed: int
    ways: int
    shots: int
    queries: int

    @classmethod
    def of(cls, config: ProblemConfig) -> TaskShape:
        """What ``config`` asks for."""
        return cls(config.seed, config.ways, config.shots, config.queries)


class Benchmark(ABC):
    """One family of tasks. Importing the module of a benchmark must not import torch.

    A task stream is a function of the seed and the split alone: task ``t`` is the same whatever
    algorithm, engine, device or meta-batch asks for it.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    loss: ClassVar[str] = "cross_entropy"
    #: name of the model used unless the configuration names another
    model: ClassVar[str] = "cnn"
    #: configuration fields whose default differs for this benchmark
    defaults: ClassVar[Mapping[str, Any]] = {}
    Options: ClassVar[type[BaseModel]] = NoOptions
    #: options that say where the data lie, whose content :attr:`version` knows: no part of a run's key
    places: ClassVar[tuple[str, ...]] = ()

    def __init__(self, options: Any = None, root: Path | None = None) -> None:
        self.options: Any = options if options is not None else self.Options()
        self._root = root

    @property
    def root(self) -> Path:
        """The folder of data sets, see :func:`data_root`; raises :class:`InputError` where there can be none."""
        return self._root or data_root()

    @property
    @abstractmethod
    def version(self) -> str:
        """Part of the run key; changes whenever the drawn tasks would, with the data too. A class attribute will do."""

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example as the model sees it, such as ``(channels, height, width)``."""

    @property
    def model_options(self) -> Mapping[str, Any]:
        """Options that the benchmark's own model needs to fit these tasks."""
        return {}

    def outputs(self, ways: int) -> int:
        """Size of the model's output for tasks of ``ways`` classes."""
        return ways

    @abstractmethod
    def check(self, ways: int, shots: int, queries: int) -> None:
        """Raise :class:`InputError` if the data are missing or too few for such tasks."""

    @abstractmethod
    def draw(
        self, split: str, first: int, tasks: int, shape: TaskShape, device: torch.device, dtype: torch.dtype
    ) -> TaskBatch:
        """Tasks ``first`` to ``first + tasks`` of the stream of ``split``, of ``shape``, on ``device``."""


class RegressionBenchmark(Benchmark):
    """Tasks with one real-valued output and no classes; ``shots`` is the size of the support set."""

    loss = "mse"
    defaults = {"ways": 1}

    def outputs(self, ways: int) -> int:
        """See :meth:`Benchmark.outputs`."""
        return 1

    def check(self, ways: int, shots: int, queries: int) -> None:
        """See :meth:`Benchmark.check`."""
        if ways != 1:
            raise InputError(f"ways {ways} for benchmark {self.name}: regression tasks have no classes, allowed: 1")
