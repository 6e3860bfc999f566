"""What a claim measures of runs: costs to a target, secants of the meta-gradient, squared norms, divergence."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np

from harness.report.findings.costs import Measure, Target, course
from harness.report.findings.descent import descent
from harness.report.findings.entries import Quantity
from harness.report.findings.line import Doubt, Line
from harness.report.findings.norms import larger_norms, partial_norms
from harness.report.findings.remedies import longer, measured_better, more_often
from harness.report.findings.results import GroupResult, MedianCost, at_chance, median_cost
from harness.report.findings.rows import Row
from harness.report.findings.series import Series
from harness.report.findings.statistics import median
from harness.report.findings.targets import TRUSTED, trusted
from harness.report.findings.trends import SAME
from harness.report.reading.documents import number
from harness.report.reading.runs import Run
from harness.report.tables.cells import shown

_COSTS: dict[Quantity, Measure] = {
    "iterations": "iterations",
    "gradient_entries": "gradient_entries",
    "second_order_entries": "second_order_entries",
    "seconds": "seconds",
}
#: how numbers of a quantity are called
WORDS = {"iterations": "K", "smoothness_w": "secant", "smoothness_phi": "secant"}
_ERRORS = {"error": slice(0, 2), "error_w": slice(0, 1), "error_phi": slice(1, 2)}
_GONE = ("not finite", "did not come down")


def is_cost(quantity: Quantity) -> bool:
    """Whether it is spent until a target is met."""
    return quantity in _COSTS


def cost_line(series: Series, target: Target, quantity: Quantity) -> Line:
    """What every N of a series takes to ``target``."""
    measure = _COSTS[quantity]
    costs = [median_cost(result.group.by_seed, target) for result in series.results]
    medians = ", ".join(
        f"{shown(getattr(cost.median, measure))} (N = {steps})" for steps, cost in zip(series.steps, costs, strict=True)
    )
    doubts = _doubts(series, target, costs)
    detail = (
        f"at {target}, {series.name}; medians: {medians}",
        *_starts(series, target),
        *_equal_K(series, measure),
        *(doubt for doubt, _ in doubts),
    )
    rows = tuple(cost.row(measure) for cost in costs)
    groups = tuple(result.group for result in series.results)
    points, word = tuple(map(float, series.steps)), WORDS.get(quantity, "cost")
    coarse = _coarse(series, costs)
    return Line(points, rows, groups, word, target=target, detail=detail, doubts=tuple(doubts), coarse=coarse)


def measured(series: Series, quantity: Quantity, points: tuple[float, ...]) -> Line:
    """A quantity that no target is needed for, at every point of a series."""
    groups = tuple(result.group for result in series.results)
    each = _diverged if quantity == "diverged" else partial(_error if quantity in _ERRORS else _secant, quantity)
    rows = tuple(Row.known({seed: each(run) for seed, run in group.by_seed.items()}) for group in groups)
    word, doubts = WORDS.get(quantity, "squared norm"), list[Doubt]()
    if quantity == "diverged":
        counted = [Counter(map(descent, groups[end].by_seed.values())) for end in (0, -1)]
        detail = f"α = {groups[-1].same('inner_lr'):g}; training loss, see docs: " + ", ".join(
            f"{count} {what} (N = {steps:g})"
            for steps, words in zip((points[0], points[-1]), counted, strict=True)
            for what, count in sorted(words.items())
        )
        groups = (groups[0], groups[-1])
    else:
        medians = ", ".join(f"{shown(row.middle)} ({point:g})" for point, row in zip(points, rows, strict=True))
        detail = f"{series.name}; medians: {medians}"
        if not all(value > 0 for row in rows for value in row.values.values()):
            doubts.append((f"some {word} was not measured, or is not above its noise", measured_better))
            detail += f"; {doubts[0][0]}"
    return Line(points, rows, groups, word, detail=(detail,), doubts=tuple(doubts))


def course_of(result: GroupResult, share: float) -> Row:
    """The mean of the larger squared norm up to this share of each run's iterations; NaN where it is not positive."""

    def average(run: Run) -> float:
        last = share * run.summary.iterations
        kept = [line["iteration"] <= last for line in run.stationarity]
        return _positive(larger_norms(run)[np.array(kept, dtype=bool)])

    return Row.known({seed: average(run) for seed, run in result.group.by_seed.items()})


def geometric(rows: Sequence[Row]) -> Row:
    """Geometric means of several rows, seed by seed, on the seeds that all have."""
    product = rows[0]
    for row in rows[1:]:
        product = product * row
    root = 1 / len(rows)
    return Row(*({seed: value**root for seed, value in part.items()} for part in product))


def _secant(quantity: Quantity, run: Run) -> float:
    """The median over a run: each is a lower bound of a Lipschitz constant, along where it went."""
    found = [value for line in run.stationarity if (value := number(line.get(quantity))) > 0]
    return float(np.median(found)) if found else math.nan


def _error(quantity: Quantity, run: Run) -> float:
    """The mean of the larger squared norm in the second half of a run, or of one block over all of it, as in the rates.

    One below its standard error counts as that: then no fall looks larger than what was measured can show.
    """
    norms, block = partial_norms(run), _ERRORS[quantity]
    part = slice(len(norms.values) // 2 if quantity == "error" else 0, None)
    value, error = (
        _positive(each[part, block].max(axis=1, initial=-math.inf)) for each in (norms.values, norms.errors)
    )
    return error if math.isnan(value) or error > value else value


def _diverged(run: Run) -> float:
    found = descent(run)
    return math.nan if found == "undecided" else float(found in _GONE)


def _positive(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    found = float(np.mean(values)) if values.size else math.nan
    return found if found > 0 else math.nan


def _doubts(series: Series, target: Target, costs: Sequence[MedianCost]) -> list[Doubt]:
    """Why costs to ``target`` decide nothing, where they do not, and what would."""
    named = list(zip(series.steps, series.results, costs, strict=True))
    early = [f"N = {steps}" for steps, _, cost in named if 0 in cost.by_seed("iterations").values()]
    by_chance = [f"N = {steps}" for steps, result, cost in named if cost.reached and at_chance(result.group, cost)]
    coarse = [f"N = {steps}" for steps, _, cost in named if not trusted(target, cost)]
    told = {
        "some seed met it before any training at {}": (early, longer),
        "nothing had been learnt when it was met at {}": (by_chance if target.kind == "epsilon" else [], longer),
        f"below {TRUSTED:g} standard errors of what was measured, or measured with noise, at {{}}": (
            coarse,
            measured_better,
        ),
    }
    return [(words.format(", ".join(where)), mend) for words, (where, mend) in told.items() if where]


def _coarse(series: Series, costs: Sequence[MedianCost]) -> Doubt | None:
    """K is known up to the iterations between two measurements; where that is much of it, ties are of the grid."""
    for steps, result, cost in zip(series.steps, series.results, costs, strict=True):
        every, K = number(result.group.setting.get("stationarity_every")), cost.median.iterations
        if every > (SAME - 1) * K:
            return f"measured every {every:g} iterations, too seldom to tell a quarter of K at N = {steps}", more_often
    return None


def _starts(series: Series, target: Target) -> list[str]:
    """A loss is that of another L_meta for every N, which starts elsewhere."""
    if target.kind != "loss":
        return []
    losses = [
        [float(course(run, "loss")[0]) for run in result.group.by_seed.values() if run.stationarity]
        for result in series.results
    ]
    starts = [median(each) if each else math.nan for each in losses]
    named = ", ".join(f"{shown(float(start))} (N = {steps})" for steps, start in zip(series.steps, starts, strict=True))
    return [f"each N has an L_meta of its own, before training: {named}"]


def _equal_K(series: Series, measure: Measure) -> list[str]:
    """What counting alone gives: entries rise with N wherever K does not fall as fast."""
    if not measure.endswith("entries"):
        return []
    first, last = (
        result.group.runs[0].number("counts_per_task", measure) for result in (series.results[0], series.results[-1])
    )
    return [f"at equal K they would rise {shown(last / first)} times"] if first else []
