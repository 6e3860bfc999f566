"""Tables 1 and 2 of Ji et al. 2020: theory's orders, and what was measured beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from harness.report.findings.comparison import Comparison
from harness.report.findings.costs import Cost, Target
from harness.report.findings.factors import Factor
from harness.report.findings.names import extra_of, method_name
from harness.report.findings.results import GroupResult, MedianCost
from harness.report.reading.runs import Run
from harness.report.tables.cells import Cell, Math, Table, ends_text, table

_MEASURED = (
    "problem",
    "method",
    "N",
    "settings",
    "(w, φ) of",
    "accuracy",
    "accuracy, 95 %",
    "gradient entries per task",
    "second-order entries per task",
    "target",
    "K(ε)",
    "K(ε), 95 %",
    "measured every",
    "reached",
    "seeds",
    "loss at K",
    "accuracy at K",
    "error of Definition 1 at K",
    "gradient entries to ε",
    "second-order entries to ε",
    "seconds to ε",
    "gradient, s",
    "second order, s",
    "outer update, s",
    "peak MiB",
)
_GRADIENT = ("features", "inner_gradient", "outer_gradient")


def theory_tables() -> list[Table]:
    """Tables 1 and 2 as the paper states them, with what has to be known beside them."""
    from harness.theory.formulas import TABLE_1, TABLE_1_NOTES, TABLE_2, TABLE_2_NOTES

    first: list[list[Cell]] = [
        [row.geometry, *map(_math, (row.rate, row.gradient_complexity, row.second_order_complexity))] for row in TABLE_1
    ]
    second: list[list[Cell]] = []
    for row in TABLE_2:
        name = method_name(f"{row.algorithm} {row.geometry}" if row.algorithm == "anil" else row.algorithm)
        second.append([name, _math(row.gradient_evaluations), _math(row.second_order_evaluations)])
    columns = ["geometry", "rate", "gradient complexity", "second-order complexity"]
    evaluations = ["method", "gradient evaluations", "second-order evaluations"]
    titles = "Table 1, theory: geometries of the inner loop", "Table 2, theory: evaluations until Definition 1 holds"
    return [
        table("table1_theory", titles[0], columns, first, list(TABLE_1_NOTES)),
        table("table2_theory", titles[1], evaluations, second, list(TABLE_2_NOTES)),
    ]


def measured_tables(comparison: Comparison) -> list[Table]:
    """Tables 1 and 2 measured: a row for each method, N and, where a method has no phi, (w, phi) compared."""
    notes = _notes(comparison)
    geometries = [result for result in comparison.results if result.group.algorithm == "anil"]
    return [
        _measured("table1", "Table 1, measured: ANIL by geometry of the inner loop", comparison, geometries, notes),
        _measured("table2", "Table 2, measured: cost to ε of each method", comparison, comparison.results, notes),
    ]


def factor_table(comparison: Comparison) -> Table:
    """By how many times ANIL needs fewer evaluations than MAML: measured, predicted, and at equal K."""
    columns = ["problem", "geometry", "N", "settings", "target", "shared seeds"]
    for kind in ("gradient", "second-order"):
        columns += [f"{kind} factor", f"{kind}, 95 %", f"{kind}, predicted", f"{kind}, at equal K"]
    columns += ["seconds factor", "seconds, 95 %", "the factors are", "κL"]
    columns += ["ANIL loss", "ANIL accuracy", "MAML loss", "MAML accuracy", "compares nothing, since"]
    rows: list[list[Cell]] = []
    for row in comparison.factors:
        start: list[Cell] = [
            comparison.shown_problem(row.problem),
            row.geometry,
            row.inner_steps,
            extra_of(row.anil) or None,
        ]
        start += [str(row.target) if row.target else None, row.gradient.measured.seeds]
        seconds: list[Cell] = [row.seconds.measured.value, ends_text(row.seconds.measured), row.gradient.is_ or None]
        states: list[Cell] = [*row.anil_cost.state[:2], *row.maml_cost.state[:2], row.doubt or None]
        rows.append([*start, *_factor(row.gradient), *_factor(row.second_order), *seconds, row.kappa_L, *states])
    notes = [
        "MAML's entries over ANIL's at the same N, both until ε on ANIL's (w, φ): ratio of medians over the shared "
        "seeds. A miss shows only that more is needed than was spent: the factor is then a bound ('at least' where "
        "MAML missed, 'at most' where ANIL did), as are the ends of the interval. Predicted: Table 2's quotient. At "
        "equal K: exact entries of one meta-iteration. Where a seed of one of the two does not reach the report's ε, "
        "the target is the strictest that every seed of both reaches, to two digits. Losses and accuracies: medians on "
        "the fixed tasks at K, at the end for a miss.",
        "κ is MAML's inner step size and L the norm of the inner Hessian measured along its runs; where "
        "L was not measured, (1 + κL)^N is taken as 1 and the convex prediction is a lower bound.",
    ]
    return table("factors", "By how many times ANIL needs fewer evaluations than MAML", columns, rows, notes)


def _measured(name: str, title: str, comparison: Comparison, results: list[GroupResult], notes: list[str]) -> Table:
    rows: list[list[Cell]] = []
    for result in results:
        blocks: Mapping[str, Mapping[Target, MedianCost]] = result.blocks or {"": result.costs}
        for block, costs in blocks.items():
            target = comparison.headline_of(result.group).target
            rows.append([comparison.shown_problem(result.group.problem), *_row(result, block, costs, target)])
    return table(name, title, _MEASURED, rows, notes)


def _row(result: GroupResult, block: str, costs: Mapping[Target, MedianCost], target: Target | None) -> list[Cell]:
    group, run = result.group, result.group.runs[0]
    entries: list[Cell] = [run.summary.counts_per_task[f"{kind}_entries"] for kind in ("gradient", "second_order")]
    row: list[Cell] = [method_name(group.method), group.inner_steps, extra_of(group) or None]
    accuracy = result.accuracy
    row += [method_name(block) if block else None, None if accuracy is None else accuracy.value, ends_text(accuracy)]
    row += [*entries, str(target) if target else None]
    cost = costs[target] if target else MedianCost({})
    counts: list[Cell] = [cost.reached, cost.seeds] if target else [None, len(group.by_seed)]
    every = group.setting.get("stationarity_every") or None
    row += [cost.median.iterations, ends_text(cost.iterations), every if target else None, *counts, *cost.state]
    row += [cost.median.gradient_entries, cost.median.second_order_entries, cost.median.seconds]
    return [*row, *_split(result, cost), result.peak_memory_bytes / 2**20]


def _split(result: GroupResult, cost: MedianCost) -> list[Cell]:
    """Seconds to the target in gradients, second order and outer update: medians over the seeds."""
    kinds = (_GRADIENT, ("second_order",), ("outer_update",))
    runs = result.group.by_seed
    return [_median([_until(runs[seed], spent, kind) for seed, spent in cost.each.items()]) for kind in kinds]


def _until(run: Run, cost: Cost, phases: tuple[str, ...]) -> float:
    """A run's seconds in these phases, scaled to its K of all its iterations."""
    done = run.summary.iterations_done
    total = math.fsum(run.number("seconds", phase) for phase in phases)
    return total * cost.iterations / done if done else math.nan


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else math.nan


def _factor(factor: Factor) -> list[Cell]:
    return [factor.measured.value, ends_text(factor.measured), factor.predicted, factor.per_iteration]


def _math(formula: object) -> Math:
    return Math(str(formula), getattr(formula, "latex", ""))


def _notes(comparison: Comparison) -> list[str]:
    chosen = [
        f"{problem}: {kinds['epsilon'].target or 'no ε'}, {kinds['epsilon'].reason}."
        for problem, kinds in comparison.headlines.items()
    ]
    return [
        *chosen,
        "K(ε): first measurement at which both partial meta-gradients' squared norms are below ε (Definition 1), known "
        "to 'measured every' meta-iterations; median over seeds, ∞ where the median run did not get there within its "
        "iterations. The norms are unbiased estimates from groups of fixed tasks, medians of three measurements in a "
        "row; 'error' is their standard error at K, the larger of both, median over seeds: an ε below twice that "
        "cannot be carried, and is never chosen. Runs of older versions have the noise of the sampled tasks in their "
        "norms, and no error.",
        "Loss and accuracy at K are medians on the same tasks, at the end where K is ∞: a small gradient at chance "
        "level is that of a method that learns nothing.",
        "(w, φ) of: MAML and FOMAML have no φ, so K is taken on the blocks of the ANIL named there; "
        "elsewhere on the method's own.",
        "Entries to ε are sums over all tasks. Gradient seconds are shared features, inner and outer gradients; each "
        "kind is the run's total scaled by K over its iterations.",
        "Accuracy: mean over seeds of held-out accuracy at the end of training; interval: Student's t.",
    ]
