"""Whether the theorem that a claim is taken from speaks of a series of runs: its optimizer, step sizes, mu and L."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from harness.report.findings.factors import largest_L
from harness.report.findings.series import Series
from harness.report.reading.documents import number
from harness.theory.conditions import TOLERANCE, Conditions, Steps, conditions, outer_loop

_STEP_SIZES = ("inner_lr", "outer_lr_w", "outer_lr_phi")


@dataclass(frozen=True)
class Outside:
    """What was found of one series."""

    #: whether a claim that asks for such steps is about it
    meant: bool
    #: in sentences; empty where the step sizes are not known
    text: str
    condition_number: float


def outside(series: Series, asked: Literal["theorem", "alpha", "other", "any"]) -> Outside:
    """``asked``: all steps and the optimizer of the theorem, its inner step alone, any but all of them, or whatever."""
    found = _conditions(series)
    if found is None:
        return Outside(asked in ("other", "any"), "", math.nan)
    alpha = _alpha_holds(found)
    meant = {"theorem": found.holds, "alpha": alpha, "other": not found.holds, "any": True}[asked]
    sentences = [found.sentence, found.effect]
    if asked == "alpha":
        name = "α = μ/L², as Proposition 2 has it" if found.theorem == 1 else "α ≤ 1/(NL), as Proposition 3 has it"
        sentences = [f"{name}; Assumptions 1 and 2 are not checked", found.effect]
    return Outside(meant, " ".join(f"{sentence}." for sentence in sentences if sentence), found.condition_number)


def _conditions(series: Series) -> Conditions | None:
    first = series.results[0].group
    steps = [
        Steps(result.group.inner_steps, *(number(result.group.setting.get(name)) for name in _STEP_SIZES))
        for result in series.results
    ]
    if not all(step > 0 for each in steps for step in (each.inner_lr, each.outer_lr_w, each.outer_lr_phi)):
        return None
    options = [first.setting.get(name) for name in ("algo_options", "benchmark_options")]
    # lambda bounds mu from below; quadratic tasks state their own
    stated = [number(part.get(name)) for part in options if isinstance(part, dict) for name in ("l2", "mu")]
    mu = math.fsum(value for value in stated if value > 0)
    known = [value for result in series.results if (value := largest_L(list(result.group.by_seed.values()))) > 0]
    optimizer = outer_loop(first.setting)
    L = max(known, default=math.nan)
    return conditions(first.algorithm, first.geometry, optimizer, steps, L=L, mu=mu or math.nan)


def _alpha_holds(found: Conditions) -> bool:
    """Within the tolerance of the theorem's alpha for every N; Theorem 2's is an upper bound."""
    if not found.alpha_ratio > 0:
        return False
    far = math.log(found.alpha_ratio)
    return (abs(far) if found.theorem == 1 else far) <= math.log1p(TOLERANCE)
