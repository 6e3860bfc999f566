"""A whole report: tables, figures and report.html, written from run directories alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.report.compared import compared
from harness.report.figures import write_figures
from harness.report.figures.look import styled
from harness.report.figures.width import inches
from harness.report.findings.against import compare_sets
from harness.report.findings.comparison import Comparison
from harness.report.findings.costs import Target
from harness.report.next_runs import write_next_runs
from harness.report.page import write_page
from harness.report.reading.runs import read_runs
from harness.report.reading.studies import read_studies, studies_found, studies_table, without_trials
from harness.report.tables.build import tables_of
from harness.report.tables.for_paper import paper_table
from harness.report.tables.writers import write_tables
from harness.store.files import write


def write_report(
    paths: Iterable[str | Path],
    out: str | Path,
    *,
    targets: Sequence[Target] | None = None,
    against: str | Path | None = None,
    mix: bool = False,
    columns: Sequence[str] = (),
    width: str = "neurips",
    style: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Compare the runs at or below ``paths`` and write tables, figures and ``report.html`` into ``out``.

    Args:
        paths: run directories, or folders of them, and of studies of ``harness tune``.
        out: folder for the report, made if need be.
        targets: what has to be reached; chosen from the data and said so by default.
        against: folder of other results; the report says which differences to them are beyond noise.
        mix: let runs of different machines share a timing table.
        columns: of the table for a paper, :data:`harness.report.tables.for_paper.COLUMNS`; the usual ones by default.
        width: of the figures, see :data:`harness.report.figures.width.WIDTHS`; or inches.
        style: of the figures: a file of matplotlib's settings, or the name of one of its styles.
        say: is told what is being done.

    Returns:
        ``{"out", "files", "findings", "claims", "warnings", "differences", "untuned"}``; the last are methods by
        benchmark, where no study has searched their step sizes.

    Raises:
        InputError: nothing to report, runs that do not belong in one table, or ``out`` cannot be written.
    """
    wide, settings = inches(width), styled(style)
    say("reading and comparing runs")
    folders = [Path(path) for path in paths]
    found = compared(folders, targets, mix)
    comparison, studies = found.comparison, found.studies
    compact = paper_table(comparison, columns)
    comparison.findings.extend(studies_found(studies))
    tables = tables_of(comparison)
    if studies:
        tables.insert(0, studies_table(studies))
    other = None
    if against is not None:
        others, more = read_runs([Path(against)])
        others, more, _ = without_trials(others, more, read_studies([Path(against)])[0])
        other = compare_sets(found.runs, others, targets, mix)
        comparison.warnings.extend([*other.warnings, *more])
        tables.append(other.table)
    folder = _writable(Path(out))
    files = write_tables(tables, folder)
    if comparison.results:
        write(folder / "table.tex", compact.encode())
        files.append(folder / "table.tex")
    say("drawing figures")
    files += write_figures(comparison, folder / "figures", wide, settings)
    say("writing report.html")
    next_runs, suites = write_next_runs(comparison.claims, folder)
    files += suites
    write_page(comparison, tables, folder / "report.html", studies, other.sentences if other else (), next_runs)
    return {
        "out": str(folder),
        "files": [str(path) for path in [folder / "report.html", *files]],
        "findings": comparison.findings,
        "claims": _claims(comparison),
        "warnings": comparison.warnings,
        "differences": other.sentences if other else None,
        "untuned": {} if studies else _methods(comparison),
    }


def _methods(comparison: Comparison) -> dict[str, list[str]]:
    """``{benchmark: [algorithm:geometry]}`` of those with several methods, none of whose settings has a label."""
    found: dict[str, dict[str, None]] = {}
    for group in comparison.groups:
        config = group.runs[0].config
        if not config.get("label"):
            found.setdefault(str(config.get("benchmark")), {})[f"{config.get('algo')}:{config.get('geometry')}"] = None
    return {benchmark: list(methods) for benchmark, methods in found.items() if len(methods) > 1}


def _claims(comparison: Comparison) -> list[dict[str, str]]:
    return [
        {
            "sentence": claim.sentence,
            "verdict": claim.verdict,
            "interval": claim.interval_text,
            "detail": claim.detail,
        }
        for claim in comparison.claims
    ]


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {folder}: {error.strerror}; allowed: a writable folder") from error
    return folder
