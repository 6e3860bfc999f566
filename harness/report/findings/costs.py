"""What it cost to reach a target: K(epsilon) of Definition 1, and iterations, seconds, entries and FLOPs with it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import InputError
from harness.report.findings.norms import larger_norms, partial_norms
from harness.report.reading.documents import number
from harness.report.reading.runs import Run
from harness.store.records import Status

Measure = Literal["iterations", "seconds", "gradient_entries", "second_order_entries", "flops"]
MEASURES: tuple[Measure, ...] = ("iterations", "seconds", "gradient_entries", "second_order_entries", "flops")


@dataclass(frozen=True)
class Target:
    """What has to be reached on the fixed tasks.

    Both squared norms of Definition 1 below ``value``, a loss, a fall of the loss from the run's own before training
    (every N has another L_meta, and starts elsewhere), or an accuracy.
    """

    kind: Literal["epsilon", "loss", "fall", "accuracy"]
    value: float

    def __str__(self) -> str:
        return _WORDS[self.kind].format(self.value)


_WORDS = {
    "epsilon": "ε = {:g}",
    "loss": "loss ≤ {:g}",
    "fall": "a loss {:g} below its start",
    "accuracy": "accuracy ≥ {:.1%}",
}


def targets_of(
    epsilons: Sequence[float] = (), losses: Sequence[float] = (), accuracies: Sequence[float] = ()
) -> list[Target] | None:
    """Targets from numbers that a person gave, None where there are none; raises :class:`InputError`."""
    for name, values, most in (
        ("epsilon", epsilons, math.inf),
        ("loss", losses, math.inf),
        ("accuracy", accuracies, 1),
    ):
        for value in values:
            if not 0 < value <= most or not math.isfinite(value):
                allowed = "a number > 0" if most == math.inf else "a number > 0 and <= 1"
                raise InputError(f"--{name} {value:g}: allowed: {allowed}")
    found = [Target("epsilon", value) for value in epsilons]
    found += [Target("loss", value) for value in losses]
    found += [Target("accuracy", value) for value in accuracies]
    return found or None


class Cost(NamedTuple):
    """What a run had spent when it first met a target.

    Infinity everywhere where it never did, NaN where its measurements cannot tell.
    ``gradient_entries`` and ``second_order_entries`` are sums over all tasks up to then (Table 2).
    """

    iterations: float = math.inf
    seconds: float = math.inf
    gradient_entries: float = math.inf
    second_order_entries: float = math.inf
    flops: float = math.inf


UNKNOWN = Cost(*[math.nan] * len(MEASURES))


class State(NamedTuple):
    """Where a run stood on the fixed tasks: at the measurement that met a target, at its last where none did."""

    loss: float
    accuracy: float
    #: the larger standard error of both squared norms; NaN in runs of older versions
    error: float


@dataclass(frozen=True)
class Reached:
    """Whether and when a run met a target. A miss says no more than that it takes more than what was ``spent``."""

    met: bool
    spent: Cost
    state: State

    @property
    def cost(self) -> Cost:
        """What it took; infinity for a miss."""
        return self.spent if self.met else Cost()


def reach(run: Run, target: Target, w: Iterable[str] | None = None) -> Reached | None:
    """``run`` at its first measurement that meets ``target``; None where its measurements cannot tell.

    ``w`` names the parameters of the adapted block on which the partial norms are taken, the rest being phi:
    for MAML those of the ANIL it is compared with (Definition 1 knows two blocks); the run's own by default.
    Measurements lie ``stationarity_every`` iterations apart, so K(epsilon) is known up to that.
    Raises :class:`InputError` where the run has no such parameters.
    """
    block = None if w is None else frozenset(w)
    met = _met(run, target, block)
    if not met.any() and not (measured_to_end(run) and _has(run, target.kind)):
        return None
    index = int(np.argmax(met)) if met.any() else len(met) - 1
    line = run.stationarity[index]
    spent = Cost(
        line["iteration"],
        number(line["seconds"]),
        line["counts"]["gradient_entries"],
        line["counts"]["second_order_entries"],
        run.number("flops_per_iteration") * line["iteration"],
    )
    error = float(partial_norms(run, block).error[index])
    return Reached(bool(met.any()), spent, State(number(line["loss"]), number(line["accuracy"]), error))


def cost_to(run: Run, target: Target, w: Iterable[str] | None = None) -> Cost:
    """The cost of ``run`` until it meets ``target``, see :func:`reach`."""
    found = reach(run, target, w)
    return UNKNOWN if found is None else found.cost


def measured_to_end(run: Run) -> bool:
    """Whether ``stationarity.jsonl`` covers all that a run can have: then a target not met was not reached."""
    if not run.stationarity:
        return False
    last: float = run.stationarity[-1]["iteration"]
    return run.summary.status != Status.COMPLETED or bool(last == run.summary.iterations)


def course(run: Run, kind: Literal["loss", "fall", "accuracy"]) -> NDArray[np.float64]:
    """Loss, its fall since before training, or accuracy on the fixed tasks at each measurement ``[lines]``."""
    if kind not in run.cache:
        values = np.array([number(line["loss" if kind == "fall" else kind]) for line in run.stationarity])
        run.cache[kind] = values[0] - values if kind == "fall" and values.size else values
    found: NDArray[np.float64] = run.cache[kind]
    return found


def chance(run: Run, kind: Literal["loss", "accuracy"]) -> float:
    """What knowing nothing gives: ln(ways) and 1/ways; NaN in regression and of labels that are not one of the ways."""
    ways, loss = run.config.get("ways"), run.config.get("loss", "cross_entropy")
    of_classes = loss == "cross_entropy" or (kind == "accuracy" and ":" in str(loss))
    if not isinstance(ways, int) or ways < 2 or not of_classes or not _has(run, "accuracy"):
        return math.nan
    return math.log(ways) if kind == "loss" else 1 / ways


def _has(run: Run, kind: str) -> bool:
    """Whether runs of this problem have such a quantity: regression has no accuracy."""
    return kind != "accuracy" or any(
        bool(np.isfinite(found).any()) for found in (course(run, "accuracy"), run.metrics["accuracy"])
    )


def _met(run: Run, target: Target, w: frozenset[str] | None) -> NDArray[np.bool_]:
    if target.kind == "epsilon":
        return larger_norms(run, w) < target.value
    values = course(run, target.kind)
    return values <= target.value if target.kind == "loss" else values >= target.value
