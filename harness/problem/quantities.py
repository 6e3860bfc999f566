"""What an oracle is told and what it gives: the inner problem, counts, outcomes, meta-gradients. Free of torch."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from harness.problem.losses import Loss

if TYPE_CHECKING:
    import torch
    from torch import Tensor

log = logging.getLogger("harness")


@dataclass(frozen=True)
class Slot:
    """Where one named parameter lies in a flat vector."""

    name: str
    shape: torch.Size
    start: int
    stop: int


@dataclass
class Counts:
    """What was executed, summed over tasks.

    ``gradient_entries`` and ``second_order_entries`` are in the paper's unit (Table 2): an inner
    gradient is n_w entries, an outer one n_w + n_phi, a Hessian n_w^2, a mixed derivative n_w n_phi.
    The products are the work done instead of forming those matrices. What a strategy evaluates again
    where it has been, to save memory, is in its seconds and FLOPs and not in here. See ``docs/counts.md``.
    """

    gradient_entries: int = 0
    second_order_entries: int = 0
    hessian_vector_products: int = 0
    mixed_products: int = 0
    #: gradients of L_D on the query set
    query_gradients: int = 0
    #: inner problems solved by other means than gradients of L_S
    solves: int = 0
    #: ways that an inner loop went, followed instead of a gradient of L_D
    pseudo_gradients: int = 0
    #: why these are not the counts of what was executed; empty where they are
    unknown: str = ""

    def as_dict(self) -> dict[str, int | None]:
        """The counts by name; None where they are unknown."""
        return {name: None if self.unknown else count for name, count in vars(self).items() if name != "unknown"}

    def lose(self, why: str) -> None:
        """Say once, and remember, that something was executed that is not counted."""
        if not self.unknown:
            log.warning("evaluations are not counted: %s", why)
            self.unknown = why


class Clock(Protocol):
    """Times phases with the device's own clock."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Everything inside belongs to the phase ``name``."""


class NoClock:
    """A clock that measures nothing."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """See :class:`Clock`."""
        return nullcontext()


@dataclass
class MetaGradient:
    """The gradient of L_meta, averaged over the tasks: ``w`` ``[n_w]`` and ``phi`` ``[n_phi]``."""

    w: Tensor
    phi: Tensor

    @property
    def moves(self) -> bool:
        """Whether it is anything but zero."""
        return bool(self.w.any() or self.phi.any())


@dataclass
class Outcome:
    """How w did on the query sets: ``loss`` and ``accuracy``, each ``[B]`` (accuracy NaN in regression).

    ``metrics``: other figures, likewise, by name (see :func:`harness.problem.objective.metrics`).
    """

    loss: Tensor
    accuracy: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass
class Inner:
    """The inner loop's objective and length: L_S + (l2 / 2) |w|^2, N steps of size alpha."""

    loss: Loss | str
    inner_steps: int
    inner_lr: float
    l2: float = 0.0
    #: "separate" batch statistics for support and query, or "joint" in the shared body
    norm_statistics: str = field(default="separate")

    def __post_init__(self) -> None:
        self.loss = Loss.of(self.loss)
