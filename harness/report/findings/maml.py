"""Lines of ANIL against MAML: at equal N, and each at its best N."""

from __future__ import annotations

from collections.abc import Iterator

from harness.report.findings.chosen import Lacking, World
from harness.report.findings.costs import Measure
from harness.report.findings.entries import WHAT, Entry
from harness.report.findings.factors import FactorRow
from harness.report.findings.groups import Group
from harness.report.findings.line import Least, Line
from harness.report.findings.readers import Read
from harness.report.findings.remedies import Remedy, longer, measured_better
from harness.report.findings.results import median_cost, seconds_per_iteration
from harness.report.findings.rows import Row
from harness.report.reading.documents import number
from harness.report.tables.cells import shown
from harness.theory.conditions import factor_condition


def factors(entry: Entry, world: World) -> Iterator[Read]:
    """MAML against ANIL of one geometry at every N that both have: entries to ε, seconds an iteration, or accuracy."""
    rows = _rows(entry, world)
    if not rows:
        yield _nobody(entry)
    elif entry.quantity[0] in ("seconds", "accuracy"):
        yield _without_target(entry, rows)
    else:
        yield _lacking(world, rows) or _entries(entry, rows)


def best(entry: Entry, world: World) -> Iterator[Read]:
    """Entries of both to one ε, at every N of each."""
    rows, measure = _rows(entry, world), _measure(entry)
    if not rows:
        yield _nobody(entry)
        return
    target = world.headlines["epsilon"].target
    if (lacking := _lacking(world, rows)) or target is None:
        yield lacking or _nobody(entry)
        return
    mine = [median_cost(row.anil.by_seed, target) for row in rows]
    other = [median_cost(row.maml.by_seed, target, row.anil.same("w")) for row in rows]
    doubts = tuple((row.doubt, longer) for row in rows if row.doubt and row.target == target)[:1]
    yield Line(
        tuple(float(row.inner_steps) for row in rows),
        tuple(cost.row(measure) for cost in mine),
        _groups(rows),
        target=target,
        detail=(f"at {target}; {WHAT[measure]} of MAML over ANIL's", *(doubt for doubt, _ in doubts)),
        doubts=doubts,
        against=tuple(cost.row(measure) for cost in other),
    )


def _entries(entry: Entry, rows: list[FactorRow]) -> Line:
    measure = _measure(entry)
    factors = [row.gradient if measure == "gradient_entries" else row.second_order for row in rows]
    predicted = (
        f"{'≥ ' if row.is_bound else ''}{shown(factor.predicted)} (N = {row.inner_steps})"
        for row, factor in zip(rows, factors, strict=True)
    )
    detail, cannot = [f"predicted: {', '.join(predicted)}"], ""
    if any(row.is_bound for row in rows):
        cannot = "L was not measured, so that the prediction is a lower bound only"
        detail.append("L was not measured, so (1 + κL)^N is taken as 1 and the prediction is a lower bound")
    doubted = [row for row in rows if row.doubt]
    if doubted:
        detail.append(", ".join(f"{row.doubt} (N = {row.inner_steps})" for row in doubted))
    said = [_outside(entry, row) for row in rows]
    cannot = next((f"the factor is not about these runs: {why}" for why in said if why), cannot)
    return Line(
        tuple(float(row.inner_steps) for row in rows),
        tuple(row.anil_cost.row(measure) for row in rows),
        _groups(rows),
        detail=tuple(detail),
        conditions=" ".join(
            f"{why[0].upper()}{why[1:]} (N = {row.inner_steps})." for row, why in zip(rows, said, strict=True) if why
        ),
        against=tuple(row.maml_cost.row(measure) for row in rows),
        least=tuple(
            Least(factor.predicted, row.is_bound, bool(row.doubt or why))
            for row, factor, why in zip(rows, factors, said, strict=True)
        ),
        names=tuple(f"N = {row.inner_steps}, to {row.target}" for row in rows),
        mend=(doubted[0].doubt, longer) if doubted else None,
        cannot=cannot,
    )


def _without_target(entry: Entry, rows: list[FactorRow]) -> Line:
    def of(group: Group) -> Row:
        if entry.quantity[0] == "accuracy":
            return Row.known({run.seed: run.number("accuracy", "mean") for run in group.completed})
        return Row.known({seed: seconds_per_iteration(run) for seed, run in group.by_seed.items()})

    what = "held-out accuracy, ANIL's less MAML's" if entry.quantity[0] == "accuracy" else "seconds, MAML's over ANIL's"
    differing = sorted({name for row in rows for name in row.differing})
    return Line(
        tuple(float(row.inner_steps) for row in rows),
        tuple(of(row.anil) for row in rows),
        _groups(rows),
        detail=(what, *([f"they differ in {', '.join(differing)} too"] if differing else [])),
        against=tuple(of(row.maml) for row in rows),
        least=(Least(1.0),) * len(rows),
        names=tuple(f"N = {row.inner_steps}" for row in rows),
    )


def _rows(entry: Entry, world: World) -> list[FactorRow]:
    return [row for row in world.factors if row.geometry == entry.geometry[0]]


def _nobody(entry: Entry) -> Lacking:
    missing = f"missing: ANIL {entry.geometry[0]} and MAML runs of one model at the same N"
    return Lacking(missing, Remedy(missing))


def _lacking(world: World, rows: list[FactorRow]) -> Lacking | None:
    """No epsilon is known that any group reaches."""
    headline, groups = world.headlines["epsilon"], _groups(rows)
    if headline.target is not None:
        return None
    known = all(run.stationarity for group in groups for run in group.runs)
    return Lacking(headline.reason, (longer if known else measured_better)(headline.reason, groups))


def _outside(entry: Entry, row: FactorRow) -> str:
    """Why the paper's factor is not about MAML's inner step there; empty where it is."""
    return factor_condition(entry.geometry[0], row.inner_steps, number(row.maml.setting.get("inner_lr")))


def _groups(rows: list[FactorRow]) -> tuple[Group, ...]:
    return tuple(group for row in rows for group in (row.anil, row.maml))


def _measure(entry: Entry) -> Measure:
    return "gradient_entries" if entry.quantity[0] == "gradient_entries" else "second_order_entries"
