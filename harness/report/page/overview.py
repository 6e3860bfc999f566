"""What the page says before any plot: findings, claims and warnings, and how much they rest on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.findings.claim import Claim
from harness.report.findings.comparison import Comparison
from harness.report.findings.names import method_name

#: so many lines of a list are open to the eye, the rest folds
SHOWN = 12


@dataclass(frozen=True)
class Overview:
    """Names and numbers for the head of the page, as text."""

    title: str
    facts: list[tuple[str, str]]
    findings: list[str]
    #: with the problem that each is about, None where there is one only
    claims: list[tuple[Claim, str | None]]
    warnings: list[str]
    skipped: list[str]
    shown: int = SHOWN


def overview(comparison: Comparison, differences: Sequence[str] = ()) -> Overview:
    """The head of the page of ``comparison``, and of what was found against other results."""
    groups, problems = comparison.groups, comparison.problems
    runs = [run for group in groups for run in group.runs]
    statuses = Counter(run.summary.status.replace("_", " ") for run in runs)
    skipped = set(comparison.skipped)
    headline = None if comparison.headline is None else str(comparison.headline)
    facts = [
        ("runs", str(len(runs))),
        ("settings", str(len(groups))),
        ("benchmark" if len(problems) == 1 else "benchmarks", ", ".join(problems)),
        ("status", ", ".join(f"{count} {status}" for status, count in statuses.items())),
        *([("headline target", headline)] if headline else []),
    ]
    return Overview(
        _in_words(list(dict.fromkeys(method_name(group.method) for group in groups))),
        facts,
        [*comparison.findings, *(f"Against the other results: {sentence}" for sentence in differences)],
        [(claim, comparison.shown_problem(claim.problem)) for claim in comparison.claims],
        [warning for warning in comparison.warnings if warning not in skipped],
        comparison.skipped,
    )


def _in_words(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
