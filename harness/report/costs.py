"""What it cost to reach a target: K(epsilon) of Definition 1, and iterations, seconds, entries and FLOPs with it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from harness.report.runs import Run

MEASURES = ("iterations", "seconds", "gradient_entries", "second_order_entries", "flops")


@dataclass(frozen=True)
class Target:
    """What has to be reached on the fixed tasks: both squared norms below ``value``, a loss, or an accuracy."""

    kind: Literal["epsilon", "loss", "accuracy"]
    value: float

    def __str__(self) -> str:
        return {"epsilon": "ε = {:g}", "loss": "loss ≤ {:g}", "accuracy": "accuracy ≥ {:.1%}"}[self.kind].format(
            self.value
        )


@dataclass(frozen=True)
class Cost:
    """What a run had spent when it first met a target; infinity everywhere where it never did.

    ``gradient_entries`` and ``second_order_entries`` are sums over all tasks up to then (Table 2).
    """

    iterations: float = math.inf
    seconds: float = math.inf
    gradient_entries: float = math.inf
    second_order_entries: float = math.inf
    flops: float = math.inf


def cost_to(run: Run, target: Target, w: Iterable[str] | None = None) -> Cost:
    """The cost of ``run`` at its first measurement that meets ``target``.

    ``w`` names the parameters of the adapted block on which the partial norms are taken, the rest being phi:
    for MAML those of the ANIL it is compared with (Definition 1 knows two blocks); the run's own by default.
    Measurements lie ``stationarity_every`` iterations apart, so K(epsilon) is known up to that.
    """
    block = None if w is None else frozenset(w)
    for line in run.stationarity:
        if _meets(line, target, block):
            flops = run.summary.get("flops_per_iteration")
            counts = line["counts"]
            return Cost(
                line["iteration"],
                line["seconds"],
                counts["gradient_entries"],
                counts["second_order_entries"],
                math.nan if flops is None else flops * line["iteration"],
            )
    return Cost()


def squared_norms(line: dict, w: frozenset[str] | None = None) -> tuple[float, float]:  # type: ignore[type-arg]
    """Squared norms of the partial meta-gradients in ``w`` and in the rest, of one line; NaN where not finite."""
    if w is None:
        return _number(line["grad_w_squared_norm"]), _number(line["grad_phi_squared_norm"])
    parts = {name: _number(value) for name, value in line["squared_norms"].items()}
    in_w = math.fsum(value for name, value in parts.items() if name in w)
    return in_w, math.fsum(value for name, value in parts.items() if name not in w)


def _meets(line: dict, target: Target, w: frozenset[str] | None) -> bool:  # type: ignore[type-arg]
    if target.kind == "epsilon":
        return all(norm < target.value for norm in squared_norms(line, w))
    value = _number(line[target.kind])
    return value <= target.value if target.kind == "loss" else value >= target.value


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
