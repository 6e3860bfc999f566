"""The settings of a suite, each with as many seeds as are asked for, in an order that never changes."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from pathlib import Path

from harness.grid.compare import Entry, estimate, grid
from harness.report.findings.claim import Claim
from harness.report.findings.groups import Group
from harness.report.findings.looks import LOOKS, Looks
from harness.settings.suites import find, overview


class Settings:
    """What a suite compares. Its own seeds come first, then the smallest others; a setting is named by its number."""

    def __init__(self, suite: str, results: Path, assignments: Iterable[str] = ()) -> None:
        own = dict.fromkeys(overview(find(suite))["seeds"])
        fresh = (seed for seed in itertools.count() if seed not in own)
        self.suite, self.results = suite, results
        self._seeds = [*own, *itertools.islice(fresh, max(0, LOOKS[-1] - len(own)))]
        self._entries = {
            (index, 0): entry for index, entry in enumerate(grid(suite, results, assignments, self._seeds[:1]))
        }
        self.numbers = range(len(self._entries))
        self._of_run: dict[str, int] = {}

    def entries(self, setting: int, seeds: int) -> list[Entry]:
        """The first so many runs of a setting."""
        return [self._entry(setting, index) for index in range(seeds)]

    def looked(self, setting: int, looks: Looks) -> int:
        """With how many seeds a setting was last looked at; 0: not yet."""
        last = 0
        for seeds in LOOKS:
            if not {entry.directory.name for entry in self.entries(setting, seeds)} <= looks.runs:
                break
            last = seeds
        return last

    def there(self, setting: int, seeds: int) -> int:
        """How many of the first so many runs have ended; none are beyond the last look."""
        return sum(entry.state in ("cached", "failed") for entry in self.entries(setting, min(seeds, LOOKS[-1])))

    def of_claim(self, claim: Claim) -> list[int] | None:
        """The settings that a claim compares; None where one is not of this suite."""
        groups = dict.fromkeys(claim.line.groups) if claim.line is not None else ()
        found = [self._of_group(group) for group in groups]
        return sorted({each for each in found if each is not None}) if found and None not in found else None

    def seconds(self) -> list[float]:
        """Of one run of each setting, as finished ones beside it took; NaN where there is none."""
        found = estimate([self._entry(setting, 0) for setting in self.numbers])
        return [float("nan") if each is None else each for each in found]

    def _entry(self, setting: int, index: int) -> Entry:
        if (setting, index) not in self._entries:
            asked = self._entries[setting, 0].resolved
            config = asked.config.model_copy(update={"seed": self._seeds[index]})
            self._entries[setting, index] = Entry(dataclasses.replace(asked, config=config), self.results)
        entry = self._entries[setting, index]
        self._of_run[entry.directory.name] = setting
        return entry

    def _of_group(self, group: Group) -> int | None:
        here = self.results.resolve()
        found = (self._of_run.get(run.path.name) for run in group.runs if run.path.parent.resolve() == here)
        return next((each for each in found if each is not None), None)
