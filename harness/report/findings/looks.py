"""Results that are looked at again and again: how often, at which seeds, and what level that asks of every claim."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.report.findings.groups import setting_of
from harness.report.findings.statistics import LEVEL
from harness.report.reading.documents import read_object
from harness.report.reading.runs import Run
from harness.store.directory import write_json
from harness.store.foreign import one_line

#: beside the run directories
FILE = "looks.json"
#: how many seeds a setting has when it is looked at, fixed before the first
LOOKS = (5, 10, 20, 40)
#: of the intervals of every look. Each errs in 1 %, so that all four together do in 4 % however they depend on each
#: other; the fifth is what Student's t of five mildly skewed values may err in beyond what it says.
LEVEL_OF_LOOKS = 0.99
_SCHEMA = 1


@dataclass(frozen=True)
class Looks:
    """What of a folder has been looked at: names of run directories; no others count until the next look."""

    runs: frozenset[str] = frozenset()

    def with_runs(self, names: Iterable[str]) -> Looks:
        """These have been looked at, too."""
        return Looks(self.runs | {*names})

    def write(self, folder: Path) -> None:
        """Record it in ``folder``, before anybody has seen what the look shows."""
        document = {
            "schema": _SCHEMA,
            "what": "what harness compare --until-decided has looked at; reports count no other runs of these settings",
            "looks": LOOKS,
            "level": LEVEL_OF_LOOKS,
            "runs": sorted(self.runs),
        }
        write_json(folder / FILE, document)


@dataclass(frozen=True)
class LookedAt:
    """Runs that count, the level of the intervals that decide claims, and what a report says of both."""

    runs: list[Run]
    level: float
    notes: list[str]


def read_looks(folder: Path) -> tuple[Looks | None, str | None]:
    """What was looked at in ``folder``: None where nobody did so; and what is wrong with the record of it."""
    found, fault = read_object(folder / FILE)
    if fault == "not there":
        return None, None
    names = found.get("runs")
    if fault is None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        fault = "runs: allowed: names of run directories"
    return Looks(frozenset(names if fault is None and names else ())), fault


def looked_at(runs: Sequence[Run]) -> LookedAt:
    """Of ``runs`` those that count, by the records beside them.

    Where there is a record, a setting that it knows has the runs of its last look alone: seeds that came since belong
    to the next one. A record that cannot be read leaves all runs, at the stricter level.
    """
    kept: list[Run] = []
    notes: list[str] = []
    level = LEVEL
    for folder in dict.fromkeys(run.path.parent for run in runs):
        mine = [run for run in runs if run.path.parent == folder]
        looks, fault = read_looks(folder)
        if looks is None:
            kept += mine
            continue
        level = LEVEL_OF_LOOKS
        if fault is not None:
            notes.append(f"{one_line(folder / FILE)}: {fault}; all runs count")
        settings = [setting_of(run) for run in mine if run.path.name in looks.runs]
        counts = [run for run in mine if run.path.name in looks.runs or setting_of(run) not in settings]
        if left := len(mine) - len(counts):
            whose = "1 run is of a look that is" if left == 1 else f"{left} runs are of looks that are"
            notes.append(f"{one_line(folder)}: {whose} not complete, and not counted: harness compare --until-decided")
        kept += counts
    if level != LEVEL:
        notes.insert(
            0,
            f"claims are decided by {100 * level:g} % intervals: these runs are looked at repeatedly, at "
            f"{', '.join(map(str, LOOKS[:-1]))} and {LOOKS[-1]} seeds, and all looks together err in at most 5 %",
        )
    return LookedAt(kept, level, notes)
