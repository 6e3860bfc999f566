"""From an interval to held, refuted or undecided."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from harness.report.findings.statistics import ENOUGH, Interval

Verdict = Literal["held", "refuted", "undecided"]


def verdict(interval: Interval, neutral: float) -> Verdict:
    """Held above ``neutral``, refuted below it; undecided around it, with too few seeds or without numbers."""
    if not interval.enough:
        return "undecided"
    return "held" if interval.low > neutral else "refuted" if interval.high < neutral else "undecided"


def at_least(interval: Interval, bound: float) -> Verdict:
    """Held where the whole interval is at ``bound`` or above, up to rounding."""
    below = bound * (1 - 1e-9)
    if not interval.enough:
        return "undecided"
    return "held" if interval.low >= below else "refuted" if interval.high < below else "undecided"


def all_of(verdicts: Iterable[Verdict]) -> Verdict:
    """Refuted where one is, held where all are."""
    found = set(verdicts)
    return "refuted" if "refuted" in found else "held" if found == {"held"} else "undecided"


def seeds_text(*intervals: Interval) -> str:
    """``5 shared seeds``, those of the interval with the fewest, marked where they are too few."""
    least = min(intervals, key=lambda interval: interval.seeds)
    few = "" if least.enough else f", fewer than the {ENOUGH} a claim needs"
    return f"{least.seeds} shared {'seed' if least.seeds == 1 else 'seeds'}{few}"
