"""The tables of ``harness verify`` on a terminal, one an engine and strategy, that fit 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.terminal.console import table
from harness.terminal.fitted import Fitted


def proof_tables(report: Mapping[str, Any]) -> list[Fitted]:
    """In float64 an error beside its tolerance; in float32 beside what the best peer's allows."""
    grouped: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in report["rows"]:
        grouped.setdefault((row["dtype"], row["engine"], row["strategy"]), []).append(row)
    shown = []
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
