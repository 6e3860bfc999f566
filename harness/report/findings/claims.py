"""The paper's claims, held, refuted or undecided by the runs at hand: each entry of the list, and its statistic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from harness.report.findings import maml, pairs, readers, trends
from harness.report.findings.chosen import Lacking, World
from harness.report.findings.claim import Claim
from harness.report.findings.entries import WHAT, Entry, entries
from harness.report.findings.factors import FactorRow
from harness.report.findings.line import Line, Tested
from harness.report.findings.readers import Read
from harness.report.findings.remedies import Remedy, more_seeds
from harness.report.findings.results import GroupResult
from harness.report.findings.statistics import ENOUGH, LEVEL
from harness.report.findings.targets import Headlines

#: by the names that ``claims.yaml`` has for them
READERS: dict[str, Callable[[Entry, World], Iterator[Read]]] = {
    each.__name__: each
    for each in (
        readers.series,
        readers.batches,
        readers.along_k,
        readers.along_epsilon,
        readers.step_sizes,
        readers.geometries,
        maml.factors,
        maml.best,
    )
}
STATISTICS: dict[str, Callable[..., Tested]] = {
    each.__name__: each
    for each in (
        trends.saturates,
        trends.settles,
        trends.falls,
        trends.falls_then_rises,
        trends.rises,
        trends.grows_like,
        trends.grows_at_most_like,
        trends.cheapest,
        trends.not_cheapest,
        trends.diverges,
        pairs.at_least_as_many_times,
        pairs.more_at_best,
        pairs.alike,
        pairs.rises_more,
    )
}
#: those by which a tie decides something
_ABOUT_SAMENESS = {"saturates", "settles", "falls"}
#: of targets that differ between what is compared
_KINDS = {"epsilon": "its ε", "loss": "its loss", "fall": "its fall of the loss"}


def claims(
    problem: str,
    results: Sequence[GroupResult],
    headlines: Headlines,
    factors: Sequence[FactorRow],
    level: float = LEVEL,
) -> list[Claim]:
    """Every claim of the list (:mod:`.entries`) on one problem, once for each series of runs and target.

    The theorems are about epsilon; section 4 shows losses, so what has a direction is asked of a loss too, and of
    its fall since before training: every N has an L_meta of its own, which starts elsewhere. Unless a person gave
    targets, it is asked at the strictest that every seed at every N of a series reaches.
    """
    world = World(problem, results, headlines, factors)
    made = (
        _judged(entry, problem, line, level) if isinstance(line, Line) else _lacking(entry, problem, line)
        for entry in entries()
        for line in READERS[entry.read](entry, world)
    )
    return list(dict.fromkeys(made))


def _judged(entry: Entry, problem: str, line: Line, level: float) -> Claim:
    decided, text = STATISTICS[entry.statistic](line, level, **entry.options)
    coarse = [line.coarse] if line.coarse and entry.statistic in _ABOUT_SAMENESS else []
    remedies = [mend(doubt, line.groups) for doubt, mend in (*line.doubts, *coarse)]
    if not remedies and decided == "undecided":
        remedies = [_remedy(line, level)]
    return Claim(
        _sentence(entry, line.target),
        "undecided" if remedies else decided,
        text,
        "; ".join(line.detail),
        problem,
        line.conditions,
        entry.section,
        remedies[0] if remedies else None,
        line,
        lambda other, level: STATISTICS[entry.statistic](other, level, **entry.options)[0],
    )


def _lacking(entry: Entry, problem: str, found: Lacking) -> Claim:
    sentence = _sentence(entry, None)
    return Claim(sentence, "undecided", "", found.why, problem, section=entry.section, remedy=found.remedy)


def _remedy(line: Line, level: float) -> Remedy:
    """What would decide a line whose interval has room for both."""
    if line.mend is not None:
        why, mend = line.mend
        return mend(why, line.groups)
    shared = line.shared
    return Remedy(line.cannot) if line.cannot and shared >= ENOUGH else more_seeds(line.groups, shared, level)


def _sentence(entry: Entry, target: object) -> str:
    kind = getattr(target, "kind", None)
    K = "K" if target is None else f"K to {target}" if kind == "fall" else f"K({target})"
    what = WHAT.get(entry.quantity[0], "")
    geometry = entry.geometry[0] if entry.geometry else ""
    named = {"target": target or "the target", "kind": _KINDS.get(kind or "", "the target")}
    return entry.sentence.format(K=K, what=what, geometry=geometry, **named)
