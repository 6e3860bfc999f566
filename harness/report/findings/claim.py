"""A claim of the paper, and what the runs at hand say of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from harness.report.findings.line import Line
from harness.report.findings.remedies import Remedy
from harness.report.findings.verdicts import Verdict


@dataclass(frozen=True)
class Claim:
    """One claim on one problem. A verdict needs five shared seeds and an interval that excludes no effect."""

    sentence: str
    verdict: Verdict
    #: the statistic that decides, with its interval; empty where it could not be taken
    interval_text: str
    #: the numbers behind it, or which runs are missing
    detail: str
    problem: str = ""
    #: whether the theorem that it is taken from speaks of these runs at all
    conditions: str = ""
    #: where the paper claims it
    section: str = ""
    #: why it is undecided, and which runs would decide it
    remedy: Remedy | None = None
    #: what it is measured on and, from that and a level, its verdict; None where runs are missing
    line: Line | None = field(default=None, compare=False, repr=False)
    test: Callable[[Line, float], Verdict] | None = field(default=None, compare=False, repr=False)
