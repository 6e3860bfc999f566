"""Accuracies in print beside the measured ones of the same method, benchmark, ways and shots."""

from __future__ import annotations

from harness.report.findings.names import group_name
from harness.report.findings.results import GroupResult
from harness.report.tables.cells import Cell, Table, ends_text, table
from harness.settings.suites import published


def in_print_table(results: list[GroupResult]) -> Table:
    """A row for every group with accuracies that a number in print belongs to; no rows where there is none."""
    known = published()
    rows: list[list[Cell]] = []
    for result in results:
        setting = result.group.setting
        for entry in known:
            if result.accuracy is not None and entry.settings.items() <= setting.items():
                ours, spread = result.accuracy, entry.ci95
                rows.append(
                    [
                        group_name(result.group),
                        f"{setting.get('benchmark')}, {setting.get('ways')}-way {setting.get('shots')}-shot",
                        setting.get("iterations"),
                        ours.value,
                        ends_text(ours),
                        entry.accuracy,
                        None if spread is None else f"± {spread:g}",
                        entry.source,
                    ]
                )
    columns = [
        "group",
        "tasks",
        "meta-iterations",
        "accuracy",
        "accuracy, 95 %",
        "in print",
        "in print, 95 %",
        "source",
    ]
    notes = [
        "Numbers in print are from training of the length and with the settings of the suite published-accuracy; "
        "their intervals are over tasks, those measured here over seeds."
    ]
    return table("in_print", "Accuracies in print", columns, rows, notes)
