"""Statistics of claims about how a quantity changes along a line: each from rows by seed to a verdict."""

from __future__ import annotations

import math

from harness.report.findings.line import Line, Tested
from harness.report.findings.rows import Row, ratio, slope
from harness.report.findings.statistics import LEVEL, Interval, share
from harness.report.findings.verdicts import Verdict, all_of, seeds_text, verdict
from harness.report.tables.cells import interval_text

#: two numbers count as the same if neither is so many times the other
SAME = 1.25


def saturates(line: Line, level: float = LEVEL, margin: float = SAME) -> Tested:
    """K is smaller at the last N than at the first, never rises after its least, and no longer changes at the end.

    That it no longer changes is shown by an interval of K at the last N but one over K at the last inside
    1/``margin`` to ``margin``, and refuted by one outside. A rise after the least refutes it, too.
    """
    rows = line.rows
    least = min(range(len(rows)), key=lambda index: middle(rows[index]))
    fall, rest = (ratio(rows[index], rows[-1], level)[0] for index in (0, -2))
    later = range(least + 1, len(rows))
    climbs = {f"{line.points[j]:g}": ratio(rows[j], rows[least], each_of(level, len(later)))[0] for j in later}
    risen = [point for point, found in climbs.items() if verdict(found, 1) == "held"]
    text = (
        f"{line.word} at {line.name(0)} over {line.word} at {line.name(-1)}: {interval_text(fall)}; {line.word} at "
        f"{line.name(-2)} over {line.word} at {line.name(-1)}: {interval_text(rest)}, the same within {margin:g}"
    )
    if risen:
        text += f"; above its least, at {line.name(least)}, again at {line.axis} = {', '.join(risen)}"
    decided = "refuted" if risen else all_of([verdict(fall, 1), _same(rest, margin)])
    return decided, f"{text}; {seeds_text(fall, rest)}"


def falls_then_rises(line: Line, level: float = LEVEL) -> Tested:
    """Some N between the first and the last costs less than both: the cheapest of them by its median."""
    rows = line.rows
    best = min(range(1, len(rows) - 1), key=lambda index: middle(rows[index]))
    each = each_of(level, len(rows) - 2)  # the cheapest of so many looks cheap by chance
    ratios = {end: ratio(rows[end], rows[best], each)[0] for end in (0, -1)}
    text = "; ".join(
        f"{line.word} at {line.name(end)} over {line.name(best)}: {interval_text(found)}"
        for end, found in ratios.items()
    )
    return all_of(verdict(found, 1) for found in ratios.values()), f"{text}; {seeds_text(*ratios.values())}"


def rises(line: Line, level: float = LEVEL) -> Tested:
    """The last N costs more than the first, and no N between them less than the first."""
    last = ratio(line.rows[-1], line.rows[0], level)[0]
    each = each_of(level, len(line.rows) - 1)  # any of so many refutes it
    ratios = [ratio(row, line.rows[0], each)[0] for row in line.rows[1:]]
    cheaper = [f"{n:g}" for n, found in zip(line.points[1:], ratios, strict=True) if verdict(found, 1) == "refuted"]
    text = f"{line.word} at {line.name(-1)} over {line.name(0)}: {interval_text(last)}"
    if cheaper:
        text += f"; below that of {line.name(0)} at {line.axis} = {', '.join(cheaper)}"
    decided: Verdict = "refuted" if cheaper else "held" if verdict(last, 1) == "held" else "undecided"
    return decided, f"{text}; {seeds_text(last)}"


def falls(line: Line, level: float = LEVEL, margin: float = SAME) -> Tested:
    """The first over the last is above 1; refuted where it is below, or by its whole interval under ``margin``."""
    found = ratio(line.rows[0], line.rows[-1], level)[0]
    decided = verdict(found, 1)
    if decided == "undecided" and verdict(found, margin) == "refuted":
        decided = "refuted"
    text = f"{line.word} at {line.name(0)} over {line.name(-1)}: {interval_text(found)}"
    return decided, f"{text}; {seeds_text(found)}"


def settles(line: Line, level: float = LEVEL, margin: float = SAME) -> Tested:
    """The last two are the same within ``margin``: their ratio's whole interval; refuted by one outside."""
    found = ratio(line.rows[-2], line.rows[-1], level)[0]
    text = f"{line.word} at {line.name(-2)} over {line.name(-1)}: {interval_text(found)}, the same within {margin:g}"
    return _same(found, margin), f"{text}; {seeds_text(found)}"


def grows_like(line: Line, level: float = LEVEL, power: float = 1.0, margin: float = 0.25) -> Tested:
    """The slope in log-log is ``power`` within ``margin``, by its whole interval; refuted by one outside."""
    found = slope(line.points, line.rows, level)
    constant = inside(found, -margin, margin) == "held"
    text = f"{_slope(line, found)}, against {power:g} ± {margin:g}"
    text += f" ({'constant' if constant else 'not constant' if found.excludes(0) else '0 is not excluded'})"
    return inside(found, power - margin, power + margin), f"{text}; {seeds_text(found)}"


def grows_at_most_like(line: Line, level: float = LEVEL, power: float = 1.0) -> Tested:
    """The slope in log-log is at most ``power``, by its whole interval; refuted where it is more."""
    found = slope(line.points, line.rows, level)
    decided: Verdict = "undecided"
    if found.enough:
        decided = "held" if found.high <= power else "refuted" if found.low > power else "undecided"
    return decided, f"{_slope(line, found)}, against {power:g} at most; {seeds_text(found)}"


def cheapest(line: Line, level: float = LEVEL, at: float = 1) -> Tested:
    """Every other point costs more than the one ``at``; refuted where any costs less."""
    first = line.points.index(at)
    others = [index for index in range(len(line.rows)) if index != first]
    all_, any_ = (
        {index: ratio(line.rows[index], line.rows[first], each)[0] for index in others}
        for each in (level, each_of(level, len(others)))
    )
    less = [index for index in others if verdict(any_[index], 1) == "refuted"]
    least = min(less or others, key=lambda index: middle(line.rows[index]))
    found = (any_ if less else all_)[least]
    above = all(verdict(each, 1) == "held" for each in all_.values())
    decided: Verdict = "refuted" if less else "held" if above else "undecided"
    text = f"least other {line.word}, at {line.name(least)}, over that at {line.name(first)}: {interval_text(found)}"
    return decided, f"{text}; {seeds_text(*all_.values())}"


def not_cheapest(line: Line, level: float = LEVEL, at: float = 1) -> Tested:
    """Some other point costs less than the one ``at``; refuted where every one costs more."""
    decided, text = cheapest(line, level, at)
    turned: dict[Verdict, Verdict] = {"held": "refuted", "refuted": "held", "undecided": "undecided"}
    return turned[decided], text


def diverges(line: Line, level: float = LEVEL) -> Tested:
    """More than half of the seeds diverge at the last N, and not at the first; a row has 1, 0, or NaN undecided."""
    small, large = (_diverged(line.rows[index], level) for index in (0, -1))
    values = list(line.rows[-1].values.values())
    shares = share(sum(value == 1 for value in values), len(values), level)
    text = f"share of seeds that diverged at {line.name(-1)}: {interval_text(shares)} (Wilson)"
    decided = large if small == "refuted" or large == "refuted" else "undecided"
    return decided, f"{text}; {seeds_text(shares)}"


def _diverged(row: Row, level: float) -> Verdict:
    """Whether more than half of the seeds diverge, whatever the undecided ones did."""
    values = list(row.values.values())
    gone, open_, seeds = sum(v == 1 for v in values), sum(map(math.isnan, values)), len(values)
    if verdict(share(gone, seeds, level), 0.5) == "held":
        return "held"
    return "refuted" if verdict(share(gone + open_, seeds, level), 0.5) == "refuted" else "undecided"


def _same(found: Interval, margin: float) -> Verdict:
    return inside(found, 1 / margin, margin)


def inside(found: Interval, low: float, high: float) -> Verdict:
    """Held where the whole interval is between ``low`` and ``high``, refuted where all of it is outside."""
    if not found.enough:
        return "undecided"
    if found.low >= low and found.high <= high:
        return "held"
    return "refuted" if found.low > high or found.high < low else "undecided"


def each_of(level: float, comparisons: int) -> float:
    """Of each of several intervals of which any may decide, so that together they err in 1 - ``level`` (Bonferroni)."""
    return 1 - (1 - level) / max(1, comparisons)


def _slope(line: Line, found: Interval) -> str:
    return f"slope of log {line.word} on log {line.axis}: {interval_text(found)}"


def middle(row: Row) -> float:
    """The median to choose a least by: what is not known is none."""
    return math.inf if math.isnan(row.middle) else row.middle
