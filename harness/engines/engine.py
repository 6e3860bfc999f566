"""What an engine is: something that computes the meta-gradient of a problem on a batch of tasks."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.errors import AlgorithmFailed, NotSupported
from harness.strangers import blame

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from harness.problem.algorithm import Algorithm
    from harness.problem.oracle import Clock, Counts, Inner, MetaGradient, Outcome
    from harness.problem.partition import Network
    from harness.problem.tasks import TaskBatch


@dataclass(frozen=True)
class Problem:
    """Everything that defines a meta-gradient except the parameters and the tasks."""

    algorithm: Algorithm
    network: Network
    inner: Inner
    #: why the model's layers are not to be written out (see :mod:`harness.engines.agreement`); empty where they may be
    distrust: str = ""


def blamed(algorithm: Algorithm) -> AbstractContextManager[None]:
    """Raises :class:`AlgorithmFailed`, one line with file and line, for whatever the algorithm's own code raises.

    A rule may know classification only, or have a fault; running out of memory is not its own.
    """
    file = getattr(sys.modules.get(type(algorithm).__module__), "__file__", None)
    return blame.blamed(f"algorithm {algorithm.name!r}", AlgorithmFailed, file)


class Engine(ABC):
    """Computes meta-gradients with one library. Importing its module must not import torch or that library."""

    name: ClassVar[str]
    summary: ClassVar[str]
    #: ways of computing an exact meta-gradient; the first is what "auto" falls back to
    strategies: ClassVar[tuple[str, ...]] = ("unrolled",)
    #: the package that has to be installed, and how; None where nothing more is needed
    requires: ClassVar[tuple[str, str] | None] = None

    def __init__(self, problem: Problem, strategy: str = "auto") -> None:
        """Prepare for ``problem``; raises :class:`NotSupported` with the reason where it cannot."""
        if strategy != "auto" and strategy not in self.strategies:
            allowed = ", ".join(("auto", *self.strategies))
            raise NotSupported(f"strategy {strategy!r} for engine {self.name}: allowed: {allowed}")
        self.problem = problem
        self.strategy = self.strategies[0] if strategy == "auto" else strategy

    @classmethod
    def require(cls) -> None:
        """Raise :class:`NotSupported` unless the library can be imported."""
        if cls.requires is None:
            return
        package, install = cls.requires
        try:
            __import__(package)
        except Exception as error:
            raise NotSupported(f"engine {cls.name} needs {package} ({error}): {install}") from error

    def tasks_at_once(self, tasks: int, device: torch.device) -> int:
        """How many of a batch's ``tasks`` this strategy is meant to be given together, where nobody says otherwise."""
        return tasks

    @abstractmethod
    def meta_gradient(
        self, w: Tensor, phi: Tensor, batch: TaskBatch, counts: Counts | None = None, clock: Clock | None = None
    ) -> tuple[MetaGradient, Outcome]:
        """The meta-gradient at flat ``w`` ``[n_w]``, ``phi`` ``[n_phi]``, averaged over the B tasks of ``batch``.

        The outcome holds each task's query loss and accuracy at w_N. ``counts`` is added to.
        """
