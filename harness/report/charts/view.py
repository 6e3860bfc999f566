"""A comparison as charts see it: costs, accuracies and what they are called."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from harness.report.findings.comparison import Comparison
from harness.report.findings.costs import Measure, Target
from harness.report.findings.groups import Group
from harness.report.findings.names import extra_of, method_name
from harness.report.findings.results import GroupResult
from harness.report.findings.series import series_of
from harness.report.findings.statistics import Interval
from harness.report.reading.runs import Run

Series = dict[str, list[GroupResult]]


class Bar(NamedTuple):
    """A value between two bounds; NaN where it was not measured."""

    value: float
    low: float
    high: float


def targets(comparison: Comparison, problem: str) -> tuple[list[Target], list[Target]]:
    """The headlines of ``problem`` (epsilon, loss, accuracy, where it has them), and the other targets."""
    found = [headline.target for headline in comparison.headlines[problem].values()]
    headlines = [target for target in found if target is not None]
    return headlines, [target for target in comparison.targets if target not in headlines]


def cost(result: GroupResult, target: Target, measure: Measure) -> Bar:
    """Median cost of ``result``, infinite where half of the seeds or more never got there.

    Methods without phi are taken on the (w, phi) on which they need most iterations.
    """
    return bar(result.longest(target).interval(measure))


def bar(interval: Interval) -> Bar:
    """An interval over seeds."""
    return Bar(interval.value, interval.low, interval.high)


def extras(group: Group) -> str:
    """``, inner_lr=0.01``: what sets ``group`` apart from others of its method and N; mostly empty."""
    found = extra_of(group)
    return f", {found}" if found else ""


def series(results: Sequence[GroupResult]) -> Series:
    """Results that differ in N alone, N ascending, by a name; as the claims about N know them for ANIL."""
    found: Series = {}
    taken: set[int] = set()
    for geometry in ("convex", "nonconvex"):
        members = series_of(results, geometry)
        for each in members:
            name = method_name(each.results[0].group.method) + (f", {each.name}" if len(members) > 1 else "")
            found.setdefault(name, []).extend(each.results)
            taken |= {id(result) for result in each.results}
    for result in results:
        if id(result) not in taken:
            found.setdefault(method_name(result.group.method) + extras(result.group), []).append(result)
    order = list(dict.fromkeys(result.group.method for result in results))
    ordered = sorted(found.items(), key=lambda item: order.index(item[1][0].group.method))
    return {name: sorted(members, key=lambda result: result.group.inner_steps) for name, members in ordered}


def over_runs(group: Group, quantity: Callable[[Run], float]) -> Bar:
    """Median and range over the seeds of ``group`` of a quantity; NaN where none has it."""
    values = [value for run in group.by_seed.values() if math.isfinite(value := quantity(run))]
    return Bar(float(np.median(values)), min(values), max(values)) if values else Bar(math.nan, math.nan, math.nan)


def seeds_text(counts: Iterable[int]) -> str:
    """``5 seeds``, ``3 to 5 seeds``."""
    found = list(counts)
    low, high = min(found, default=0), max(found, default=0)
    return (f"{low}" if low == high else f"{low} to {high}") + (" seed" if high == 1 else " seeds")
