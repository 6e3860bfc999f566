"""Which targets a report is about: those given, or a grid chosen from the data, and the headline among them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.report.findings.costs import Target, chance, cost_to, course, reach
from harness.report.findings.groups import Group
from harness.report.findings.norms import larger_norms
from harness.report.findings.results import GroupResult, MedianCost, result_of
from harness.report.reading.runs import Run

_DECADES, _SHOWN = 12, 9
_KINDS: tuple[str, ...] = ("epsilon", "loss", "accuracy")
_WORDS = {"epsilon": "smallest ε", "loss": "lowest loss", "accuracy": "highest accuracy"}
#: an epsilon below so many standard errors of what was measured is never chosen
TRUSTED = 2.0

#: kinds of target that a run comes down to
Falling = Literal["epsilon", "loss", "fall"]


@dataclass(frozen=True)
class Headline:
    """The target of one problem that findings, factors and claims are about, and how it was chosen."""

    target: Target | None
    reason: str
    #: whether a person gave it
    given: bool = False


Headlines = dict[str, Headline]


def choose(
    groups: Sequence[Group], blocks: Mapping[str, Sequence[str]], given: Sequence[Target] | None
) -> tuple[list[Target], Headlines]:
    """Targets and headlines by kind for the groups of one problem; ``blocks`` as in :func:`result_of`.

    The headline is the strictest target that every seed of every method reaches at its best N; if there is none,
    the strictest that every seed of at least one group reaches. None is chosen that a seed meets before training, that
    chance meets, or that lies below :data:`TRUSTED` standard errors of what was measured. Kinds that were not
    ``given`` are chosen from the data, unless the list is empty.
    """
    measured = [group for group in groups if any(run.stationarity for run in group.runs)]
    if not measured:
        reason = "no run measured Definition 1, as --stationarity-every does"
        return list(given or ()), {kind: Headline(None, reason) for kind in _KINDS}
    asked = {target.kind for target in given or ()}
    grid = _grid(measured, blocks) if given is None or given else []
    candidates = [target for target in grid if target.kind not in asked]
    candidates = _ordered([*(given or ()), *candidates])
    results = [result_of(group, candidates, blocks) for group in measured]
    headlines = {
        kind: _headline(kind, [target for target in candidates if target.kind == kind], results, kind in asked)
        for kind in _KINDS
    }
    chosen = [headline.target for headline in headlines.values() if headline.target is not None]
    if given is not None:
        return list(dict.fromkeys([*given, *chosen])), headlines
    shown = [target for target in candidates if target.kind == "epsilon" and _useful(target, results)]
    return [*_thinned(shown, chosen), *(target for target in chosen if target.kind != "epsilon")], headlines


def reached_by_all(kind: Falling, members: Iterable[tuple[Iterable[Run], frozenset[str] | None]]) -> Target | None:
    """The strictest target, to two digits, that every seed of every member reaches; None where there is none.

    A member is the runs of a group and the w that norms are taken on (None: its own). With a target that some seeds
    of the slowest member miss, the upper end of every interval would be infinite, and nothing ever decided. An
    epsilon is at least :data:`TRUSTED` standard errors; what a run meets before training, or chance meets, says
    nothing, and is none.
    """
    measured = [([run for run in runs if run.stationarity], w) for runs, w in members]
    if not all(runs for runs, _ in measured):
        return None
    runs = [(run, w) for group, w in measured for run in group]
    if kind == "fall":
        target = Target("fall", _rounded_down(min(_best(course(run, "fall")) for run, _ in runs)))
    elif kind == "loss":
        target = Target("loss", _rounded_up(max(-_best(-course(run, "loss")) for run, _ in runs)))
    else:
        target = Target("epsilon", _rounded_up(max(-_best(-larger_norms(run, w)) for run, w in runs)))
        # The standard error is larger where the gradient is, so a larger epsilon is met with a larger error.
        while target.value < (least := TRUSTED * max(_error_at(group, target, w) for group, w in measured)):
            target = Target("epsilon", _rounded_up(least))
            if not target.value:
                return None
    if not target.value or any(meets_chance(run, target) for run, _ in runs):
        return None
    costs = [cost_to(run, target, w).iterations for run, w in runs]
    return target if all(0 < cost < math.inf for cost in costs) else None


def meets_chance(run: Run, target: Target) -> bool:
    """Whether knowing nothing of the classes meets ``target``."""
    if target.kind == "loss":
        return target.value >= chance(run, "loss")
    return target.kind == "accuracy" and target.value <= chance(run, "accuracy")


def trusted(target: Target, cost: MedianCost) -> bool:
    """Whether what was measured can carry an epsilon; of runs of older versions that is not known, and False."""
    return target.kind != "epsilon" or target.value >= TRUSTED * cost.state.error


def _error_at(runs: Iterable[Run], target: Target, w: frozenset[str] | None) -> float:
    """Median standard error where each run meets ``target``; 0 where that is not known."""
    found = [reached.state.error for run in runs if (reached := reach(run, target, w)) is not None]
    known = [error for error in found if not math.isnan(error)]
    return _middle(known) if known else 0.0


def _headline(kind: str, candidates: Sequence[Target], results: Sequence[GroupResult], given: bool) -> Headline:
    word = f"{_WORDS[kind]} {'given' if given else 'of a 1-3-10 grid' if kind == 'epsilon' else 'from the data'}"
    useful = [target for target in candidates if _useful(target, results)]
    for target in useful:
        if all(_reached(target, members) for members in _methods(results).values()):
            return Headline(target, f"the {word} that every seed of every method reaches at its best N", given)
    if useful:
        reason = f"no target is reached by every method; the {word} that every seed of at least one group reaches"
        return Headline(useful[0], reason, given)
    if given and candidates:
        return Headline(candidates[-1], f"{_why_not(candidates[-1], results)}; the loosest {kind} given", given)
    told = "what was measured can carry" if kind == "epsilon" else "chance does not meet"
    return Headline(None, f"there is no {kind} that every seed of some group reaches, none before training, and {told}")


def _why_not(target: Target, results: Sequence[GroupResult]) -> str:
    if _before_training(target, results):
        return "some seed meets it before training"
    if any(meets_chance(run, target) for result in results for run in result.group.by_seed.values()):
        return "chance meets it"
    if any(_reached(target, [result]) for result in results):
        return f"below {TRUSTED:g} standard errors of what was measured"
    return "every seed of no group reaches it"


def _useful(target: Target, results: Iterable[GroupResult]) -> bool:
    """Reached by every seed of some group that can carry it, by none before training, and not by chance."""
    results = list(results)
    return (
        not _before_training(target, results)
        and not any(meets_chance(run, target) for result in results for run in result.group.by_seed.values())
        and any(
            _reached(target, [result]) and all(trusted(target, cost) for cost in result.all_costs(target))
            for result in results
        )
    )


def _before_training(target: Target, results: Iterable[GroupResult]) -> bool:
    costs = (cost for result in results for cost in result.all_costs(target))
    return any(0 in cost.by_seed("iterations").values() for cost in costs)


def _reached(target: Target, results: Iterable[GroupResult]) -> bool:
    return any(all(0 < cost.reached == cost.seeds for cost in result.all_costs(target)) for result in results)


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
        best["loss"][group.method].append(max((-_best(-course(run, "loss")) for run in members), default=math.inf))
        best["accuracy"][group.method].append(min((_best(course(run, "accuracy")) for run in members), default=0.0))
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


def _rounded_down(value: float) -> float:
    """To two digits, so that what was reached still is; 0 where there is nothing to round."""
    if not 1e-300 < value < 1e300:
        return 0.0
    exponent = math.floor(math.log10(value)) - 1
    return float(f"{math.floor(value / 10.0**exponent)}e{exponent}")


def _thinned(targets: list[Target], kept: Sequence[Target]) -> list[Target]:
    """At most nine, evenly over the list, those in ``kept`` among them; loosest first."""
    step = max(1, math.ceil(len(targets) / _SHOWN))
    return [target for index, target in enumerate(targets) if index % step == 0 or target in kept][::-1]
