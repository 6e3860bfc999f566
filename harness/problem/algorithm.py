"""What an algorithm is: a partition into w and phi, an inner objective, and a rule for using the oracle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel

from harness.problem.benchmark import NoOptions
from harness.problem.meta_gradient import exact, first_order, inner_loop, proposition_1
from harness.problem.oracle import MetaGradient, Oracle
from harness.problem.search_space import Choice, Range

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Algorithm",
    "Choice",
    "Geometry",
    "MetaGradient",
    "NoOptions",
    "Oracle",
    "Range",
    "exact",
    "first_order",
    "inner_loop",
    "proposition_1",
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

    def adapt(self, oracle: Oracle, inner_steps: int, inner_lr: float) -> Tensor:
        """w_N ``[B, n_w]`` as used on held-out tasks; gradient descent unless overridden."""
        return inner_loop(oracle, inner_steps, inner_lr)[-1]

    @abstractmethod
    def meta_gradient(self, oracle: Oracle, inner_steps: int, inner_lr: float) -> MetaGradient:
        """The gradient in (w, phi) that the outer loop follows, averaged over the oracle's tasks."""
