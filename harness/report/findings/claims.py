"""The paper's claims about N and about ANIL against MAML: held, refuted or undecided by the runs at hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.report.findings.claim import Claim
from harness.report.findings.costs import Measure, Target, course
from harness.report.findings.divergence import divergence
from harness.report.findings.factors import Factor, FactorRow, largest_L
from harness.report.findings.results import GroupResult, MedianCost, at_chance, median_cost
from harness.report.findings.series import Series, series_of
from harness.report.findings.statistics import median
from harness.report.findings.targets import TRUSTED, Falling, Headline, Headlines, reached_by_all, trusted
from harness.report.findings.trends import Costs, Tested, falls_then_rises, rises, saturates
from harness.report.findings.verdicts import Verdict, all_of, at_least, seeds_text
from harness.report.reading.documents import number
from harness.report.tables.cells import interval_text, shown
from harness.theory.conditions import Steps, conditions, factor_condition, outer_loop

_STEP_SIZES = ("inner_lr", "outer_lr_w", "outer_lr_phi")


@dataclass(frozen=True)
class _Trend:
    sentence: str
    geometry: str
    measure: Measure
    test: Callable[[Series, Costs, Measure], Tested]
    fewest: int


_SHAPE, _RISE = (
    "ANIL convex: {} to the target first fall, then rise with N",
    "ANIL nonconvex: {} to the target rise with N",
)
_TRENDS = (
    _Trend("ANIL convex: K falls with N and saturates", "convex", "iterations", saturates, 3),
    _Trend(_SHAPE.format("gradient entries"), "convex", "gradient_entries", falls_then_rises, 3),
    _Trend(_SHAPE.format("seconds"), "convex", "seconds", falls_then_rises, 3),
    _Trend("ANIL nonconvex: K rises with N", "nonconvex", "iterations", rises, 2),
    _Trend(_RISE.format("gradient entries"), "nonconvex", "gradient_entries", rises, 2),
    _Trend(_RISE.format("seconds"), "nonconvex", "seconds", rises, 2),
)


def claims(
    problem: str, results: Sequence[GroupResult], headlines: Headlines, factors: Sequence[FactorRow]
) -> list[Claim]:
    """Claims of the theorems, section 4 and Table 2 of Ji et al. about N, on one problem.

    The theorems are about epsilon; section 4 shows losses, so what has a direction is asked of a loss too, and of
    its fall since before training: every N has an L_meta of its own, which starts elsewhere. Unless a person gave
    targets, it is asked at the strictest that every seed at every N of a series reaches.
    """
    headline = headlines["epsilon"]
    asked: list[Falling] = ["epsilon", "loss"] if headlines["loss"].given else ["epsilon", "loss", "fall"]
    trends = [
        claim for trend in _TRENDS for kind in asked for claim in _trend(problem, trend, results, kind, headlines)
    ]
    fewer = [
        _fewer(problem, geometry, kind, [row for row in factors if row.geometry == geometry], headline)
        for geometry in ("convex", "nonconvex")
        for kind in ("gradient", "second-order")
    ]
    return [*dict.fromkeys(trends), *divergence(problem, results), *fewer]


def _trend(
    problem: str, trend: _Trend, results: Sequence[GroupResult], kind: Falling, headlines: Headlines
) -> list[Claim]:
    """One claim for every series of the trend's geometry."""
    headline = headlines.get(kind, Headline(None, "no run falls"))
    found = [each for each in series_of(results, trend.geometry) if len(each.steps) >= trend.fewest]
    if not found:
        missing = f"missing: ANIL {trend.geometry} runs at {trend.fewest} or more N that differ in nothing else"
        return [Claim(trend.sentence, "undecided", "", missing, problem)]
    made = []
    for series in found:
        members = [(result.group.by_seed.values(), None) for result in series.results]
        target = headline.target if headline.given else reached_by_all(kind, members) or headline.target
        if target is None:
            if kind != "fall":  # the same claim about a loss says why
                made.append(Claim(trend.sentence, "undecided", "", headline.reason, problem))
            continue
        costs = [median_cost(result.group.by_seed, target) for result in series.results]
        decided, text = trend.test(series, costs, trend.measure)
        medians = ", ".join(
            f"{shown(getattr(cost.median, trend.measure))} (N = {steps})"
            for steps, cost in zip(series.steps, costs, strict=True)
        )
        doubts = _doubts(series, target, costs)
        detail = "; ".join(
            [
                f"at {target}, {series.name}; medians: {medians}",
                *_starts(series, target),
                *_equal_K(series, trend),
                *doubts,
            ]
        )
        name = f"K to {target}" if kind == "fall" else f"K({target})"
        sentence = trend.sentence.replace("the target", str(target)).replace("convex: K ", f"convex: {name} ")
        made.append(Claim(sentence, "undecided" if doubts else decided, text, detail, problem, _conditions(series)))
    return made


def _doubts(series: Series, target: Target, costs: Sequence[MedianCost]) -> list[str]:
    """Why costs to ``target`` decide nothing, where they do not."""
    named = list(zip(series.steps, series.results, costs, strict=True))
    early = [f"N = {steps}" for steps, _, cost in named if 0 in cost.by_seed("iterations").values()]
    by_chance = [f"N = {steps}" for steps, result, cost in named if cost.reached and at_chance(result.group, cost)]
    coarse = [f"N = {steps}" for steps, _, cost in named if not trusted(target, cost)]
    told = {
        "some seed met it before any training at {}": early,
        "nothing had been learnt when it was met at {}": by_chance if target.kind == "epsilon" else [],
        f"below {TRUSTED:g} standard errors of what was measured, or measured with noise, at {{}}": coarse,
    }
    return [words.format(", ".join(where)) for words, where in told.items() if where]


def _conditions(series: Series) -> str:
    """Whether Theorem 1 or 2 speaks of these runs, in sentences; empty where their step sizes are not known."""
    first = series.results[0].group
    steps = [
        Steps(result.group.inner_steps, *(number(result.group.setting.get(name)) for name in _STEP_SIZES))
        for result in series.results
    ]
    if not all(step > 0 for each in steps for step in (each.inner_lr, each.outer_lr_w, each.outer_lr_phi)):
        return ""
    options = [first.setting.get(name) for name in ("algo_options", "benchmark_options")]
    # lambda bounds mu from below; quadratic tasks state their own
    stated = [number(part.get(name)) for part in options if isinstance(part, dict) for name in ("l2", "mu")]
    mu = math.fsum(value for value in stated if value > 0)
    known = [value for result in series.results if (value := largest_L(list(result.group.by_seed.values()))) > 0]
    optimizer = outer_loop(first.setting)
    found = conditions(
        first.algorithm, first.geometry, optimizer, steps, L=max(known, default=math.nan), mu=mu or math.nan
    )
    return " ".join(f"{sentence}." for sentence in (found.sentence, found.effect) if sentence)


def _starts(series: Series, target: Target) -> list[str]:
    """A loss is that of another L_meta for every N, which starts elsewhere."""
    if target.kind != "loss":
        return []
    starts = [
        median([float(course(run, "loss")[0]) for run in result.group.by_seed.values() if run.stationarity])
        for result in series.results
    ]
    named = ", ".join(f"{shown(float(start))} (N = {steps})" for steps, start in zip(series.steps, starts, strict=True))
    return [f"each N has an L_meta of its own, before training: {named}"]


def _equal_K(series: Series, trend: _Trend) -> list[str]:
    """What counting alone gives: entries rise with N wherever K does not fall as fast."""
    if trend.measure != "gradient_entries":
        return []
    first, last = (
        result.group.runs[0].number("counts_per_task", trend.measure)
        for result in (series.results[0], series.results[-1])
    )
    return [f"at equal K they would rise {shown(last / first)} times"] if first else []


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
        f"N = {row.inner_steps}, to {row.target}: {factor.is_} {interval_text(factor.measured)}".replace(":  ", ": ")
        for row, factor in found
    )
    predicted = (
        f"{'≥ ' if row.is_bound else ''}{shown(factor.predicted)} (N = {row.inner_steps})" for row, factor in found
    )
    detail = f"predicted: {', '.join(predicted)}"
    if any(row.is_bound for row in rows):
        detail += "; L was not measured, so (1 + κL)^N is taken as 1 and the prediction is a lower bound"
    if doubts := [f"{row.doubt} (N = {row.inner_steps})" for row in rows if row.doubt]:
        detail += "; " + ", ".join(doubts)
    outside = [
        f"{said[0].upper()}{said[1:]} (N = {row.inner_steps})."
        for row in rows
        if (said := factor_condition(geometry, row.inner_steps, number(row.maml.setting.get("inner_lr"))))
    ]
    text += f"; {seeds_text(*(factor.measured for _, factor in found))}"
    decided = all_of(_at_least(row, factor) for row, factor in found)
    return Claim(sentence, decided, text, detail, problem, " ".join(outside))


def _at_least(row: FactorRow, factor: Factor) -> Verdict:
    if row.doubt:
        return "undecided"
    found = at_least(factor.measured, factor.predicted)
    return "undecided" if found == "held" and row.is_bound else found
