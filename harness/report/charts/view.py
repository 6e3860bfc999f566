"""A comparison as charts see it: every attribute of it that they use is looked up here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from harness.report.costs import Target
from harness.report.groups import Group
from harness.report.runs import Run

Comparison = Any
Result = Any


class Bar(NamedTuple):
    """A value between two bounds."""

    value: float
    low: float
    high: float


def results(comparison: Comparison, benchmark: str) -> list[Result]:
    """The results of one benchmark, a group each, in the report's order."""
    return [result for result in comparison.results if result.group.benchmark == benchmark]


def benchmarks(comparison: Comparison) -> list[str]:
    """The names of the benchmarks, in the report's order."""
    return list(dict.fromkeys(group.benchmark for group in comparison.groups))


def targets(comparison: Comparison) -> list[Target]:
    """The targets, the headline first."""
    first = [] if comparison.headline is None else [comparison.headline]
    return [*first, *(target for target in comparison.targets if target != comparison.headline)]


def cost(result: Result, target: Target, measure: str) -> Bar:
    """Median cost of ``result`` to ``target``; infinite where half of the seeds or more never got there."""
    found = getattr(result.costs[target], measure)
    return Bar(found.value, found.low, found.high)


def accuracy(result: Result) -> Bar | None:
    """Held-out accuracy over seeds."""
    found = result.accuracy
    return None if found is None else Bar(found.value, found.low, found.high)


def completed(group: Group) -> list[Run]:
    """Its runs that came to their last iteration."""
    return [run for run in group.runs if run.summary["status"] == "completed"]


def extras(group: Group) -> str:
    """What sets ``group`` apart from others of its method and N, such as `` inner_lr=0.01``; mostly empty."""
    return group.label.removeprefix(f"{group.method} N={group.inner_steps}").rstrip()


def over_runs(group: Group, quantity: Callable[[Run], float]) -> Bar | None:
    """Median and range over the runs of ``group`` of a quantity that each has; None where none has it."""
    values = [value for run in group.runs if math.isfinite(value := quantity(run))]
    return Bar(float(np.median(values)), min(values), max(values)) if values else None


def seconds_per_iteration(run: Run) -> float:
    """Training seconds of one meta-iteration, evaluation off the clock."""
    done = run.summary.get("iterations_done")
    return run.summary["seconds"]["train"] / done if done else math.nan


def seeds_text(counts: Sequence[int]) -> str:
    """``5 seeds``, ``3 to 5 seeds``."""
    low, high = min(counts, default=0), max(counts, default=0)
    return (f"{low}" if low == high else f"{low} to {high}") + (" seed" if high == 1 else " seeds")


def shown(method: str) -> str:
    """``ANIL convex`` for ``anil convex``; the names of other people's algorithms stay as they are."""
    first, _, rest = method.partition(" ")
    return " ".join(filter(None, [first.upper() if first in ("maml", "fomaml", "anil") else first, rest]))


class Overview(NamedTuple):
    """What the page says before any plot."""

    findings: list[str]
    claims: list[Any]
    warnings: list[str]
    skipped: list[str]
    benchmarks: list[str]
    #: the methods, as a list in words
    title: str
    settings: int
    runs: int
    statuses: dict[str, int]
    targets: list[str]


def overview(comparison: Comparison) -> Overview:
    """Findings, claims and warnings of a comparison, and how much it rests on."""
    groups = comparison.groups
    runs = [run for group in groups for run in group.runs]
    return Overview(
        list(comparison.findings),
        list(comparison.claims),
        list(comparison.warnings),
        list(comparison.skipped),
        benchmarks(comparison),
        _in_words(list(dict.fromkeys(shown(group.method) for group in groups))),
        len(groups),
        len(runs),
        dict(Counter(str(run.summary["status"]).replace("_", " ") for run in runs)),
        [str(target) for target in targets(comparison)],
    )


def _in_words(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
