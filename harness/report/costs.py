"""What it cost to reach a target: K(epsilon) of Definition 1, and iterations, seconds, entries and FLOPs with it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import InputError
from harness.report.documents import number
from harness.report.runs import Run

Measure = Literal["iterations", "seconds", "gradient_entries", "second_order_entries", "flops"]
MEASURES: tuple[Measure, ...] = ("iterations", "seconds", "gradient_entries", "second_order_entries", "flops")


@dataclass(frozen=True)
class Target:
    """What has to be reached on the fixed tasks: both squared norms below ``value``, a loss, or an accuracy."""

    kind: Literal["epsilon", "loss", "accuracy"]
    value: float

    def __str__(self) -> str:
        return {"epsilon": "ε = {:g}", "loss": "loss ≤ {:g}", "accuracy": "accuracy ≥ {:.1%}"}[self.kind].format(
            self.value
        )


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


def cost_to(run: Run, target: Target, w: Iterable[str] | None = None) -> Cost:
    """The cost of ``run`` at its first measurement that meets ``target``.

    ``w`` names the parameters of the adapted block on which the partial norms are taken, the rest being phi:
    for MAML those of the ANIL it is compared with (Definition 1 knows two blocks); the run's own by default.
    Measurements lie ``stationarity_every`` iterations apart, so K(epsilon) is known up to that.
    Raises :class:`InputError` where the run has no such parameters.
    """
    met = _met(run, target, None if w is None else frozenset(w))
    if not met.any():
        return Cost() if measured_to_end(run) and _has(run, target.kind) else UNKNOWN
    line = run.stationarity[int(np.argmax(met))]
    counts = line["counts"]
    return Cost(
        line["iteration"],
        number(line["seconds"]),
        counts["gradient_entries"],
        counts["second_order_entries"],
        run.number("flops_per_iteration") * line["iteration"],
    )


def measured_to_end(run: Run) -> bool:
    """Whether ``stationarity.jsonl`` covers all that a run can have: then a target not met was not reached."""
    if not run.stationarity:
        return False
    last: float = run.stationarity[-1]["iteration"]
    return run.summary["status"] != "completed" or bool(last == run.summary["iterations"])


def has_block(run: Run, w: Iterable[str]) -> bool:
    """Whether the partial norms of ``run`` can be taken on the block of these parameters."""
    return bool(block := frozenset(w)) and all(block <= line["squared_norms"].keys() for line in run.stationarity[:1])


def squared_norms(line: Mapping[str, Any], w: frozenset[str] | None = None) -> tuple[float, float]:
    """Squared norms of the partial meta-gradients in ``w`` and in the rest, of one line; NaN where not finite."""
    if w is None:
        return number(line["grad_w_squared_norm"]), number(line["grad_phi_squared_norm"])
    parts = {name: number(value) for name, value in line["squared_norms"].items()}
    if not w <= parts.keys():
        return math.nan, math.nan
    in_w = math.fsum(value for name, value in parts.items() if name in w)
    return in_w, math.fsum(value for name, value in parts.items() if name not in w)


def larger_norms(run: Run, w: frozenset[str] | None = None) -> NDArray[np.float64]:
    """The larger of both squared norms at each measurement ``[lines]``: Definition 1 asks that it be below epsilon."""
    key = ("larger_norms", w)
    if key not in run.cache:
        if w is not None and run.stationarity and not has_block(run, w):
            raise InputError(f"{run.path}: parameters {', '.join(sorted(w))} are not those of this run's model")
        pairs = np.array([squared_norms(line, w) for line in run.stationarity]).reshape(-1, 2)
        run.cache[key] = pairs.max(axis=1, initial=-math.inf)
    found: NDArray[np.float64] = run.cache[key]
    return found


def course(run: Run, kind: Literal["loss", "accuracy"]) -> NDArray[np.float64]:
    """Loss or accuracy on the fixed tasks at each measurement ``[lines]``."""
    if kind not in run.cache:
        run.cache[kind] = np.array([number(line[kind]) for line in run.stationarity])
    found: NDArray[np.float64] = run.cache[kind]
    return found


def _has(run: Run, kind: str) -> bool:
    """Whether runs of this problem have such a quantity: regression has no accuracy."""
    return kind != "accuracy" or bool(np.isfinite(course(run, "accuracy")).any())


def _met(run: Run, target: Target, w: frozenset[str] | None) -> NDArray[np.bool_]:
    if target.kind == "epsilon":
        return larger_norms(run, w) < target.value
    values = course(run, target.kind)
    return values <= target.value if target.kind == "loss" else values >= target.value
