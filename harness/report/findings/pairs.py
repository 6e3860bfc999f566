"""Statistics of claims that compare a line with another: ANIL with MAML, one geometry or step size with another."""

from __future__ import annotations

from dataclasses import replace

from harness.report.findings.line import Line, Tested
from harness.report.findings.rows import ratio
from harness.report.findings.statistics import LEVEL, Interval, paired_difference
from harness.report.findings.trends import each_of, inside, middle
from harness.report.findings.verdicts import Verdict, at_least, seeds_text, verdict
from harness.report.tables.cells import interval_text


def at_least_as_many_times(line: Line, level: float = LEVEL) -> Tested:
    """At every point, what it is compared with over it is at least what was predicted: all of the interval.

    Refuted where all of an interval is below at any point, at the level of so many comparisons.
    """
    pairs = list(zip(line.against, line.rows, strict=True))
    usual, wide = ([ratio(*pair, each) for pair in pairs] for each in (level, each_of(level, len(pairs))))
    refuted = any(
        at_least(interval, least.value) == "refuted" and not least.doubted
        for (interval, _), least in zip(wide, line.least, strict=True)
    )
    held = all(
        at_least(interval, least.value) == "held" and not least.doubted and not least.only_a_bound
        for (interval, _), least in zip(usual, line.least, strict=True)
    )
    found = wide if refuted else usual
    text = "; ".join(
        f"{name}: {word} {interval_text(interval)}".replace(":  ", ": ")
        for name, (interval, word) in zip(line.names, found, strict=True)
    )
    decided: Verdict = "refuted" if refuted else "held" if held else "undecided"
    return decided, f"{text}; {seeds_text(*(interval for interval, _ in found))}"


def more_at_best(line: Line, level: float = LEVEL) -> Tested:
    """What it is compared with costs more at every N than this at its best; refuted where the other's best costs less.

    A best N is chosen on the same runs, so each choice among n has the level of n comparisons; *every N* needs none.
    """
    mine, other = (min(range(len(rows)), key=lambda i: middle(rows[i])) for rows in (line.rows, line.against))
    held = [ratio(row, line.rows[mine], each_of(level, len(line.rows)))[0] for row in line.against]
    lost = [ratio(line.against[other], row, each_of(level, len(line.against)))[0] for row in line.rows]
    decided: Verdict = "held" if all(verdict(each, 1) == "held" for each in held) else "undecided"
    if all(verdict(each, 1) == "refuted" for each in lost):
        decided = "refuted"
    found = held[other]
    text = f"at {line.axis} = {line.points[other]:g} over the other's at {line.name(mine)}: {interval_text(found)}"
    return decided, f"{text}; {seeds_text(*held)}"


def alike(line: Line, level: float = LEVEL, margin: float = 0.02) -> Tested:
    """At every point the difference is within ``margin`` either way, by its whole interval; refuted by any outside."""
    pairs = list(zip(line.rows, line.against, strict=True))
    all_, any_ = (
        [paired_difference(mine.values, other.values, each) for mine, other in pairs]
        for each in (level, each_of(level, len(pairs)))
    )
    apart = any(inside(found, -margin, margin) == "refuted" for found in any_)
    within = all(inside(found, -margin, margin) == "held" for found in all_)
    decided: Verdict = "refuted" if apart else "held" if within else "undecided"
    shown = any_ if apart else all_
    text = "; ".join(f"{line.name(i)}: {interval_text(_points(found))} points" for i, found in enumerate(shown))
    return decided, f"{text}, alike within {100 * margin:g}; {seeds_text(*shown)}"


def rises_more(line: Line, level: float = LEVEL) -> Tested:
    """From the first N to the last, what it is compared with rises more (or falls less)."""
    above, below = line.against[-1] * line.rows[0], line.against[0] * line.rows[-1]
    found = ratio(above, below, level)[0]
    text = f"change from {line.name(0)} to {line.name(-1)}, of one over the other: {interval_text(found)}"
    return verdict(found, 1), f"{text}; {seeds_text(found)}"


def _points(found: Interval) -> Interval:
    """Of shares from 0 to 1, in percentage points."""
    return replace(found, value=100 * found.value, low=100 * found.low, high=100 * found.high)
