"""Runs until all claims are decided: a group-sequential rule, its looks fixed beforehand, seeds where they decide."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from harness.decide.power import chance, evidence
from harness.decide.settings import Settings
from harness.errors import InputError
from harness.grid.compare import Entry, do, places, workers_for
from harness.report.compared import compared
from harness.report.findings.claim import Claim
from harness.report.findings.comparison import Comparison
from harness.report.findings.looks import FILE, LOOKS, Looks, read_looks

#: less likely at the last look than this, and no more seeds are spent on a claim
_HOPELESS = 0.05

#: how many seeds which settings get next
Step = Mapping[int, int]


@dataclass
class Outcome:
    """What became of a suite's claims, and why no more was run."""

    #: ``decided``, ``budget`` or ``nothing more``
    ended: str
    why: str
    claims: list[Claim]
    entries: list[Entry] = field(default_factory=list)


@dataclass(frozen=True)
class Open:
    """An undecided claim of which more seeds may make a verdict."""

    claim: Claim
    settings: tuple[int, ...]
    #: how likely it is decided by the seeds of its next look, and of the last
    chances: Mapping[int, float]

    def by(self, seeds: int) -> float:
        """How likely it is decided by so many seeds, at least."""
        return max((likely for look, likely in self.chances.items() if look <= seeds), default=0.0)

    def step(self, counts: Mapping[int, int]) -> Step:
        """What its next look lacks."""
        return {setting: min(self.chances) for setting in self.settings if counts[setting] < min(self.chances)}


def until_decided(
    suite: str,
    *,
    results: str | Path = Path("results/runs"),
    assignments: Iterable[str] = (),
    budget: float = math.inf,
    workers: int | None = None,
    scheduler: str | None = None,
    retry: bool = False,
    mix: bool = False,
    watch: Callable[[list[Entry], Entry, dict[str, Any]], None] = lambda entries, entry, event: None,
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Do runs of ``suite`` until each of its claims is decided, ``budget`` seconds are spent, or no more seeds decide.

    Every setting has :data:`~harness.report.findings.looks.LOOKS` seeds when it is looked at, and every look has the
    level that allows for all of them. Of all next looks the one is taken that decides most claims an hour, as likely as
    the seeds at hand make it. What was looked at is recorded in ``results``, and reports of it count nothing else.
    Other arguments, and what is raised, are those of :func:`harness.grid.compare.compare`.
    """
    end = time.monotonic() + budget
    results = Path(results) if scheduler is None else Path(results).absolute()
    looks, fault = read_looks(results)
    if fault is not None:
        raise InputError(f"{results / FILE}: {fault}; allowed: as harness compare --until-decided wrote it")
    looks = looks or Looks()
    settings = Settings(suite, results, assignments)
    done: dict[Path, Entry] = {}
    claims: list[Claim] = []
    first = [entry for setting in settings.numbers for entry in settings.entries(setting, 1)]
    with closing(workers_for(places(first, workers), scheduler, workers)) as pool:
        while True:
            counts = {setting: settings.looked(setting, looks) for setting in settings.numbers}
            step: Step | None = {setting: LOOKS[0] for setting, seeds in counts.items() if not seeds}
            if not step:
                claims = claims_of(settings, compared([results], mix=mix).comparison)
                open_ = _open(claims, settings, counts)
                say(_told(claims, open_))
                cost = partial(_cost, settings=settings, seconds=settings.seconds(), workers=pool.most or 1)
                left = end - time.monotonic()
                step = _next([each for each in open_ if cost(each.step(counts)) <= left], open_, counts, cost)
                if step is None and open_:
                    least = min(cost(each.step(counts)) for each in open_)
                    why = f"the shortest look takes about {least:.0f} s, more than is left of the budget"
                    return Outcome("budget", why, claims, list(done.values()))
                if step is None:
                    return Outcome(*_at_rest(claims), claims, list(done.values()))
            entries = _one_seed_of_all_first(settings, step)
            done |= {entry.directory: entry for entry in entries}
            do(entries, pool, retry=retry, mix=mix, until=end, watch=watch)
            if any(entry.state in ("new", "unfinished") for entry in entries):
                why = "the budget is spent; what was running has a checkpoint, and the same command goes on"
                return Outcome("budget", why, claims, list(done.values()))
            looks = (read_looks(results)[0] or looks).with_runs(entry.directory.name for entry in entries)
            looks.write(results)


def claims_of(settings: Settings, comparison: Comparison) -> list[Claim]:
    """Claims about runs of the suite alone."""
    return [claim for claim in comparison.claims if settings.of_claim(claim) is not None]


def _open(claims: Iterable[Claim], settings: Settings, counts: Mapping[int, int]) -> list[Open]:
    found = []
    for claim in claims:
        known, of = evidence(claim), settings.of_claim(claim)
        if claim.verdict != "undecided" or known is None or of is None:
            continue
        later = [seeds for seeds in LOOKS if seeds > min(counts[each] for each in of)]
        # what cannot be reckoned with (too few seeds are shared) is as likely as not
        ends = dict.fromkeys([*later[:1], *later[-1:]])
        chances = {seeds: 0.5 if math.isnan(likely := chance(known, seeds)) else likely for seeds in ends}
        if later and chances[later[-1]] >= _HOPELESS:
            found.append(Open(claim, tuple(of), chances))
    return found


def _next(
    these: Iterable[Open], all_: Iterable[Open], counts: Mapping[int, int], cost: Callable[[Step], float]
) -> Step | None:
    """Of the looks of ``these``, the one on the way to that which decides most of all claims for what it costs."""
    best, rate = None, 0.0
    for each in these:
        for seeds in each.chances:
            step = {setting: seeds for setting in each.settings if counts[setting] < seeds}
            reached = {**counts, **step}
            gain = math.fsum(other.by(min(reached[setting] for setting in other.settings)) for other in all_)
            if best is None or gain / max(cost(step), 1e-9) > rate:
                best, rate = each.step(counts), gain / max(cost(step), 1e-9)
    return best


def _one_seed_of_all_first(settings: Settings, step: Step) -> list[Entry]:
    each = [settings.entries(setting, seeds) for setting, seeds in step.items()]
    return [entry for seed in itertools.zip_longest(*each) for entry in seed if entry is not None]


def _cost(step: Step, settings: Settings, seconds: list[float], workers: int) -> float:
    """Seconds of what is missing of ``step``; what is not known counts as a second a run."""
    each = {
        setting: (seeds - settings.there(setting, seeds), 1.0 if math.isnan(seconds[setting]) else seconds[setting])
        for setting, seeds in step.items()
    }
    return math.fsum(missing * takes for missing, takes in each.values()) / workers


def _told(claims: list[Claim], open_: list[Open]) -> str:
    undecided = sum(claim.verdict == "undecided" for claim in claims)
    return f"{len(claims) - undecided} of {len(claims)} claims decided; seeds may decide {len(open_)} more"


def _at_rest(claims: list[Claim]) -> tuple[str, str]:
    undecided = sum(claim.verdict == "undecided" for claim in claims)
    if not undecided:
        return "decided", "every claim that this suite can be asked is decided"
    return "nothing more", f"{undecided} claims are left that no more seeds decide, or not by the last look"
