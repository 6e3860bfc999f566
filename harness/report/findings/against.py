"""Two sets of results compared, setting by setting and seed by seed: which differences are beyond noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import InputError
from harness.report.findings.comparison import blocks_of
from harness.report.findings.costs import Target
from harness.report.findings.groups import Group, group_runs
from harness.report.findings.names import group_name, listed
from harness.report.findings.results import median_cost, seconds_per_iteration
from harness.report.findings.statistics import Interval, generator, median, paired_difference, paired_ratio
from harness.report.findings.targets import choose
from harness.report.reading.machines import check_machines, differences, in_turn
from harness.report.reading.runs import Run
from harness.report.tables.cells import Cell, Table, ends_text, shown, table

# Time and memory differ a little for no reason that seeds could show.
_NEGLIGIBLE = 0.01
_SECONDS = "seconds per iteration"
_APART = "not compared: made at different times, load not known"
_UNDATED = "not compared: when they were made is not known"


@dataclass(frozen=True)
class Difference:
    """One quantity of one setting in both sets, over the seeds of both."""

    group: Group
    quantity: str
    first: float
    other: float
    #: first less other for accuracy, first over other for the rest
    change: Interval
    #: ``higher`` or ``lower`` beyond noise, ``within noise``, ``too few seeds``, ``not known``, or why not compared
    verdict: str


@dataclass(frozen=True)
class Against:
    """The outcome: a table, sentences for the differences beyond noise, and what weakens it."""

    differences: list[Difference]
    table: Table
    sentences: list[str]
    warnings: list[str]


def compare_sets(
    runs: Iterable[Run], others: Iterable[Run], targets: Sequence[Target] | None = None, mix: bool = False
) -> Against:
    """Accuracy, K(epsilon), seconds per iteration and peak memory of ``runs`` against those of ``others``.

    Raises :class:`InputError` where the sets share no setting, or one set mixes machines without ``mix``.
    """
    runs, others = list(runs), list(others)
    warnings = check_machines(runs, mix) + check_machines(others, mix)
    first, second = ({group.key: group for group in group_runs(each)} for each in (runs, others))
    shared = [key for key in first if key in second]
    if not shared:
        raise InputError("the two sets of results have no setting in common; allowed: runs of the same configurations")
    if between := differences([*runs, *others]):
        warnings.append(
            f"the sets were made on different machines ({'; '.join(between)}): seconds and memory show that too"
        )
    for name, mine, theirs in (("first", first, second), ("other", second, first)):
        if only := [group_name(group) for key, group in mine.items() if key not in theirs]:
            warnings.append(f"only in the {name} set: {listed(only)}")
    pairs = [(first[key], second[key]) for key in shared]
    found = [row for pair in pairs for row in _compare(*pair, _epsilon(pair[0].problem, pairs, targets))]
    return Against(found, _table(found), _sentences(found), warnings)


def _epsilon(problem: str, pairs: Sequence[tuple[Group, Group]], targets: Sequence[Target] | None) -> Target | None:
    """The headline of both sets together."""
    groups = [group for pair in pairs if pair[0].problem == problem for group in pair]
    return choose(groups, blocks_of(groups), targets)[1]["epsilon"].target


def _compare(first: Group, other: Group, target: Target | None) -> list[Difference]:
    rows = [
        _row(first, other, "accuracy", _of("completed", lambda run: run.number("accuracy", "mean")), False),
        _row(first, other, _SECONDS, lambda group: _values(group, seconds_per_iteration)),
        _row(first, other, "peak bytes", lambda group: _values(group, lambda run: run.number("peak_memory_bytes"))),
    ]
    if target is not None:
        rows.insert(
            1,
            _row(first, other, f"K({target})", lambda group: median_cost(group.by_seed, target).by_seed("iterations")),
        )
    return rows


def _row(
    first: Group, other: Group, quantity: str, values: Callable[[Group], Mapping[int, float]], ratio: bool = True
) -> Difference:
    mine, theirs = values(first), values(other)
    seeds = [seed for seed in mine if seed in theirs and not math.isnan(mine[seed] + theirs[seed])]
    change = paired_ratio(mine, theirs, generator()) if ratio else paired_difference(mine, theirs)
    middle = median if ratio else np.mean
    here, there = (float(middle([each[seed] for seed in seeds])) if seeds else math.nan for each in (mine, theirs))
    band = _NEGLIGIBLE if quantity in (_SECONDS, "peak bytes") else 0.0
    verdict = _verdict(change, 1.0 if ratio else 0.0, band)
    if quantity == _SECONDS and seeds:
        turns = in_turn(*([group.by_seed[seed] for seed in seeds] for group in (first, other)))
        verdict = verdict if turns else _APART if turns is False else _UNDATED
    return Difference(first, quantity, here, there, change, verdict)


def _verdict(change: Interval, neutral: float, band: float) -> str:
    if math.isnan(change.value):
        return "not known"
    if not change.enough:
        return "too few seeds"
    if change.low > neutral + band:
        return "higher"
    return "lower" if change.high < neutral - band else "within noise"


def _of(status: str, quantity: Callable[[Run], float]) -> Callable[[Group], Mapping[int, float]]:
    return lambda group: _values(group, lambda run: quantity(run) if run.summary.status == status else math.nan)


def _values(group: Group, quantity: Callable[[Run], float]) -> dict[int, float]:
    return {seed: quantity(run) for seed, run in group.by_seed.items()}


def _table(found: Sequence[Difference]) -> Table:
    columns = ["problem", "group", "quantity", "first", "other", "change", "95 % interval", "shared seeds", "verdict"]
    rows: list[list[Cell]] = [
        [
            row.group.problem,
            group_name(row.group),
            row.quantity,
            row.first,
            row.other,
            row.change.value,
            ends_text(row.change),
            row.change.seeds,
            row.verdict,
        ]
        for row in found
    ]
    notes = [
        "Over the seeds of both sets. Change: first less other for accuracy (mean, Student's t), first over other for "
        "the rest (medians over seeds drawn together; without misses at least as wide as Student's t of the "
        "logarithms). Seconds and memory count as the same within 1 %.",
        "Seconds are compared only where runs of both sets took turns: those of one sitting share the machine's load, "
        "which no interval over seeds can see.",
        f"Of {len(_compared(found))} comparisons about one in twenty lies beyond noise by chance alone.",
    ]
    return table("against", "First set of results against the other", columns, rows, notes)


def _sentences(found: Sequence[Difference]) -> list[str]:
    compared = _compared(found)
    beyond = [row for row in compared if row.verdict in ("higher", "lower")]
    few = sum(row.verdict == "too few seeds" for row in found)
    last = f"{len(beyond)} of {len(compared)} differences are beyond noise"
    return [
        *(
            f"{group_name(row.group)} on {row.group.problem}: {row.quantity} is {row.verdict}, {shown(row.first)} "
            f"against {shown(row.other)} (change {ends_text(row.change)}, {row.change.seeds} seeds)."
            for row in beyond
        ),
        f"{last}; {few} have too few seeds to say." if few else f"{last}.",
        *(
            f"Seconds of {count} {'setting' if count == 1 else 'settings'} are {why}."
            for why in (_APART, _UNDATED)
            if (count := sum(row.verdict == why for row in found))
        ),
    ]


def _compared(found: Sequence[Difference]) -> list[Difference]:
    return [row for row in found if row.verdict not in (_APART, _UNDATED)]
