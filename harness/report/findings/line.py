"""What a claim's statistic is taken on: one quantity at several N (or B, k, epsilon), seed by seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from harness.report.findings.costs import Target
from harness.report.findings.groups import Group
from harness.report.findings.remedies import Remedy
from harness.report.findings.rows import Row
from harness.report.findings.verdicts import Verdict

#: why a line decides nothing, and what would mend that
Doubt = tuple[str, Callable[[str, Sequence[Group]], Remedy]]
#: a verdict, and the statistic with its interval
Tested = tuple[Verdict, str]


@dataclass(frozen=True)
class Least:
    """What a ratio has to be at least."""

    value: float
    #: whether the prediction may be more: then nothing is held by it
    only_a_bound: bool = False
    #: whether the ratio compares nothing: then it decides nothing
    doubted: bool = False


@dataclass(frozen=True)
class Line:
    """One quantity along an axis; equal seeds have seen equal tasks, so that points are compared seed by seed."""

    points: tuple[float, ...]
    rows: tuple[Row, ...]
    groups: tuple[Group, ...]
    #: ``K``, ``cost``, ``error``: of what the numbers are
    word: str = "cost"
    axis: str = "N"
    #: to which target, where there is one
    target: Target | None = None
    #: the numbers behind it, in the order in which they are shown
    detail: tuple[str, ...] = ()
    #: whether the theorem that the claim is taken from speaks of these runs
    conditions: str = ""
    doubts: tuple[Doubt, ...] = ()
    #: why it cannot tell what is the same from what is not, if it cannot
    coarse: Doubt | None = None
    #: the same of what it is compared with: MAML, another geometry, other step sizes
    against: tuple[Row, ...] = ()
    #: for each point, what ``against`` over ``rows`` has to be at least
    least: tuple[Least, ...] = ()
    #: for each point, what its ratio is called
    names: tuple[str, ...] = ()
    #: where it is undecided: what lacks, if it is not seeds, and what no seeds would help
    mend: Doubt | None = None
    cannot: str = ""

    @property
    def shared(self) -> int:
        """How many seeds are compared: those of all points, or of both sides at the point that has the fewest."""
        if self.against:
            return min(len({*a.values} & {*b.values}) for a, b in zip(self.rows, self.against, strict=True))
        return len(set.intersection(*(set(row.values) for row in self.rows)))

    def name(self, index: int) -> str:
        """``N = 3``."""
        return f"{self.axis} = {self.points[index]:g}"

    def at(self, *points: float) -> Line | None:
        """The line of these points alone; None where one is missing."""
        if not {*points} <= {*self.points}:
            return None
        index = [self.points.index(point) for point in points]
        return replace(self, points=points, rows=tuple(self.rows[each] for each in index))
