"""What decides each claim of a suite: so many seeds, iterations or measurements, and what those take here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harness.decide.power import POWER, SURE, evidence, seeds_needed
from harness.decide.settings import Settings
from harness.grid.compare import Entry, do, places, workers_for
from harness.report.compared import compared
from harness.report.findings.claim import Claim
from harness.report.findings.looks import LEVEL_OF_LOOKS, LOOKS
from harness.report.findings.verdicts import Verdict

#: seeds of a pilot: the fewest that know anything of their spread
PILOT = 3


@dataclass(frozen=True)
class Row:
    """One claim: decided, or what decides it."""

    claim: Claim
    #: at the level of looks, whatever the level of a report of these runs is
    verdict: Verdict
    #: that are compared now, and that decide it; None where seeds do not, or where nobody can have so many
    shared: int
    seeds: int | None
    #: seeds at the first look that has so many; None beyond the last
    look: int | None
    #: what else decides it, as settings to change
    changes: dict[str, Any]
    #: why it takes that
    why: str
    #: one after the other, of all runs that are missing, over the workers; NaN where not known
    seconds: float


@dataclass(frozen=True)
class Plan:
    """Rows, the cheapest first and those that are decided before all others."""

    suite: str
    rows: list[Row]
    #: of all runs up to every row's look together
    seconds: float
    runs: int

    def document(self) -> dict[str, Any]:
        """What ``harness plan --json`` prints."""
        return {
            "suite": self.suite,
            "power": POWER,
            "level": LEVEL_OF_LOOKS,
            "looks": LOOKS,
            "spread_is_below_with_probability": SURE,
            "claims": [
                {
                    "problem": row.claim.problem,
                    "sentence": row.claim.sentence,
                    "verdict": row.verdict,
                    "shared_seeds": row.shared,
                    "seeds": row.seeds,
                    "look": row.look,
                    "changes": row.changes,
                    "why": row.why,
                    "seconds": None if math.isnan(row.seconds) else row.seconds,
                }
                for row in self.rows
            ],
            "runs": self.runs,
            "seconds": None if math.isnan(self.seconds) else self.seconds,
        }


def pilot(
    suite: str,
    *,
    results: str | Path = Path("results/runs"),
    assignments: Iterable[str] = (),
    workers: int | None = None,
    mix: bool = False,
    watch: Callable[[list[Entry], Entry, dict[str, Any]], None] = lambda entries, entry, event: None,
) -> Settings:
    """The settings of ``suite``, of each of which :data:`PILOT` runs have been done.

    Arguments, and what is raised, are those of :func:`harness.grid.compare.compare`.
    """
    settings = Settings(suite, Path(results), assignments)
    each = [settings.entries(setting, PILOT) for setting in settings.numbers]
    entries = [entry for seed in zip(*each, strict=True) for entry in seed]
    with closing(workers_for(places(entries, workers), None, workers)) as pool:
        do(entries, pool, mix=mix, watch=watch)
    return settings


def plan_of(
    settings: Settings,
    *,
    workers: int | None = None,
    mix: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Plan:
    """What decides each claim about ``settings``, by the runs that are there; ``say`` is told which is reckoned."""
    most = len(places(settings.entries(0, 1), workers))
    seconds = settings.seconds()
    rows, upto = [], dict.fromkeys(settings.numbers, 0)
    claims = [(claim, settings.of_claim(claim)) for claim in compared([settings.results], mix=mix).comparison.claims]
    problems = {claim.problem for claim, of in claims if of is not None}
    for claim, of in claims:
        if of is None and (claim.line is not None or claim.problem not in problems):
            continue  # about other runs in the same folder
        say(claim.sentence)
        rows.append(row := _row(claim, partial(_price, settings=settings, of=of or [], seconds=seconds, workers=most)))
        if row.look is not None:
            upto |= {setting: max(upto[setting], row.look) for setting in of or []}
    rows.sort(key=lambda row: (row.verdict == "undecided", row.seeds is None, math.isnan(row.seconds), row.seconds))
    total, runs = _missing(settings, upto, seconds)
    return Plan(settings.suite, rows, total / most, runs)


def _row(claim: Claim, price: Callable[[int], float]) -> Row:
    found = evidence(claim)
    shared = 0 if claim.line is None else claim.line.shared
    if found is not None:
        verdict = found[1](found[0], LEVEL_OF_LOOKS)
        if verdict != "undecided":
            return Row(claim, verdict, shared, shared, None, {}, "", 0.0)
        seeds = seeds_needed(found)
        look = next((each for each in LOOKS if seeds is not None and each >= seeds), None)
        why = "more than can be had, if it is as these seeds say" if seeds is None else ""
        return Row(claim, verdict, shared, seeds, look, {}, why, math.nan if seeds is None else price(look or seeds))
    if claim.verdict != "undecided" or claim.remedy is None:
        return Row(claim, claim.verdict, shared, None, None, {}, "", 0.0)
    several = {wanted.changes for wanted in claim.remedy.wanted}
    changes = dict(several.pop()) if len(several) == 1 else {}
    return Row(claim, "undecided", shared, None, None, changes, claim.remedy.why, claim.remedy.seconds)


def _price(seeds: int, *, settings: Settings, of: list[int], seconds: list[float], workers: int) -> float:
    """Seconds until the settings ``of`` a claim have so many seeds."""
    return _missing(settings, dict.fromkeys(of, seeds), seconds)[0] / workers


def _missing(settings: Settings, seeds: dict[int, int], seconds: list[float]) -> tuple[float, int]:
    """Seconds of the runs that are not there, one after the other, and how many those are."""
    lacks = {setting: count - settings.there(setting, count) for setting, count in seeds.items()}
    return math.fsum(count * seconds[setting] for setting, count in lacks.items() if count), sum(lacks.values())
