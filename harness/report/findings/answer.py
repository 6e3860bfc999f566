"""The answer in one sentence: what each method costs, at its cheapest N, to the same loss and to epsilon."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.report.findings.comparison import Comparison
from harness.report.findings.costs import Measure, Target
from harness.report.findings.names import method_name
from harness.report.findings.results import GroupResult, MedianCost, at_chance, ratio_of
from harness.report.findings.rows import Bound
from harness.report.findings.statistics import ENOUGH, Interval
from harness.report.tables.cells import ends_text, shown

#: what "costs" means: the paper's unit, which no machine and no other load changes
MEASURE: Measure = "gradient_entries"
_KINDS = ("loss", "epsilon")


@dataclass(frozen=True, eq=False)
class Spent:
    """What a method needed at the N at which it needed least, of those at which it had learnt anything."""

    result: GroupResult
    cost: MedianCost
    learnt: bool
    #: over the cheapest method's on shared seeds, and what bound of it the value is; 1 for the cheapest
    times: Interval
    is_: Bound

    @property
    def entries(self) -> Interval:
        """Gradient entries and their interval over seeds; infinite where the median run did not get there."""
        return self.cost.interval(MEASURE)

    @property
    def missed(self) -> bool:
        """Whether the median run did not get there."""
        return math.isinf(self.entries.value)

    @property
    def verdict(self) -> str:
        """Against the cheapest: ``dearer``, ``undecided``, or ``too few seeds``."""
        if not self.times.enough:
            return "too few seeds"
        return "dearer" if self.times.low > 1 else "undecided"


@dataclass(frozen=True, eq=False)
class Answer:
    """One problem and target; ``rows`` are the methods, the cheapest first, those that missed after all others."""

    problem: str
    target: Target
    rows: tuple[Spent, ...]


def sentence(found: Sequence[Answer]) -> str:
    """What :func:`answers` says on one problem: ``To loss ≤ 1.1 ANIL convex needs the fewest gradient entries, …``."""
    parts, before = [], ""
    for answer in found:
        first, *others = answer.rows
        if first.missed or not first.learnt:
            parts.append(f"to {answer.target} no method got that had learnt anything, in its median run")
            continue
        name = method_name(first.result.group.method)
        verb = f"again {name}" if name == before else f"{name} needs the fewest gradient entries"
        parts.append(", ".join([f"to {answer.target} {verb}", *_against(others)]))
        before = name
    few = min((row.times.seeds for answer in found for row in answer.rows), default=ENOUGH)
    text = "; ".join(parts)
    doubt = f" ({few} {'seed' if few == 1 else 'seeds'}: undecided, deciding takes {ENOUGH})" if few < ENOUGH else ""
    return f"{text[:1].upper()}{text[1:]}{doubt}."


def answers(comparison: Comparison) -> list[Answer]:
    """For every problem the loss and the epsilon that its report is about, where they are known and measured."""
    found = []
    for problem, headlines in comparison.headlines.items():
        for kind in _KINDS:
            target = headlines[kind].target
            rows = () if target is None else _rows(comparison.of(problem), target)
            if target is not None and rows:
                found.append(Answer(problem, target, rows))
    return found


def _rows(results: Sequence[GroupResult], target: Target) -> tuple[Spent, ...]:
    best: dict[str, tuple[GroupResult, MedianCost, bool]] = {}
    for result in results:
        cost = result.longest(target)
        if cost.seeds and not math.isnan(cost.median.gradient_entries):
            # a loss that is met is below what chance meets; a gradient is small where nothing is learnt, too
            by_chance = any(at_chance(result.group, each) for each in result.all_costs(target))
            learnt = target.kind != "epsilon" or not by_chance
            mine = (result, cost, learnt)
            if (before := best.get(result.group.method)) is None or _rank(mine) < _rank(before):
                best[result.group.method] = mine
    ordered = sorted(best.values(), key=_rank)
    rows = []
    for result, cost, learnt in ordered:
        times, word = ratio_of(cost, ordered[0][1], MEASURE)
        rows.append(Spent(result, cost, learnt, times, word))
    return tuple(rows)


def _rank(found: tuple[GroupResult, MedianCost, bool]) -> tuple[bool, float, float]:
    """Who had learnt something comes first, of them the cheapest; of those that missed the one that tried longest."""
    _, cost, learnt = found
    spent = cost.row(MEASURE).least.values()
    return not learnt, cost.median.gradient_entries, -max(spent)


def _against(rows: Sequence[Spent]) -> Iterator[str]:
    """How many times as many each needs, undecided ones marked; then those of which that is not known."""
    unit = " times as many"
    for row in rows:
        if row.learnt and not row.missed:
            times = shown(row.times.value)
            undecided = f" (undecided: {ends_text(row.times)})" if row.verdict == "undecided" else ""
            yield f"{method_name(row.result.group.method)} {'as many' if times == '1' else times + unit}{undecided}"
            unit = unit if times == "1" else ""
    missed = [row for row in rows if row.learnt and row.missed]
    for names, what in ((missed, "did not get there"), ([row for row in rows if not row.learnt], "had learnt nothing")):
        if names:
            yield f"{' and '.join(method_name(row.result.group.method) for row in names)} {what}"
