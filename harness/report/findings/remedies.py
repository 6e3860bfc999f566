"""What would decide a claim that is undecided: which runs are missing, and what they take as far as others tell."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.report.findings.groups import Group, Setting
from harness.report.findings.statistics import ENOUGH, LEVEL, median

#: how many times as long, or on how many times as many tasks, where that is what lacks
_LONGER, _MORE_TASKS = 2, 4
_MEASUREMENTS = 20
_USUAL_STEPS = (1, 5, 10)


@dataclass(frozen=True)
class Wanted:
    """The setting of ``group``, whose key is ``key``, with ``changes``: none, where more seeds are wanted."""

    key: str
    changes: tuple[tuple[str, Any], ...]
    group: Group = field(compare=False)

    @property
    def setting(self) -> Setting:
        """A whole configuration without its seed."""
        config = {**self.group.runs[0].config, **dict(self.changes)}
        return {name: value for name, value in config.items() if name != "seed"}


@dataclass(frozen=True)
class Remedy:
    """Every one of ``wanted`` with every one of ``seeds``; without any it is known why, and not what to run."""

    why: str
    wanted: tuple[Wanted, ...] = ()
    seeds: tuple[int, ...] = ()

    @property
    def runs(self) -> int:
        """How many of them are not there yet."""
        return sum(map(self._missing, self.wanted))

    @property
    def seconds(self) -> float:
        """What those take, one after the other, if as long as the runs of their group; NaN where that is not known."""
        return math.fsum(self._missing(each) * _seconds(each) for each in self.wanted) if self.wanted else math.nan

    def _missing(self, wanted: Wanted) -> int:
        return sum(bool(wanted.changes) or seed not in wanted.group.by_seed for seed in self.seeds)


def more_seeds(groups: Sequence[Group], shared: int, level: float = LEVEL) -> Remedy:
    """Seeds enough for a claim, or twice as many as the ``shared`` ones where the interval still has room for both."""
    there = sorted({seed for group in groups for seed in group.by_seed})
    if shared < ENOUGH:
        seeds = f"{shared} shared {'seed' if shared == 1 else 'seeds'}"
        return Remedy(f"{seeds}, and a claim takes {ENOUGH}", _wanted(groups), _seeds(there, ENOUGH))
    why = f"the {100 * level:.3g} % interval over {shared} seeds has room for both"
    return Remedy(why, _wanted(groups), _seeds(there, 2 * shared))


def changed(why: str, groups: Sequence[Group], **settings: Any) -> Remedy:
    """The same settings, others in some respect, with the same seeds."""
    seeds = sorted({seed for group in groups for seed in group.by_seed})
    return Remedy(why, _wanted(groups, **settings), _seeds(seeds, ENOUGH))


def longer(why: str, groups: Sequence[Group]) -> Remedy:
    """Twice as many meta-iterations."""
    return changed(why, groups, iterations=_LONGER * max(map(_iterations, groups)))


def measured_better(why: str, groups: Sequence[Group]) -> Remedy:
    """Definition 1 on four times as many tasks; measured at all, where it was not."""
    if not all(run.stationarity for group in groups for run in group.runs):
        every = max(1, min(map(_iterations, groups)) // _MEASUREMENTS)
        return changed(why, groups, stationarity_every=every)
    tasks = [value for group in groups if isinstance(value := group.setting.get("stationarity_tasks"), int)]
    return changed(why, groups, stationarity_tasks=_MORE_TASKS * max(tasks)) if tasks else Remedy(why)


def more_often(why: str, groups: Sequence[Group]) -> Remedy:
    """Definition 1 measured four times as often."""
    every = [value for group in groups if isinstance(value := group.setting.get("stationarity_every"), int)]
    return changed(why, groups, stationarity_every=max(1, min(every) // 4)) if every else Remedy(why)


def further_steps(why: str, groups: Sequence[Group], geometry: str, steps: Sequence[int] = ()) -> Remedy:
    """ANIL of this geometry, as it is at one N, at all of ``steps``, or at those that other methods have."""
    mine = next((each for each in groups if (each.algorithm, each.geometry) == ("anil", geometry)), None)
    if mine is None:
        return Remedy(why)
    others = {group.inner_steps for group in groups if group.inner_steps}
    wanted = sorted({*(steps or (others if len(others) > 2 else others | set(_USUAL_STEPS))), mine.inner_steps})
    changes = [{"inner_steps": n} if n != mine.inner_steps else {} for n in wanted]
    each = itertools.chain.from_iterable(_wanted([mine], **change) for change in changes)
    return Remedy(why, tuple(each), _seeds(sorted(mine.by_seed), ENOUGH))


def together(remedies: Iterable[Remedy | None]) -> Remedy | None:
    """What decides most in one go: all remedies of the commonest kind, as one; None where none has runs.

    Of one kind are those that ask for the same seeds, and for settings as they are or for others.
    """
    kinds: dict[tuple[tuple[int, ...], bool], list[Remedy]] = defaultdict(list)
    for each in remedies:
        if each is not None and each.runs:
            kinds[each.seeds, any(wanted.changes for wanted in each.wanted)].append(each)
    if not kinds:
        return None
    (seeds, _), mine = max(kinds.items(), key=lambda kind: len(kind[1]))
    whys = ", or ".join(dict.fromkeys(each.why for each in mine))
    return Remedy(whys, tuple(dict.fromkeys(wanted for each in mine for wanted in each.wanted)), seeds)


def _wanted(groups: Iterable[Group], **changes: Any) -> tuple[Wanted, ...]:
    return tuple(Wanted(group.key, tuple(changes.items()), group) for group in dict.fromkeys(groups))


def _seeds(there: Sequence[int], wanted: int) -> tuple[int, ...]:
    """``there``, and the smallest others until they are as many as ``wanted``."""
    fresh = (seed for seed in itertools.count() if seed not in there)
    return (*there, *itertools.islice(fresh, max(0, wanted - len(there))))


def _iterations(group: Group) -> int:
    return group.runs[0].summary.iterations


def _seconds(wanted: Wanted) -> float:
    """Of one run, from beginning to end, as much longer as it has iterations more."""
    group, iterations = wanted.group, _iterations(wanted.group)
    taken = [run.number("seconds", "wall") for run in group.completed]
    known = [value for value in taken if not math.isnan(value)]
    share = dict(wanted.changes).get("iterations", iterations) / iterations
    return float(median(known)) * share if known else math.nan
