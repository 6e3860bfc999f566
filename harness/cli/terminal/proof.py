"""The tables of ``harness verify`` on a terminal, one an engine and strategy, that fit 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.cli.terminal.console import table
from harness.cli.terminal.fitted import Fitted
from harness.strangers.named import brief

#: names of parameters that are spelt out
_FEW = 6


def proof_tables(report: Mapping[str, Any]) -> list[Fitted]:
    """How one's own model is seen; then errors, in float64 beside a tolerance, in float32 beside the best peer's."""
    grouped: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in report["rows"]:
        grouped.setdefault((row["dtype"], row["engine"], row["strategy"]), []).append(row)
    shown = [*_views(report.get("views", ()))]
    for (dtype, engine, strategy), rows in grouped.items():
        title, beside = ("best peer", "peer") if dtype == "float32" else ("witness", "witness")
        body = [
            [
                f"{row['algorithm']} {row['geometry']}",
                row["problem"],
                row[beside].replace("_", " "),
                row["relative_error"],
                row["tolerance"],
                row["ok"],
            ]
            for row in rows
        ]
        columns = ("algorithm", "problem", title, "error", "allowed", "ok")
        shown.append(table(f"{engine} {strategy}: meta-gradients in {dtype}", columns, body))
    return shown


def _views(views: Sequence[Mapping[str, Any]]) -> Iterator[Fitted]:
    """What one's own model is to each algorithm; those that see the same stand together."""
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for view in views:
        same = {name: part for name, part in view.items() if name not in ("algorithm", "geometry", "relative_error")}
        grouped.setdefault(repr(same), []).append(view)
    for group in grouped.values():
        first = group[0]
        names = ", ".join(f"{view['algorithm']} {view['geometry']}" for view in group)
        errors = [view["relative_error"] for view in group if view["relative_error"] is not None]
        route = f"{first['strategy']}, layers {first['layers']}"
        rows = [
            ("w, adapted", _some(first["w"], f"{first['n_w']:,} entries")),
            ("phi, shared", _some(first["phi"], f"{first['n_phi']:,} entries")),
            ("frozen", _some(first["frozen"])),
            ("tied", _some([" = ".join(tied) for tied in first["tied"]])),
            ("buffers", _some(first["buffers"])),
            ("body, once a task", first["body"] or "none"),
            ("head, every step", first["head"]),
            ("route", route + (f": {first['why']}" if first["why"] else "")),
            ("off its own forward by", f"{max(errors):.1e} in float64" if errors else "not compared"),
        ]
        where = f"{brief(first['model'])} on {brief(first['benchmark'])}"
        at = f"alpha = {first['inner_lr']:g}, N = {first['inner_steps']}"
        yield table(f"{where}, {at}, as seen by {names}", ("", "adapt " + first["adapt"]), rows)


def _some(names: Sequence[str], size: str = "") -> str:
    """The first few of ``names``, and how many there are."""
    if not names:
        return "none"
    few = ", ".join(names[:_FEW]) + (f", … ({len(names)} in all)" if len(names) > _FEW else "")
    return f"{size}: {few}" if size else few
