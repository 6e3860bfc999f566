"""Every table of a report, from its comparison. What to import for tables is all here."""

from __future__ import annotations

from harness.report.findings.comparison import Comparison
from harness.report.findings.names import group_name, method_name
from harness.report.findings.overshoot import alpha_L
from harness.report.findings.results import TIMED, GroupResult
from harness.report.findings.statistics import mean
from harness.report.tables.cells import Cell, Table, ends_text, table
from harness.report.tables.in_print import in_print_table
from harness.report.tables.latex import to_latex
from harness.report.tables.paper import factor_table, measured_tables, theory_tables
from harness.report.tables.writers import to_csv, to_json, to_markdown, write_tables
from harness.store.records import COUNTED, Status

__all__ = ["Table", "tables_of", "to_csv", "to_json", "to_latex", "to_markdown", "write_tables"]

_RATIOS = (1, 2, 5, 10)


def tables_of(comparison: Comparison) -> list[Table]:
    """Tables 1 and 2, theory beside measurement, then costs, time, and over problems where there are several."""
    found = [
        *measured_tables(comparison),
        factor_table(comparison),
        _claims(comparison),
        _targets(comparison),
        _accuracy(comparison),
        _work(comparison),
        _timing(comparison),
        in_print_table(comparison.results),
        *theory_tables(),
    ]
    if len(comparison.problems) > 1:
        found += [_over_problems(comparison), _profiles(comparison)]
    return [each for each in found if each.rows]


def _claims(comparison: Comparison) -> Table:
    columns = ["problem", "claim", "verdict", "interval", "detail", "the theorem's conditions"]
    rows: list[list[Cell]] = [
        [
            comparison.shown_problem(claim.problem),
            claim.sentence,
            claim.verdict,
            claim.interval_text or None,
            claim.detail,
            claim.conditions or None,
        ]
        for claim in comparison.claims
    ]
    notes = [
        "Held and refuted need five shared seeds and an interval that excludes no effect: one of 95 %, or of the "
        "level that a warning names where runs are looked at repeatedly. Medians over "
        "seeds drawn together (percentile bootstrap, 2,000 resamples), those of ratios without misses at least as wide "
        "as Student's t of their logarithms."
    ]
    return table("claims", "The paper's claims", columns, rows, notes)


def _who(comparison: Comparison, result: GroupResult) -> list[Cell]:
    """Problem and group, with which a row about a group begins."""
    return [comparison.shown_problem(result.group.problem), group_name(result.group)]


def _accuracy(comparison: Comparison) -> Table:
    """Held-out accuracy of every group."""
    columns = ["problem", "group", "completed runs", "accuracy", "accuracy, 95 %", "training s"]
    rows: list[list[Cell]] = []
    for result in comparison.results:
        if (accuracy := result.accuracy) is not None:
            runs, ends = len(result.group.completed), ends_text(accuracy)
            rows.append([*_who(comparison, result), runs, accuracy.value, ends, result.training_seconds])
    notes = ["Mean over completed runs; interval: Student's t over seeds. Seconds: median."]
    return table("accuracy", "Accuracy on held-out tasks", columns, rows, notes)


def _work(comparison: Comparison) -> Table:
    """What one task costs in one meta-iteration, by every count, beside what comes of it."""
    columns = ["problem", "group", "L_meta is", "accuracy", "accuracy, 95 %", "seconds per iteration", "peak MiB", "αL"]
    columns += [name.replace("_", " ").replace("second order", "second-order") for name in COUNTED]
    rows: list[list[Cell]] = []
    for result in comparison.results:
        group, accuracy = result.group, result.accuracy
        function = "of an inner problem of its own" if group.same("plain_inner_loop") is False else "L_D(w_N)"
        row: list[Cell] = [*_who(comparison, result), function]
        row += [None if accuracy is None else accuracy.value, ends_text(accuracy)]
        row += [result.seconds["train"], result.peak_memory_bytes / 2**20, alpha_L(group)]
        rows.append([*row, *(group.runs[0].summary.counts_per_task[name] for name in COUNTED)])
    notes = [
        "Counts are of one task in one meta-iteration, as executed, the mean over a run (docs/counts.md); those of "
        "steps that end at a tolerance differ from run to run, and the first run's are shown. Costs to a loss or an "
        "accuracy compare any two methods; costs to ε only those with one L_meta. αL: inner step size times the "
        "largest L along training, median over runs; above 2 an inner step overshoots."
    ]
    return table("work", "What a task costs, by every count", columns, rows, notes)


def _targets(comparison: Comparison) -> Table:
    """Cost to every target, each group on its own (w, phi)."""
    columns = ["problem", "group", "target", "reached", "seeds", "iterations", "iterations, 95 %", "seconds"]
    columns += ["gradient entries", "second-order entries", "FLOPs"]
    rows: list[list[Cell]] = []
    for result in comparison.results:
        for target, cost in result.costs.items():
            if cost.seeds:
                median, ends = cost.median, ends_text(cost.iterations)
                row: list[Cell] = [*_who(comparison, result), str(target), cost.reached, cost.seeds]
                row += [median.iterations, ends, median.seconds]
                rows.append([*row, median.gradient_entries, median.second_order_entries, median.flops])
    notes = [
        "Medians over seeds; ∞: not reached by the median run within its iterations. "
        "Every group on its own (w, φ), on the fixed tasks of its seed."
    ]
    return table("targets", "Cost to every target", columns, rows, notes)


def _timing(comparison: Comparison) -> Table:
    columns = ["problem", "group", "runs", "seconds per iteration", "IQR over median"]
    columns += [f"{name.replace('_', ' ')}, s" for name in TIMED[1:]]
    columns += ["peak MiB", "diverged", "out of memory"]
    rows: list[list[Cell]] = []
    for result in comparison.results:
        seconds, failed = result.seconds, [result.with_status(name) for name in ("diverged", "out_of_memory")]
        row: list[Cell] = [*_who(comparison, result), len(result.group.by_seed)]
        row += [seconds["train"], result.spread["train"], *(seconds[name] for name in TIMED[1:])]
        rows.append([*row, result.peak_memory_bytes / 2**20, *failed])
    notes = [
        "Medians over runs of one meta-iteration of the whole batch, evaluation, logging and checkpoints off the "
        "clock. Seconds per iteration leave the first iteration out; phases are totals of the run over its iterations. "
        "Peak memory is the largest of any run."
    ]
    return table("timing", "Time and memory", columns, rows, notes)


def _over_problems(comparison: Comparison) -> Table:
    """Each method at its best N on each problem: accuracy over problems and seeds."""
    best: dict[str, dict[str, GroupResult]] = {}
    for result in comparison.results:
        if result.accuracy is not None:
            mine = best.setdefault(result.group.method, {})
            problem = result.group.problem
            held = mine[problem].accuracy if problem in mine else None
            if held is None or result.accuracy.value > held.value:
                mine[problem] = result
    rows: list[list[Cell]] = []
    for method, chosen in best.items():
        found = mean([_accuracies(result) for result in chosen.values()])
        if found is not None:
            rows.append([method_name(method), len(chosen), found.seeds, found.value, ends_text(found)])
    columns = ["method", "problems", "seeds, fewest", "accuracy", "accuracy, 95 %"]
    notes = [
        "Mean over problems of the mean held-out accuracy over seeds, each method at the N that is best on a problem; "
        "interval: Student's t with Welch's degrees of freedom."
    ]
    return table("over_problems", "Accuracy over problems", columns, rows, notes)


def _accuracies(result: GroupResult) -> list[float]:
    runs = result.group.by_seed.values()
    return [run.number("accuracy", "mean") for run in runs if run.summary.status == Status.COMPLETED]


def _profiles(comparison: Comparison) -> Table:
    columns = ["method", *(f"within {ratio}× of the cheapest" for ratio in _RATIOS)]
    rows: list[list[Cell]] = [
        [method_name(method), *(profile.at(ratio) for ratio in _RATIOS)]
        for method, profile in comparison.profiles().items()
    ]
    notes = [
        "Performance profile: the share of problems on which a method, at its best N, reaches the problem's ε "
        "with at most so many times the gradient entries of the cheapest method."
    ]
    return table("profiles", "Performance profile of gradient entries to ε", columns, rows, notes)
