"""What an algorithm is: a partition into w and phi, an inner objective, and a rule for using the oracle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel

from harness.errors import NotSupported
from harness.problem.benchmark import NoOptions
from harness.problem.meta_gradient import by_rates, exact, first_order, inner_loop, proposition_1, solved
from harness.problem.oracle import Inner, MetaGradient, Oracle, Slot
from harness.problem.search_space import Choice, Range

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Algorithm",
    "Choice",
    "ClosedForm",
    "Geometry",
    "Inner",
    "MetaGradient",
    "NoOptions",
    "Oracle",
    "Range",
    "Slot",
    "by_rates",
    "exact",
    "first_order",
    "inner_loop",
    "proposition_1",
    "solved",
]


@dataclass(frozen=True)
class Geometry:
    """One shape of the inner loop: which parameters it adapts (see ``--adapt``) and what that makes of L_S."""

    adapt: str
    summary: str


class Algorithm(ABC):
    """Base of every algorithm. Importing the module of an algorithm must not import torch."""

    name: ClassVar[str]
    summary: ClassVar[str]
    #: the first is the default
    geometries: ClassVar[Mapping[str, Geometry]]
    Options: ClassVar[type[BaseModel]] = NoOptions
    #: what ``meta_gradient`` claims to be: "exact", the gradient of L_meta(w, phi) = mean L_D(adapt(w, phi), phi), to
    #: which ``harness verify`` holds it; "first_order", that of L_D at a fixed w_N; None: nothing. Engines on other
    #: libraries compute what is claimed, where ``adapt`` is gradient descent
    derivative: ClassVar[Literal["exact", "first_order"] | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        if ("meta_gradient" in own or "adapt" in own) and "derivative" not in own:
            cls.derivative = None  # a new rule is not what its parent declared

    #: fields of the configuration whose default differs for this algorithm, whatever the benchmark has
    defaults: ClassVar[Mapping[str, Any]] = {}
    #: meta-iterations that are done, while a run trains; None elsewhere, where a schedule has come to its end
    iteration: int | None = None

    def __init__(self, geometry: str, options: Any = None) -> None:
        self.geometry = geometry
        self.options = options if options is not None else self.Options()

    @property
    def search_space(self) -> Mapping[str, Range | Choice]:
        """What ``harness tune`` searches: settings of a run, and options as ``algo_options.l2``."""
        space: dict[str, Range | Choice] = {
            "inner_lr": Range(1e-3, 1.0, log=True),
            "inner_steps": Range(1, 10),
            "meta_batch": Choice((4, 8, 16)),
            "outer_lr_w": Range(1e-4, 1e-1, log=True),
        }
        if self.geometries[self.geometry].adapt != "all":  # otherwise phi is empty
            space["outer_lr_phi"] = Range(1e-4, 1e-1, log=True)
        return space

    @property
    def l2(self) -> float:
        """lambda of the inner objective L_S + (lambda / 2) |w|^2."""
        return 0.0

    def parameters(self, w: Sequence[Slot], inner: Inner) -> Mapping[str, Tensor]:
        """Meta-parameters of the algorithm's own where they start, by name; none unless overridden.

        ``w``: the parameters that are adapted, and where each lies in ``[n_w]``. They are trained, saved and resumed as
        the last part of phi, are in Definition 1, and come back as ``oracle.own``; their gradient goes into s by
        ``oracle.cotangent``.
        """
        return {}

    @contextmanager
    def training(self, iteration: int) -> Iterator[None]:
        """Inside, ``iteration`` meta-iterations of a run are done."""
        self.iteration = iteration
        try:
            yield
        finally:
            self.iteration = None

    def adapt(self, oracle: Oracle, inner_steps: int, inner_lr: float) -> Tensor:
        """w_N ``[B, n_w]`` as used on held-out tasks; gradient descent unless overridden."""
        return inner_loop(oracle, inner_steps, inner_lr)[-1]

    @abstractmethod
    def meta_gradient(self, oracle: Oracle, inner_steps: int, inner_lr: float) -> MetaGradient:
        """The gradient in (w, phi) that the outer loop follows, averaged over the oracle's tasks."""


class ClosedForm(Algorithm):
    """Base of every algorithm whose inner problem is solved for the last layer; ``head`` is all that two differ in."""

    derivative = "exact"
    #: whether the head is made for tasks of classes alone
    classes_only: ClassVar[bool] = False

    @property
    def search_space(self) -> Mapping[str, Range | Choice]:
        """See :attr:`Algorithm.search_space`; there are no inner steps, and no initial w that they begin with."""
        space = dict(super().search_space)
        return {name: space[name] for name in ("meta_batch", "outer_lr_phi")}

    @abstractmethod
    def head(self, features: Tensor, targets: Tensor, w: Tensor, **own: Tensor) -> Tensor:
        """w ``[B, n_w]`` of the last layer, see :meth:`Oracle.solve`."""

    def adapt(self, oracle: Oracle, inner_steps: int, inner_lr: float) -> Tensor:
        """See :meth:`Algorithm.adapt`; raises :class:`NotSupported` for targets that ``head`` does not know."""
        self._check(oracle)
        return oracle.solve(self.head)

    def meta_gradient(self, oracle: Oracle, inner_steps: int, inner_lr: float) -> MetaGradient:
        """The exact gradient of L_D at the solution; raises as :meth:`adapt`."""
        self._check(oracle)
        return solved(oracle, self.head)

    def _check(self, oracle: Oracle) -> None:
        if self.classes_only and not oracle.classes:
            raise NotSupported(f"algorithm {self.name!r} is made for classes; allowed: tasks of classes")
