"""Table 2's claim that ANIL needs fewer evaluations than MAML, by a factor that theory predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.report.findings.claim import Claim
from harness.report.findings.costs import Measure
from harness.report.findings.factors import Factor, FactorRow
from harness.report.findings.groups import Group
from harness.report.findings.remedies import Remedy, longer, measured_better, more_seeds
from harness.report.findings.results import ratio_of
from harness.report.findings.statistics import ENOUGH, LEVEL
from harness.report.findings.targets import Headline
from harness.report.findings.verdicts import Verdict, all_of, at_least, seeds_text
from harness.report.reading.documents import number
from harness.report.tables.cells import interval_text, shown
from harness.theory.conditions import factor_condition

_SECTION = "Table 2: ANIL against MAML"


def fewer(
    problem: str,
    geometry: str,
    kind: str,
    rows: Sequence[FactorRow],
    headline: Headline,
    level: float = LEVEL,
) -> Claim:
    """Table 2's factor for one geometry and kind of entries, at every N that both methods have."""
    sentence = f"ANIL {geometry} needs fewer {kind} entries than MAML by at least the predicted factor"
    if not rows:
        missing = f"missing: ANIL {geometry} and MAML runs of one model at the same N"
        return Claim(sentence, "undecided", "", missing, problem, section=_SECTION, remedy=Remedy(missing))
    groups = [group for row in rows for group in (row.anil, row.maml)]
    if headline.target is None:
        measured = all(run.stationarity for group in groups for run in group.runs)
        remedy = (longer if measured else measured_better)(headline.reason, groups)
        return Claim(sentence, "undecided", "", headline.reason, problem, section=_SECTION, remedy=remedy)
    found = [(row, _at(row, kind, level)) for row in rows]
    text = "; ".join(
        f"N = {row.inner_steps}, to {row.target}: {factor.is_} {interval_text(factor.measured)}".replace(":  ", ": ")
        for row, factor in found
    )
    predicted = (
        f"{'≥ ' if row.is_bound else ''}{shown(factor.predicted)} (N = {row.inner_steps})" for row, factor in found
    )
    detail = f"predicted: {', '.join(predicted)}"
    if any(row.is_bound for row in rows):
        detail += "; L was not measured, so (1 + κL)^N is taken as 1 and the prediction is a lower bound"
    if doubts := [f"{row.doubt} (N = {row.inner_steps})" for row in rows if row.doubt]:
        detail += "; " + ", ".join(doubts)
    outside = [
        f"{said[0].upper()}{said[1:]} (N = {row.inner_steps})."
        for row in rows
        if (said := factor_condition(geometry, row.inner_steps, number(row.maml.setting.get("inner_lr"))))
    ]
    text += f"; {seeds_text(*(factor.measured for _, factor in found))}"
    decided = all_of(_at_least(row, factor) for row, factor in found)
    mend = None if decided != "undecided" else _mend_factors(rows, [factor for _, factor in found], groups, level)
    return Claim(sentence, decided, text, detail, problem, " ".join(outside), _SECTION, mend)


def _mend_factors(rows: Sequence[FactorRow], found: Sequence[Factor], groups: Sequence[Group], level: float) -> Remedy:
    if doubts := [row.doubt for row in rows if row.doubt]:
        return longer(doubts[0], groups)
    shared = min(factor.measured.seeds for factor in found)
    if shared >= ENOUGH and any(row.is_bound for row in rows):
        return Remedy("L was not measured, so that the prediction is a lower bound only")
    return more_seeds(groups, shared, level)


def _at(row: FactorRow, kind: str, level: float) -> Factor:
    """The factor with its interval at ``level``; a report's tables have it at the usual one."""
    factor = row.gradient if kind == "gradient" else row.second_order
    if level == LEVEL:
        return factor
    measure: Measure = "gradient_entries" if kind == "gradient" else "second_order_entries"
    return replace(factor, measured=ratio_of(row.maml_cost, row.anil_cost, measure, level)[0])


def _at_least(row: FactorRow, factor: Factor) -> Verdict:
    if row.doubt:
        return "undecided"
    found = at_least(factor.measured, factor.predicted)
    return "undecided" if found == "held" and row.is_bound else found
