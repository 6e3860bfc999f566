"""How cost changes with N along a series of groups: the claims of Theorems 1 and 2 that have a direction."""

from __future__ import annotations

import math

import numpy as np

from harness.report.cells import interval_text
from harness.report.series import Series
from harness.report.statistics import Values, generator, median, paired, paired_ratio
from harness.report.verdicts import Verdict, all_of, seeds_text, verdict

#: for every N the cost of each seed
Costs = list[dict[int, float]]
Tested = tuple[Verdict, str]


def saturates(series: Series, costs: Costs) -> Tested:
    """K is smaller at the last N than at the first, and falls less per inner step at the end than at the start."""
    steps = np.array(series.steps, dtype=float)

    def flattening(values: Values) -> Values:
        with np.errstate(invalid="ignore"):
            falls: Values = -np.diff(median(values), axis=-1) / np.diff(steps)
            return np.asarray(falls[..., 0] - falls[..., -1])

    fall, flat = paired_ratio(costs[0], costs[-1], generator()), paired(costs, flattening, generator())
    text = (
        f"K at N = {series.steps[0]} over K at N = {series.steps[-1]}: {interval_text(fall)}; "
        f"fall of K per inner step, first less last: {interval_text(flat)}; {seeds_text(fall)}"
    )
    return all_of([verdict(fall, 1), verdict(flat, 0)]), text


def falls_then_rises(series: Series, costs: Costs) -> Tested:
    """Some N between the first and the last costs less than both: the cheapest of them by its median."""
    best = min(range(1, len(costs) - 1), key=lambda index: _median(costs[index]))
    ratios = {end: paired_ratio(costs[end], costs[best], generator()) for end in (0, -1)}
    text = "; ".join(
        f"cost at N = {series.steps[end]} over N = {series.steps[best]}: {interval_text(ratio)}"
        for end, ratio in ratios.items()
    )
    return all_of(verdict(ratio, 1) for ratio in ratios.values()), f"{text}; {seeds_text(ratios[0])}"


def rises(series: Series, costs: Costs) -> Tested:
    """The last N costs more than the first, and no N between them less than the first."""
    ratios = [paired_ratio(cost, costs[0], generator()) for cost in costs[1:]]
    verdicts = [verdict(ratio, 1) for ratio in ratios]
    cheaper = [steps for steps, found in zip(series.steps[1:], verdicts, strict=True) if found == "refuted"]
    text = f"cost at N = {series.steps[-1]} over N = {series.steps[0]}: {interval_text(ratios[-1])}"
    if cheaper:
        text += f"; below that of N = {series.steps[0]} at N = {', '.join(map(str, cheaper))}"
    return "refuted" if cheaper else verdicts[-1], f"{text}; {seeds_text(ratios[-1])}"


def _median(costs: dict[int, float]) -> float:
    return float(median(list(costs.values()))) if costs else math.inf
