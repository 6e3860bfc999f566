"""The tables of harness run, time and report on a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from harness.cli.terminal.console import table
from harness.cli.terminal.fitted import Fitted
from harness.strangers.named import brief
from harness.timing import KINDS

#: counts that most algorithms have none of
_OTHERS = {"solves": "inner problems solved", "pseudo_gradients": "pseudo-gradients"}


def run_table(summary: Mapping[str, Any]) -> Fitted:
    """The result of one run: accuracy or loss, sizes, counts, seconds, memory."""
    name = f"{summary['algorithm']} {summary['geometry']} on {brief(summary['benchmark'])}"
    task = f"{summary['ways']}-way {summary['shots']}-shot, N = {summary['inner_steps']}"
    counts, seconds = summary["counts"], summary["seconds"]
    per_task, several = summary["counts_per_task"], summary["ranks"] > 1
    rows: list[tuple[str, str]] = [
        ("status", _status(summary)),
        (
            "meta-iterations",
            f"{summary['iterations_done']} of {summary['iterations']}, {summary['meta_batch']} tasks each",
        ),
    ]
    held_out = summary["accuracy"]["tasks"]
    if summary["accuracy"]["mean"] is not None:
        accuracy = summary["accuracy"]
        rows += [
            (f"accuracy, {held_out} held-out tasks", _percent(accuracy["mean"], accuracy["ci95"])),
            ("  before adaptation", _percent(accuracy["before_adaptation"], accuracy["before_adaptation_ci95"])),
        ]
    if summary["loss"]["mean"] is not None:
        loss = summary["loss"]
        rows += [
            (f"loss, {held_out} held-out tasks", _interval(loss["mean"], loss["ci95"])),
            ("  before adaptation", _interval(loss["before_adaptation"], loss["before_adaptation_ci95"])),
        ]
    for name, found in summary["metrics"].items():
        if found["mean"] is not None:
            rows.append((f"{name}, {held_out} held-out tasks", _interval(found["mean"], found["ci95"])))
    rows += [
        ("n_w, n_phi", f"{summary['n_w']:,}, {summary['n_phi']:,}"),
        ("gradient entries", _count(counts, per_task, "gradient_entries")),
        ("second-order entries", _count(counts, per_task, "second_order_entries")),
        ("Hessian-vector products", _count(counts, per_task, "hessian_vector_products")),
        ("mixed products", _count(counts, per_task, "mixed_products")),
        *((words, _count(counts, per_task, name)) for name, words in _OTHERS.items() if counts.get(name)),
        ("seconds of training", f"{seconds['train']:.2f}"),
        ("  shared features", _seconds(seconds["features"])),
        ("  inner gradients", _seconds(seconds["inner_gradient"])),
        ("  outer gradients", _seconds(seconds["outer_gradient"])),
        ("  second order", _seconds(seconds["second_order"])),
        ("  outer update", _seconds(seconds["outer_update"])),
        *([("  exchange between ranks", _seconds(seconds["exchange"]))] if several else []),
        ("peak memory" + " of a rank" * several, f"{summary['peak_memory_bytes'] / 2**20:,.0f} MiB"),
        ("engine", f"{summary['engine']} ({summary['strategy']}) on {summary['device']}"),
        *([("ranks", str(summary["ranks"]))] if several else []),
        *_route(summary["route"]),
    ]
    return table(f"{name}, {task}", ("", ""), rows)


def run_parts(summary: Mapping[str, Any]) -> list[Fitted | str]:
    """The result of one run, and where it is."""
    return [run_table(summary), "run directory:", f"  {summary['run_dir']}"]


def _route(route: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Why derivatives or features take the slower way, where they do."""
    rows = []
    if route["why"]:
        rows.append(("  layers by autograd", route["why"]))
    if route["relative_error"] is None:
        rows.append(("  model's own forward", "not compared: out of memory"))
    return rows


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


def _status(summary: Mapping[str, Any]) -> str:
    divergence = summary["diverged"]
    if summary["status"] == "interrupted":
        return "interrupted; add --resume to go on"
    if summary["status"] == "stopped":
        return f"stopped ({summary['stopped']}); add --resume to go on"
    if summary["status"] == "out_of_memory" and summary.get("out_of_memory"):
        smaller = "--resume --task-chunk 1" if summary["task_chunk"] > 1 else "--resume, once there is more memory,"
        return f"out of memory ({summary['out_of_memory']['message']}); {smaller} goes on"
    if not divergence:
        return str(summary["status"])
    return f"diverged: {divergence['quantity']} is not finite at meta-iteration {divergence['iteration']}"


def _percent(mean: float, half: float | None) -> str:
    return f"{100 * mean:.2f} %" + (f" ± {100 * half:.2f}" if half is not None else "")


def _interval(mean: float, half: float | None) -> str:
    """Both with the decimals that two digits of the half width have; four digits where there is none."""
    if not half or half < 1e-9 * abs(mean):
        return f"{mean:.4g}"
    digits = max(0, 1 - math.floor(math.log10(half)))
    return f"{mean:.{digits}f} ± {half:.{digits}f}" if digits < 10 else f"{mean:.4g} ± {half:.2g}"


def _count(counts: Mapping[str, int | None], per_task: Mapping[str, int | None], name: str) -> str:
    if counts[name] is None:
        return "unknown"
    return f"{counts[name]:,} ({per_task[name]:,} a task)"


def _seconds(value: float | None) -> str:
    return "not measured by this engine" if value is None else f"{value:.2f}"


def report_lines(document: Mapping[str, Any]) -> list[str]:
    """What a report found, what weakens it, and where it is."""
    lines = list(document["findings"])
    lines += document["differences"] or []
    lines += [f"warning: {warning}" for warning in document["warnings"]]
    return [*lines, f"report: {document['files'][0]}"]
