"""How cost changes with N along a series of groups: the claims of Theorems 1 and 2 that have a direction."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.report.findings.costs import Measure
from harness.report.findings.results import MedianCost, ratio_of
from harness.report.findings.series import Series
from harness.report.findings.statistics import LEVEL, Interval
from harness.report.findings.verdicts import Verdict, all_of, seeds_text, verdict
from harness.report.tables.cells import interval_text

#: to one target, for every N; a miss takes more than was spent, see :func:`ratio_of`
Costs = Sequence[MedianCost]
Tested = tuple[Verdict, str]
#: two K count as the same if neither is so many times the other
SAME = 1.25


def saturates(series: Series, costs: Costs, measure: Measure, level: float = LEVEL) -> Tested:
    """K is smaller at the last N than at the first, never rises after its least, and no longer changes at the end.

    That it no longer changes is shown by an interval of K at the last N but one over K at the last inside
    1/:data:`SAME` to :data:`SAME`, and refuted by one outside. A rise after the least refutes it, too.
    """
    least = min(range(len(costs)), key=lambda index: _median(costs[index], measure))
    fall = ratio_of(costs[0], costs[-1], measure, level)[0]
    rest = ratio_of(costs[-2], costs[-1], measure, level)[0]
    later = range(least + 1, len(costs))
    each = _each(level, len(later))
    climbs = {series.steps[j]: ratio_of(costs[j], costs[least], measure, each)[0] for j in later}
    risen = [steps for steps, ratio in climbs.items() if verdict(ratio, 1) == "held"]
    text = (
        f"K at N = {series.steps[0]} over K at N = {series.steps[-1]}: {interval_text(fall)}; K at "
        f"N = {series.steps[-2]} over K at N = {series.steps[-1]}: {interval_text(rest)}, the same within {SAME:g}"
    )
    if risen:
        text += f"; above its least, at N = {series.steps[least]}, again at N = {', '.join(map(str, risen))}"
    decided = "refuted" if risen else all_of([verdict(fall, 1), _same(rest)])
    return decided, f"{text}; {seeds_text(fall, rest)}"


def falls_then_rises(series: Series, costs: Costs, measure: Measure, level: float = LEVEL) -> Tested:
    """Some N between the first and the last costs less than both: the cheapest of them by its median."""
    best = min(range(1, len(costs) - 1), key=lambda index: _median(costs[index], measure))
    each = _each(level, len(costs) - 2)  # the cheapest of so many looks cheap by chance
    ratios = {end: ratio_of(costs[end], costs[best], measure, each)[0] for end in (0, -1)}
    text = "; ".join(
        f"cost at N = {series.steps[end]} over N = {series.steps[best]}: {interval_text(ratio)}"
        for end, ratio in ratios.items()
    )
    return all_of(verdict(ratio, 1) for ratio in ratios.values()), f"{text}; {seeds_text(*ratios.values())}"


def rises(series: Series, costs: Costs, measure: Measure, level: float = LEVEL) -> Tested:
    """The last N costs more than the first, and no N between them less than the first."""
    last = ratio_of(costs[-1], costs[0], measure, level)[0]
    each = _each(level, len(costs) - 1)  # any of so many refutes it
    ratios = [ratio_of(cost, costs[0], measure, each)[0] for cost in costs[1:]]
    cheaper = [steps for steps, found in zip(series.steps[1:], ratios, strict=True) if verdict(found, 1) == "refuted"]
    text = f"cost at N = {series.steps[-1]} over N = {series.steps[0]}: {interval_text(last)}"
    if cheaper:
        text += f"; below that of N = {series.steps[0]} at N = {', '.join(map(str, cheaper))}"
    decided: Verdict = "refuted" if cheaper else "held" if verdict(last, 1) == "held" else "undecided"
    return decided, f"{text}; {seeds_text(last)}"


def _same(ratio: Interval) -> Verdict:
    if not ratio.enough:
        return "undecided"
    if ratio.low >= 1 / SAME and ratio.high <= SAME:
        return "held"
    return "refuted" if ratio.low > SAME or ratio.high < 1 / SAME else "undecided"


def _each(level: float, comparisons: int) -> float:
    """Of each of several intervals of which any may decide, so that together they err in 1 - ``level`` (Bonferroni)."""
    return 1 - (1 - level) / max(1, comparisons)


def _median(cost: MedianCost, measure: Measure) -> float:
    value: float = getattr(cost.median, measure)
    return math.inf if math.isnan(value) else value
