"""Which series of runs an entry of the list of claims is about, and what lacks where there is none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.report.findings.entries import Entry
from harness.report.findings.factors import FactorRow
from harness.report.findings.outside import Outside, outside
from harness.report.findings.remedies import Remedy, further_steps
from harness.report.findings.results import GroupResult
from harness.report.findings.series import Series, series_of
from harness.report.findings.targets import Headlines


@dataclass(frozen=True)
class World:
    """What the runs of one problem are and have been found to be."""

    problem: str
    results: Sequence[GroupResult]
    headlines: Headlines
    factors: Sequence[FactorRow]


@dataclass(frozen=True)
class Lacking:
    """Why there is no line, and what would make one."""

    why: str
    remedy: Remedy


def chosen_series(entry: Entry, world: World) -> Iterator[tuple[Series, Outside]]:
    """Series of the entry's geometry whose steps, condition number and N are those that it asks for."""
    low, high = entry.condition_number or (-math.inf, math.inf)
    for each in series_of(world.results, entry.geometry[0]):
        said, points = outside(each, entry.steps), points_of(entry, each)
        if (
            said.meant
            and len(points) >= entry.fewest
            and {*points} <= {*each.steps}
            and (entry.from_point is None or points[0] == entry.from_point)
            and (entry.first_point is None or points[0] == entry.first_point)
            and (entry.reaches is None or points[0] < entry.reaches <= points[-1])
            and not (entry.one_step_size and len({alpha_of(result) for result in each.results}) > 1)
            and (entry.condition_number is None or low <= said.condition_number <= high)
        ):
            yield each, said


def points_of(entry: Entry, series: Series) -> tuple[float, ...]:
    """The N that an entry is about: those that it names, or all from one on."""
    return entry.points or tuple(float(n) for n in series.steps if n >= (entry.from_point or 0))


def missing(entry: Entry, world: World) -> Iterator[Lacking]:
    """What lacks; nothing where the entry is about others than a theorem's steps, and all runs have those."""
    (geometry,) = entry.geometry
    every = series_of(world.results, geometry)
    if entry.steps == "other" and every and not any(outside(each, "other").meant for each in every):
        return
    why = f"missing: ANIL {geometry} runs {_needed(entry)}"
    own = {"theorem": "the optimizer and step sizes of the theorem", "alpha": "the step size α of the theorem"}
    if entry.steps in own:
        why += f", and {own[entry.steps]}"
        yield Lacking(why, Remedy(why))
        return
    asked = entry.points or [n for n in (entry.first_point, entry.reaches) if n]
    groups = [result.group for result in world.results]
    yield Lacking(why, further_steps(why, groups, geometry, [int(n) for n in asked]))


def alpha_of(result: GroupResult) -> float:
    """The inner step size."""
    return float(result.group.same("inner_lr"))


def _needed(entry: Entry) -> str:
    if entry.points:
        return f"at N = {' and '.join(f'{n:g}' for n in entry.points)}, all else equal"
    if entry.reaches is not None:
        return f"with N = {entry.reaches:g} and with a smaller N, all else equal"
    needed = f"at {entry.fewest} or more N that differ in nothing else"
    if first := entry.first_point or entry.from_point:
        needed += f", N = {first:g} among them"
    if entry.condition_number:
        low, high = entry.condition_number
        needed += f", L/μ ≥ {low:g}" if low > 1 else f", L/μ ≤ {high:g}"
    return needed
