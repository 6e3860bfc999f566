"""Which targets a report is about: those given, or a grid chosen from the data, and the headline among them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.report.costs import Target, cost_to, course, larger_norms
from harness.report.groups import Group
from harness.report.results import GroupResult, result_of
from harness.report.runs import Run

_DECADES, _SHOWN = 12, 9
_KINDS: tuple[str, ...] = ("epsilon", "loss", "accuracy")
_WORDS = {"epsilon": "smallest ε", "loss": "lowest loss", "accuracy": "highest accuracy"}


#: kinds of target that a run comes down to
Falling = Literal["epsilon", "loss"]


@dataclass(frozen=True)
class Headline:
    """The target of one problem that findings, factors and claims are about, and how it was chosen."""

    target: Target | None
    reason: str


Headlines = dict[str, Headline]


def choose(
    groups: Sequence[Group], blocks: Mapping[str, Sequence[str]], given: Sequence[Target] | None
) -> tuple[list[Target], Headlines]:
    """Targets and headlines by kind for the groups of one problem; ``blocks`` as in :func:`result_of`.

    The headline is the strictest target that the median run of every method reaches at its best N, and that
    nobody meets before training; if there is none, the strictest that at least one group reaches.
    """
    measured = [group for group in groups if any(run.stationarity for run in group.runs)]
    if not measured:
        reason = "no run measured Definition 1; allowed: runs with --stationarity-every"
        return list(given or ()), {kind: Headline(None, reason) for kind in _KINDS}
    candidates = _grid(measured, blocks) if given is None else _ordered(given)
    results = [result_of(group, candidates, blocks) for group in measured]
    headlines = {
        kind: _headline(kind, [target for target in candidates if target.kind == kind], results, given is not None)
        for kind in _KINDS
    }
    if given is not None:
        return list(given), headlines
    shown = [target for target in candidates if target.kind == "epsilon" and _useful(target, results)]
    kept = [headline.target for headline in headlines.values() if headline.target is not None]
    return [*_thinned(shown, kept), *(target for target in kept if target.kind != "epsilon")], headlines


def reached_by_all(kind: Falling, members: Iterable[tuple[Iterable[Run], frozenset[str] | None]]) -> Target | None:
    """The strictest target, to two digits, that the median run of every member reaches; None where there is none.

    A member is the runs of a group and the w that norms are taken on (None: its own). An epsilon that some
    median run meets before training says nothing, and is none; so is a loss that all of them do.
    """
    measured = [([run for run in runs if run.stationarity], w) for runs, w in members]
    if not all(runs for runs, _ in measured):
        return None
    # The upper of two middle runs: half the seeds would leave the median at infinity.
    floors = [sorted(_least(run, kind, w) for run in runs)[len(runs) // 2] for runs, w in measured]
    target = Target(kind, _rounded_up(max(floors)))
    costs = [_middle(cost_to(run, target, w).iterations for run in runs) for runs, w in measured]
    late = [cost > 0 for cost in costs]
    told = all(late) if kind == "epsilon" else any(late)
    return target if target.value and told and max(costs) < math.inf else None


def _least(run: Run, kind: Falling, w: frozenset[str] | None) -> float:
    return -_best(-(larger_norms(run, w) if kind == "epsilon" else course(run, "loss")))


def _headline(kind: str, candidates: Sequence[Target], results: Sequence[GroupResult], given: bool) -> Headline:
    word = f"{_WORDS[kind]} {'given' if given else 'of a 1-3-10 grid' if kind == 'epsilon' else 'from the data'}"
    useful = [target for target in candidates if _useful(target, results)]
    for target in useful:
        if all(_reached(target, members) for members in _methods(results).values()):
            return Headline(target, f"the {word} that the median run of every method reaches at its best N")
    if useful:
        return Headline(useful[0], f"no target is reached by every method; the {word} that at least one group reaches")
    if given and candidates:
        return Headline(candidates[-1], f"no group reaches any {kind} given; the loosest of them")
    return Headline(None, f"no group reaches any {kind} that it did not meet before training")


def _useful(target: Target, results: Iterable[GroupResult]) -> bool:
    """Reached by the median run of some group, and by none before training."""
    found = [result.iterations_to(target) for result in results]
    return 0 not in found and any(map(math.isfinite, found))


def _reached(target: Target, results: Iterable[GroupResult]) -> bool:
    return any(math.isfinite(result.iterations_to(target)) for result in results)


def _methods(results: Iterable[GroupResult]) -> dict[str, list[GroupResult]]:
    found: dict[str, list[GroupResult]] = defaultdict(list)
    for result in results:
        found[result.group.method].append(result)
    return found


def _ordered(targets: Iterable[Target]) -> list[Target]:
    """Strictest first."""
    return sorted(targets, key=lambda target: -target.value if target.kind == "accuracy" else target.value)


def _grid(groups: Sequence[Group], blocks: Mapping[str, Sequence[str]]) -> list[Target]:
    """Candidates from the data, strictest first: epsilons, and what each method's best group comes to."""
    runs = [run for group in groups for run in group.by_seed.values() if run.stationarity]
    found = [Target("epsilon", value) for value in _one_three_ten(runs)]
    best: dict[str, dict[str, list[float]]] = {"loss": defaultdict(list), "accuracy": defaultdict(list)}
    for group in groups:
        members = [run for run in group.by_seed.values() if run.stationarity]
        best["loss"][group.method].append(_middle(-_best(-course(run, "loss")) for run in members))
        best["accuracy"][group.method].append(_middle(_best(course(run, "accuracy")) for run in members))
    losses = {_rounded_up(min(values)) for values in best["loss"].values()}
    accuracies = {math.floor(100 * max(values)) / 100 for values in best["accuracy"].values() if max(values) > 0}
    found += [Target("loss", value) for value in losses if value > 0]
    return _ordered([*found, *(Target("accuracy", value) for value in accuracies if value > 0)])


def _one_three_ten(runs: Iterable[Run]) -> list[float]:
    """1, 3, 10, … over the larger squared norms that were measured, at most twelve decades down from the largest."""
    norms = np.concatenate([larger_norms(run) for run in runs])
    norms = norms[np.isfinite(norms) & (norms > 0)]
    if not norms.size:
        return []
    top = math.ceil(math.log10(norms.max()))
    bottom = max(math.floor(math.log10(norms.min())), top - _DECADES, -300)
    return [float(f"{digit}e{exponent}") for exponent in range(bottom, min(top, 300) + 1) for digit in (1, 3)]


def _best(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    """The largest number, -∞ where there is none."""
    return float(np.max(values, where=~np.isnan(values), initial=-math.inf))


def _middle(values: Iterable[float]) -> float:
    return float(np.median(list(values)))


def _rounded_up(value: float) -> float:
    """To two digits, so that what was reached still is; 0 where there is nothing to round."""
    if not 1e-300 < value < 1e300:
        return 0.0
    exponent = math.floor(math.log10(value)) - 1
    return float(f"{math.ceil(value / 10.0**exponent)}e{exponent}")


def _thinned(targets: list[Target], kept: Sequence[Target]) -> list[Target]:
    """At most nine, evenly over the list, those in ``kept`` among them; loosest first."""
    step = max(1, math.ceil(len(targets) / _SHOWN))
    return [target for index, target in enumerate(targets) if index % step == 0 or target in kept][::-1]
