"""The tables of harness run, time and report on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from harness.cli.terminal.console import table, whole
from harness.cli.terminal.fitted import Fitted
from harness.experiment.in_words import result_rows, result_title
from harness.timing import KINDS


def run_table(summary: Mapping[str, Any]) -> Fitted:
    """The result of one run."""
    return table(result_title(summary), ("", ""), result_rows(summary))


def run_parts(summary: Mapping[str, Any]) -> list[Fitted | str | Text]:
    """The result of one run, and where it is."""
    return [run_table(summary), "run directory:", whole(f"  {summary['run_dir']}")]


def time_tables(document: Mapping[str, Any]) -> list[Fitted | str]:
    """The tables of ``harness time``: meta-gradients beside the peers, then each kind of evaluation."""
    rows = document["rows"]
    others = sorted({name for row in rows for name in row["ratio_to"]})
    names = ("algorithm", "N", "engine", "strategy")
    totals, kinds = [], []
    for row in rows:
        name = [f"{row['algorithm']}:{row['geometry']}", *(row[key] for key in ("inner_steps", "engine", "strategy"))]
        if row["status"] != "ok":
            totals.append([*name, row["status"].partition(":")[0], *[""] * (5 + len(others))])
            continue
        timed, memory = row["meta_gradient"], row["peak_memory_bytes"]
        totals.append(
            [
                *name,
                f"{timed['median'] * 1e3:.1f}",
                f"{timed['iqr'] / timed['median']:.0%}",
                f"{row['first_seconds'] * 1e3:.0f}",
                "" if memory is None else f"{memory / 2**20:,.0f}",
                f"{row['flops'] / 1e9:.1f}",
                "" if row["share_of_ceiling"] is None else f"{row['share_of_ceiling']:.0%}",
                *(f"{row['ratio_to'][other]:.2f}" if other in row["ratio_to"] else "" for other in others),
            ]
        )
        for kind in KINDS:
            if (taken := row[kind]) is not None:
                cells = [f"{taken['median'] * 1e3:.2f}", f"{taken['iqr'] / taken['median']:.0%}"]
                kinds.append([*name, kind.replace("_", " "), *cells, f"{taken['entries_per_second']:.3g}"])
    columns = (*names, "median ms", "IQR", "first ms", "peak MiB", "GFLOP", "of ceiling")
    clocks = document["clocks"]
    made: list[Fitted | str] = [
        table(
            f"Meta-gradients on {document['device']} (clock: {clocks['meta_gradient']}): {document['tasks']}",
            (*columns, *(f"x {other}" for other in others)),
            totals,
            keys=len(names),
        )
    ]
    if kinds:
        title = f"Evaluations of all tasks (clock: {clocks[KINDS[0]]})"
        made.append(table(title, (*names, "evaluation", "median ms", "IQR", "entries/s"), kinds, keys=len(names) + 1))
    for line in [*document["warnings"], *(row["status"] for row in rows if ":" in row["status"])]:
        made.append(f"! {line}")
    return made


def report_lines(document: Mapping[str, Any]) -> list[str]:
    """What a report found, what weakens it, and where it is."""
    lines = list(document["findings"])
    lines += document["differences"] or []
    lines += [f"warning: {warning}" for warning in document["warnings"]]
    return [*lines, f"report: {document['files'][0]}"]
