"""``harness.report(...)``: a report from Python, which a notebook shows where it is made."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.report.findings.costs import targets_of
from harness.report.write import write_report

_HEIGHT = 760


class Report(dict[str, Any]):
    """What :func:`report` found, as a dictionary; in a notebook it shows its page."""

    def _repr_html_(self) -> str:
        page = html.escape(Path(self["files"][0]).read_text(encoding="utf-8"))
        return f"<iframe title='report' width='100%' height='{_HEIGHT}' style='border:0' srcdoc=\"{page}\"></iframe>"


def report(
    *runs: str | Path,
    out: str | Path = "report",
    epsilon: Sequence[float] = (),
    loss: Sequence[float] = (),
    accuracy: Sequence[float] = (),
    **options: Any,
) -> Report:
    """Write the tables, the figures and ``report.html`` of the runs at or below ``runs`` (``results/runs`` by default).

    Args:
        runs: run directories, or folders of them, and of studies of ``harness tune``.
        out: folder for the report.
        epsilon: bounds on both squared norms of Definition 1; chosen from the data by default.
        loss: target losses on the fixed tasks, likewise.
        accuracy: target accuracies on the fixed tasks, between 0 and 1, likewise.
        options: ``against``, ``mix``, ``columns``, ``width``, ``style`` of :func:`harness.report.write.write_report`.

    Returns:
        ``{"out", "files", "findings", "claims", "warnings", "differences", "untuned"}``; a notebook shows the page.

    Raises:
        InputError: nothing to report, runs that do not belong in one table, or ``out`` cannot be written.

    >>> harness.report("results/runs", loss=[1.0])["findings"]  # doctest: +SKIP
    """
    targets = targets_of(epsilon, loss, accuracy)
    return Report(write_report(runs or ("results/runs",), out, targets=targets, **options))
