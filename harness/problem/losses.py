"""Which losses there are, their options, and what is known of each. Free of torch; values are in objective.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from harness.errors import InputError, unknown
from harness.strangers.named import FORMS, is_named
from harness.strangers.values import validate_as

if TYPE_CHECKING:
    from harness.problem.benchmark import Benchmark
    from harness.settings.config import ProblemConfig

_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NoLossOptions(BaseModel):
    """Options of a loss that has none."""

    model_config = _STRICT


class CrossEntropyOptions(BaseModel):
    """Options of cross-entropy, with the meaning that they have in torch."""

    model_config = _STRICT
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of each label that goes to all classes alike")
    class_weights: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(None, description="one for each class")
    ignore_index: int | None = Field(None, description="label of examples that do not count, such as padding")


class HuberOptions(BaseModel):
    """Options of Huber's loss."""

    model_config = _STRICT
    delta: float = Field(1.0, gt=0, description="error from which on the loss is linear")


LOSSES: dict[str, type[BaseModel]] = {
    "cross_entropy": CrossEntropyOptions,
    "mse": NoLossOptions,
    "l1": NoLossOptions,
    "huber": HuberOptions,
    "bce": NoLossOptions,
}
_PLAIN = {name: options().model_dump(mode="json") for name, options in LOSSES.items()}


@dataclass(frozen=True)
class Loss:
    """L(w, phi) of one task as a function of prediction ``[S, out]`` and target.

    ``function`` is a person's own, ``(prediction, target, **options) -> one number``; it is None until it is loaded
    (see :func:`harness.problem.objective.loaded`).
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    function: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        """Complete the options; raises :class:`InputError` for a loss or an option that is not there."""
        if not self.own:
            if self.name not in LOSSES:
                raise unknown("loss", self.name, [*LOSSES, *FORMS.format("function").split(" or ")])
            checked = validate_as(LOSSES[self.name], self.options, None, f"option of loss {self.name}", "loss_options.")
            object.__setattr__(self, "options", checked.model_dump(mode="json"))

    @staticmethod
    def of(loss: Loss | str) -> Loss:
        """The loss called so, where it is not one already."""
        return loss if isinstance(loss, Loss) else Loss(loss)

    @property
    def own(self) -> bool:
        """Whether it is a person's own function."""
        return self.function is not None or is_named(self.name)

    @property
    def plain(self) -> bool:
        """Whether no option changes it."""
        return self.options == _PLAIN.get(self.name)

    @property
    def regression(self) -> bool:
        """Whether predictions and targets are numbers of one kind, and none is right or wrong."""
        return self.name in ("mse", "l1", "huber")

    @property
    def convex(self) -> bool:
        """Whether it is known to be convex in the prediction."""
        return not self.own


def stated(benchmark: Benchmark, config: ProblemConfig) -> Loss:
    """The loss that ``config`` names, or else ``benchmark``, not loaded; raises :class:`InputError`."""
    name: object = config.loss or benchmark.loss
    if not isinstance(name, str):
        raise InputError(f"benchmark {benchmark.name!r}: loss is no text; allowed: a name, or module:function")
    own = benchmark.defaults.get("loss_options", {}) if config.loss in (None, benchmark.loss) else {}
    return Loss(name, {**own, **config.loss_options})
