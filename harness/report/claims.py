"""The paper's claims about N and about ANIL against MAML: held, refuted or undecided by the runs at hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.report.cells import interval_text, shown
from harness.report.costs import Measure
from harness.report.factors import Factor, FactorRow, fair
from harness.report.results import GroupResult
from harness.report.series import Series, series_of
from harness.report.statistics import median, share
from harness.report.targets import Falling, Headline, Headlines, reached_by_all
from harness.report.trends import Costs, Tested, falls_then_rises, rises, saturates
from harness.report.verdicts import Verdict, all_of, at_least, seeds_text, verdict

_LARGE_N = 30


@dataclass(frozen=True)
class Claim:
    """One claim on one problem. A verdict needs five shared seeds and an interval that excludes no effect."""

    sentence: str
    verdict: Verdict
    #: the statistic that decides, with its 95 % interval; empty where it could not be taken
    interval_text: str
    #: the numbers behind it, or which runs are missing
    detail: str
    problem: str = ""


@dataclass(frozen=True)
class _Trend:
    sentence: str
    geometry: str
    measure: Measure
    test: Callable[[Series, Costs], Tested]
    fewest: int


_SHAPE, _RISE = (
    "ANIL convex: {} to the target first fall, then rise with N",
    "ANIL nonconvex: {} to the target rise with N",
)
_TRENDS = (
    _Trend("ANIL convex: K falls with N and saturates", "convex", "iterations", saturates, 3),
    _Trend(_SHAPE.format("gradient entries"), "convex", "gradient_entries", falls_then_rises, 3),
    _Trend(_SHAPE.format("seconds"), "convex", "seconds", falls_then_rises, 3),
    _Trend(_RISE.format("gradient entries"), "nonconvex", "gradient_entries", rises, 2),
    _Trend(_RISE.format("seconds"), "nonconvex", "seconds", rises, 2),
)


def claims(
    problem: str, results: Sequence[GroupResult], headlines: Headlines, factors: Sequence[FactorRow], given: bool
) -> list[Claim]:
    """Every claim of the theorems, section 4 and Table 2 of Ji et al. on one problem.

    The theorems are about epsilon; section 4 shows losses, so what has a direction is asked of a loss too. Unless
    targets were ``given``, it is asked at the strictest that the median run at every N of a series reaches.
    """
    headline = headlines["epsilon"]
    kinds: list[Falling] = ["epsilon", "loss"] if headlines["loss"].target is not None else ["epsilon"]
    asked = [(headlines[kind], None if given else kind) for kind in kinds]
    trends = [claim for trend in _TRENDS for each in asked for claim in _trend(problem, trend, results, *each)]
    fewer = [
        _fewer(problem, geometry, kind, [row for row in factors if row.geometry == geometry], headline)
        for geometry in ("convex", "nonconvex")
        for kind in ("gradient", "second-order")
    ]
    return [*dict.fromkeys(trends), *_divergence(problem, results), *fewer]


def _trend(
    problem: str,
    trend: _Trend,
    results: Sequence[GroupResult],
    headline: Headline,
    own: Falling | None,
) -> list[Claim]:
    """One claim for every series of the trend's geometry."""
    found = [each for each in series_of(results, trend.geometry) if len(each.steps) >= trend.fewest]
    if not found:
        missing = f"missing: ANIL {trend.geometry} runs at {trend.fewest} or more N that differ in nothing else"
        return [Claim(trend.sentence, "undecided", "", missing, problem)]
    if headline.target is None:
        return [Claim(trend.sentence, "undecided", "", headline.reason, problem)]
    made = []
    for series in found:
        members = [(result.group.by_seed.values(), None) for result in series.results]
        target = (reached_by_all(own, members) if own else None) or headline.target
        costs = series.costs(target, trend.measure)
        decided, text = trend.test(series, costs)
        medians = {steps: float(median(list(cost.values()))) for steps, cost in zip(series.steps, costs, strict=True)}
        detail = f"at {target}, {series.name}; medians: " + ", ".join(
            f"{shown(value)} (N = {steps})" for steps, value in medians.items()
        )
        early = ", ".join(f"N = {steps}" for steps, value in medians.items() if value == 0)
        if early and trend.measure != "iterations":
            decided, detail = "undecided", f"{detail}; met before any training at {early}"
        if len(series.budgets) > 1 and any(math.isinf(value) for cost in costs for value in cost.values()):
            decided, detail = "undecided", f"{detail}; meta-iterations differ, so misses do not compare"
        sentence = trend.sentence.replace("the target", str(target)).replace("K falls", f"K({target}) falls")
        made.append(Claim(sentence, decided, text, detail, problem))
    return made


def _divergence(problem: str, results: Sequence[GroupResult]) -> list[Claim]:
    """One claim for every series with one step size that goes from a smaller N to 30 or more."""
    sentence = f"ANIL nonconvex diverges at N = {_LARGE_N} with the step size of smaller N"
    found = [
        series.results
        for series in series_of(results, "nonconvex")
        if series.steps[0] < _LARGE_N <= series.steps[-1]
        and len({result.group.same("inner_lr") for result in series.results}) == 1
    ]
    if not found:
        missing = f"missing: ANIL nonconvex runs with N = {_LARGE_N} and with a smaller N, all else equal"
        return [Claim(sentence, "undecided", "", missing, problem)]
    made = []
    for first, *_, last in found:
        small, large = (share(each.diverged, len(each.group.by_seed)) for each in (first, last))
        decided = verdict(large, 0.5)
        if decided == "held" and verdict(small, 0.5) != "refuted":
            decided = "undecided"
        text = f"share of seeds that diverged at N = {last.group.inner_steps}: {interval_text(large)} (Wilson)"
        detail = f"α = {last.group.same('inner_lr'):g}; diverged: " + ", ".join(
            f"{each.diverged} of {len(each.group.by_seed)} (N = {each.group.inner_steps})" for each in (first, last)
        )
        made.append(Claim(sentence, decided, f"{text}; {seeds_text(large)}", detail, problem))
    return made


def _fewer(problem: str, geometry: str, kind: str, rows: Sequence[FactorRow], headline: Headline) -> Claim:
    """Table 2's factor for one geometry and kind of entries, at every N that both methods have."""
    sentence = f"ANIL {geometry} needs fewer {kind} entries than MAML by at least the predicted factor"
    if not rows:
        missing = f"missing: ANIL {geometry} and MAML runs of one model at the same N"
        return Claim(sentence, "undecided", "", missing, problem)
    if headline.target is None:
        return Claim(sentence, "undecided", "", headline.reason, problem)
    found = [(row, row.gradient if kind == "gradient" else row.second_order) for row in rows]
    text = "; ".join(
        f"N = {row.inner_steps}, to {row.target}: {interval_text(factor.measured)}" for row, factor in found
    )
    predicted = (
        f"{'≥ ' if row.is_bound else ''}{shown(factor.predicted)} (N = {row.inner_steps})" for row, factor in found
    )
    detail = f"predicted: {', '.join(predicted)}"
    if any(row.is_bound for row in rows):
        detail += "; L was not measured, so (1 + κL)^N is taken as 1 and the prediction is a lower bound"
    least = min((factor.measured for _, factor in found), key=lambda interval: interval.seeds)
    decided = all_of(_at_least(row, factor) for row, factor in found)
    return Claim(sentence, decided, f"{text}; {seeds_text(least)}", detail, problem)


def _at_least(row: FactorRow, factor: Factor) -> Verdict:
    if not fair(row.anil, row.maml, factor.measured):
        return "undecided"
    found = at_least(factor.measured, factor.predicted)
    return "undecided" if found == "held" and row.is_bound else found
