"""The paper's claims about N and about ANIL against MAML: held, refuted or undecided by the runs at hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.report.findings.claim import Claim
from harness.report.findings.costs import Measure, Target, course
from harness.report.findings.divergence import divergence
from harness.report.findings.factors import FactorRow, largest_L
from harness.report.findings.fewer import fewer
from harness.report.findings.groups import Group
from harness.report.findings.remedies import Remedy, further_steps, longer, measured_better, more_seeds
from harness.report.findings.results import GroupResult, MedianCost, at_chance, median_cost
from harness.report.findings.series import Series, series_of
from harness.report.findings.statistics import LEVEL, median
from harness.report.findings.targets import TRUSTED, Falling, Headline, Headlines, reached_by_all, trusted
from harness.report.findings.trends import Costs, Tested, falls_then_rises, rises, saturates
from harness.report.reading.documents import number
from harness.report.tables.cells import shown
from harness.theory.conditions import Steps, conditions, outer_loop

_SECTIONS = {"convex": "Theorem 1: convex inner loop", "nonconvex": "Theorem 2: nonconvex inner loop"}
_STEP_SIZES = ("inner_lr", "outer_lr_w", "outer_lr_phi")


@dataclass(frozen=True)
class _Trend:
    sentence: str
    geometry: str
    measure: Measure
    test: Callable[[Series, Costs, Measure, float], Tested]
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
    problem: str,
    results: Sequence[GroupResult],
    headlines: Headlines,
    factors: Sequence[FactorRow],
    level: float = LEVEL,
) -> list[Claim]:
    """Claims of the theorems, section 4 and Table 2 of Ji et al. about N, on one problem.

    The theorems are about epsilon; section 4 shows losses, so what has a direction is asked of a loss too, and of
    its fall since before training: every N has an L_meta of its own, which starts elsewhere. Unless a person gave
    targets, it is asked at the strictest that every seed at every N of a series reaches.
    """
    headline = headlines["epsilon"]
    asked: list[Falling] = ["epsilon", "loss"] if headlines["loss"].given else ["epsilon", "loss", "fall"]
    trends = [
        claim
        for trend in _TRENDS
        for kind in asked
        for claim in _trend(problem, trend, results, kind, headlines, level)
    ]
    factored = [
        fewer(problem, geometry, kind, [row for row in factors if row.geometry == geometry], headline, level)
        for geometry in ("convex", "nonconvex")
        for kind in ("gradient", "second-order")
    ]
    return [*dict.fromkeys(trends), *divergence(problem, results, level), *factored]


def _trend(
    problem: str, trend: _Trend, results: Sequence[GroupResult], kind: Falling, headlines: Headlines, level: float
) -> list[Claim]:
    """One claim for every series of the trend's geometry."""
    headline, section = headlines.get(kind, Headline(None, "no run falls")), _SECTIONS[trend.geometry]
    found = [each for each in series_of(results, trend.geometry) if len(each.steps) >= trend.fewest]
    groups = [result.group for result in results]
    if not found:
        missing = f"missing: ANIL {trend.geometry} runs at {trend.fewest} or more N that differ in nothing else"
        remedy = further_steps(missing, groups, trend.geometry)
        return [Claim(trend.sentence, "undecided", "", missing, problem, section=section, remedy=remedy)]
    made = []
    for series in found:
        mine = [result.group for result in series.results]
        measured = all(run.stationarity for group in mine for run in group.runs)
        members = [(result.group.by_seed.values(), None) for result in series.results]
        target = headline.target if headline.given else reached_by_all(kind, members) or headline.target
        if target is None:
            if kind != "fall":  # the same claim about a loss says why
                remedy = (longer if measured else measured_better)(headline.reason, mine)
                made.append(
                    Claim(trend.sentence, "undecided", "", headline.reason, problem, section=section, remedy=remedy)
                )
            continue
        costs = [median_cost(result.group.by_seed, target) for result in series.results]
        decided, text = trend.test(series, costs, trend.measure, level)
        medians = ", ".join(
            f"{shown(getattr(cost.median, trend.measure))} (N = {steps})"
            for steps, cost in zip(series.steps, costs, strict=True)
        )
        doubts = _doubts(series, target, costs)
        remedies = [mend(doubt, mine) for doubt, mend in doubts]
        detail = "; ".join(
            [
                f"at {target}, {series.name}; medians: {medians}",
                *_starts(series, target),
                *_equal_K(series, trend),
                *(doubt for doubt, _ in doubts),
            ]
        )
        name = f"K to {target}" if kind == "fall" else f"K({target})"
        sentence = trend.sentence.replace("the target", str(target)).replace("convex: K ", f"convex: {name} ")
        if not remedies and decided == "undecided":
            remedies = [more_seeds(mine, len(set.intersection(*(set(cost.found) for cost in costs))), level)]
        found_ = "undecided" if remedies else decided
        made.append(Claim(sentence, found_, text, detail, problem, _conditions(series), section, *remedies[:1]))
    return made


def _doubts(
    series: Series, target: Target, costs: Sequence[MedianCost]
) -> list[tuple[str, Callable[[str, Sequence[Group]], Remedy]]]:
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
