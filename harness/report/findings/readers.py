"""From an entry of the list of claims to the lines of numbers that its statistic is taken on, one a series of runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from harness.report.findings.chosen import Lacking, World, alpha_of, chosen_series, missing, points_of
from harness.report.findings.costs import Target
from harness.report.findings.entries import Entry
from harness.report.findings.line import Line
from harness.report.findings.outside import outside
from harness.report.findings.quantities import cost_line, course_of, geometric, is_cost, measured
from harness.report.findings.remedies import Remedy, longer, measured_better
from harness.report.findings.results import median_cost
from harness.report.findings.series import Series, batches_of, series_of
from harness.report.findings.targets import Falling, Headline, reached_by_all

#: shares of a run, over whose beginning squared norms are averaged
_SHARES = (0.125, 0.25, 0.5, 1.0)
_EPSILONS = (8.0, 4.0, 2.0, 1.0)

Read = Line | Lacking


def series(entry: Entry, world: World) -> Iterator[Read]:
    """The quantity at every N of each series; a cost once for each kind of target."""
    found = list(chosen_series(entry, world))
    if not found:
        yield from missing(entry, world)
    for each, said in found:
        for line in _of_series(entry, world, each):
            if isinstance(line, Lacking):
                yield line
                continue
            chosen = line.at(*points_of(entry, each))
            if chosen is not None:
                yield replace(chosen, conditions=said.text if entry.quantity[0] != "diverged" else "")


def batches(entry: Entry, world: World) -> Iterator[Read]:
    """What is left of the larger squared norm in the second half, at every B."""
    found = batches_of(world.results, entry.geometry[0])
    if not found:
        why = f"missing: ANIL {entry.geometry[0]} runs with SGD that differ in the meta-batch B alone"
        yield Lacking(why, Remedy(why))
    for each in found:
        line = measured(each, "error", tuple(float(result.group.same("meta_batch")) for result in each.results))
        yield replace(line, axis="B", conditions=outside(each, "any").text)


def along_k(entry: Entry, world: World) -> Iterator[Read]:
    """The mean of the larger squared norm up to an eighth, a quarter, a half and all of K, over the N of a series."""
    found = list(chosen_series(entry, world))
    if not found:
        yield from missing(entry, world)
    for each, said in found:
        rows = [geometric([course_of(result, share) for result in each.results]) for share in _SHARES]
        iterations = max(result.group.runs[0].summary.iterations for result in each.results)
        points = tuple(share * iterations for share in _SHARES)
        groups = tuple(result.group for result in each.results)
        detail = (f"{each.name}; geometric mean over N = {', '.join(map(str, each.steps))}",)
        yield Line(points, tuple(rows), groups, "mean squared norm", "K", detail=detail, conditions=said.text)


def along_epsilon(entry: Entry, world: World) -> Iterator[Read]:
    """The cost to ε, 2 ε, 4 ε and 8 ε, from the strictest that every seed reaches, over the N of a series."""
    found = list(chosen_series(entry, world))
    if not found:
        yield from missing(entry, world)
    for each, said in found:
        groups = tuple(result.group for result in each.results)
        least = _target(world, each, "epsilon")
        if isinstance(least, Lacking):
            yield least
            continue
        targets = [Target("epsilon", times * least.value) for times in _EPSILONS]
        costs = [[median_cost(group.by_seed, target) for group in groups] for target in targets]
        late = [  # what is met before training, or by some seed alone, has no place on a line
            index
            for index, row in enumerate(costs)
            if all(0 < value < math.inf for cost in row for value in cost.by_seed("iterations").values())
        ]
        if len(late) < 3:
            why = "fewer than three ε, each twice the one before, that no seed meets before training"
            yield Lacking(why, longer(why, groups))
            continue
        rows = [geometric([cost.row("gradient_entries") for cost in costs[index]]) for index in late]
        points = tuple(1 / targets[index].value for index in late)
        detail = (f"ε = {targets[late[0]].value:g} to {targets[late[-1]].value:g}, {each.name}",)
        yield Line(points, tuple(rows), groups, "cost", "1/ε", detail=detail, conditions=said.text)


def step_sizes(entry: Entry, world: World) -> Iterator[Read]:
    """Series with one α against series whose α falls with N, at the largest N that both have."""
    every = series_of(world.results, entry.geometry[0])
    constant = [each for each in every if len({alpha_of(result) for result in each.results}) == 1]
    falling = [each for each in every if _falls_like_1_over_N(each)]
    pairs = [(one, other) for one in constant for other in falling if set(one.steps) & set(other.steps) - {1}]
    if not pairs:
        why = "missing: ANIL nonconvex runs with α ~ 1/N and with the α of small N, at the same N"
        yield Lacking(why, Remedy(why))
    for one, other in pairs:
        last = max({*one.steps} & {*other.steps})
        mine, theirs = (next(r for r in each.results if r.group.inner_steps == last) for each in (other, one))
        alphas = alpha_of(theirs), alpha_of(mine)
        for line in _of_series(entry, world, Series((theirs, mine), f"N = {last}")):
            yield line if isinstance(line, Lacking) else replace(line, points=alphas, axis="α")


def geometries(entry: Entry, world: World) -> Iterator[Read]:
    """A convex series against a nonconvex one, at the N of both."""
    convex, nonconvex = (series_of(world.results, geometry) for geometry in ("convex", "nonconvex"))
    pairs = [(a, b) for a in convex for b in nonconvex if len({*a.steps} & {*b.steps}) > 1]
    if not pairs:
        why = "missing: convex and nonconvex ANIL at the same two N or more"
        yield Lacking(why, Remedy(why))
    for pair in pairs:
        shared = tuple(float(n) for n in sorted({*pair[0].steps} & {*pair[1].steps}))
        for kind in _asked(entry, world):
            one, other = (next(iter(_costs(entry, world, each, kind)), None) for each in pair)
            if isinstance(one, Line) and isinstance(other, Line):
                a, b = one.at(*shared), other.at(*shared)
                if a is None or b is None:
                    continue
                detail = tuple(f"{name}: {line.detail[0]}" for name, line in (("convex", a), ("nonconvex", b)))
                groups, doubts = (*a.groups, *b.groups), (*a.doubts, *b.doubts)
                yield replace(a, groups=groups, detail=detail, doubts=doubts, against=b.rows, conditions="")
            elif kind == "epsilon":
                lacking = one if isinstance(one, Lacking) else other
                if isinstance(lacking, Lacking):
                    yield lacking


def _falls_like_1_over_N(each: Series) -> bool:
    products = [alpha_of(result) * result.group.inner_steps for result in each.results]
    return max(products) <= 1.1 * min(products)


def _of_series(entry: Entry, world: World, each: Series) -> Iterator[Read]:
    if not is_cost(entry.quantity[0]):
        yield measured(each, entry.quantity[0], tuple(map(float, each.steps)))
        return
    for kind in _asked(entry, world):
        yield from _costs(entry, world, each, kind)


def _costs(entry: Entry, world: World, each: Series, kind: Falling) -> Iterator[Read]:
    target = _target(world, each, kind)
    if isinstance(target, Lacking):
        if kind != "fall":  # the same claim about a loss says why
            yield target
        return
    yield cost_line(each, target, entry.quantity[0])


def _asked(entry: Entry, world: World) -> list[Falling]:
    """A person who gave a loss asks for no fall of it."""
    return [kind for kind in entry.targets if not (kind == "fall" and world.headlines["loss"].given)]


def _target(world: World, each: Series, kind: Falling) -> Target | Lacking:
    """The strictest that every seed of the series reaches, unless a person gave one."""
    headline = world.headlines.get(kind, Headline(None, "no run falls"))
    chosen = headline.target
    if not headline.given:
        chosen = reached_by_all(kind, [(result.group.by_seed.values(), None) for result in each.results]) or chosen
    if chosen is not None:
        return chosen
    groups = [result.group for result in each.results]
    known = all(run.stationarity for group in groups for run in group.runs)
    return Lacking(headline.reason, (longer if known else measured_better)(headline.reason, groups))
