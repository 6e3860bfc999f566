"""From folders to a comparison: what every report, plan and look does alike, so that all give the same verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.report.findings.comparison import Comparison, compare_runs, nothing
from harness.report.findings.costs import Target
from harness.report.findings.looks import looked_at
from harness.report.reading.runs import Run, read_runs
from harness.report.reading.studies import Study, read_studies, without_trials


@dataclass(frozen=True)
class Compared:
    """Runs that count, how they compare, and the studies beside them."""

    runs: list[Run]
    comparison: Comparison
    studies: list[Study]


def compared(folders: Sequence[Path], targets: Sequence[Target] | None = None, mix: bool = False) -> Compared:
    """Compare the runs at or below ``folders``; raises :class:`InputError` as :func:`compare_runs` does.

    Trials of studies do not count, nor runs of a look that is not complete; both are warned of.
    """
    runs, skipped = read_runs(folders)
    studies, left_out = read_studies(folders)
    runs, skipped, notes = without_trials(runs, skipped, studies)
    counted = looked_at(runs)
    found = compare_runs(counted.runs, targets, mix, skipped, counted.level) if counted.runs else nothing(skipped)
    found.warnings[:0] = counted.notes
    found.warnings.extend([*left_out, *notes])
    return Compared(counted.runs, found, studies)
