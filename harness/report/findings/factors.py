"""By how many times ANIL needs fewer evaluations than MAML to the same target: measured beside predicted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.findings.costs import Measure, Target
from harness.report.findings.groups import PROBLEM, Group
from harness.report.findings.norms import has_block
from harness.report.findings.results import GroupResult, MedianCost, at_chance, median_cost, ratio_of
from harness.report.findings.rows import Bound
from harness.report.findings.statistics import Interval
from harness.report.findings.targets import reached_by_all, trusted
from harness.report.reading.documents import number
from harness.report.reading.runs import Run

# What makes ANIL of MAML, and what is compared at equal values anyway.
_METHOD = {"algo", "geometry", "adapt", "algo_options", "inner_steps", *PROBLEM}


@dataclass(frozen=True)
class Factor:
    """One kind of evaluation: MAML's entries over ANIL's; NaN where it is not known."""

    #: to the target, over the shared seeds; of a miss only bounds are known: what it spent in vain, and infinity
    measured: Interval
    #: what the value of ``measured`` is: a ratio, or a bound of it where the median run of one of both missed
    is_: Bound
    #: Table 2's quotient, (1 + kappa L)^N taken as 1 where L was not measured
    predicted: float
    #: of one meta-iteration: what the factor would be at equal K
    per_iteration: float


@dataclass(frozen=True, eq=False)
class FactorRow:
    """ANIL against MAML on one problem at one N, K taken for both on ANIL's (w, phi)."""

    problem: str
    geometry: str
    inner_steps: int
    anil: Group
    maml: Group
    target: Target | None
    gradient: Factor
    second_order: Factor
    seconds: Factor
    #: costs to the target
    anil_cost: MedianCost
    maml_cost: MedianCost
    #: MAML's inner step size times the largest L measured along its runs; NaN where L was not measured
    kappa_L: float
    #: settings other than the method's in which the two differ
    differing: tuple[str, ...]

    @property
    def doubt(self) -> str:
        """Why it compares nothing, where it does not."""
        pairs = (("ANIL", self.anil, self.anil_cost), ("MAML", self.maml, self.maml_cost))
        for name, group, cost in pairs:
            if 0 in cost.by_seed("iterations").values():
                return f"some seed of {name} met it before any training"
            if cost.reached and at_chance(group, cost):
                return f"{name} had learnt nothing when it met it"
            if self.target is not None and not trusted(self.target, cost):
                return f"what was measured for {name} cannot carry so small an ε"
        return ""

    @property
    def is_bound(self) -> bool:
        """Whether the prediction is only a lower bound, because its (1 + kappa L)^N is not known."""
        return self.geometry == "convex" and math.isnan(self.kappa_L)


def factors(results: Sequence[GroupResult], target: Target | None, given: bool = True) -> list[FactorRow]:
    """A row for every ANIL group on one problem that has a MAML of the same N and model.

    Where a seed of one of the two does not reach ``target``, or what was measured cannot carry it, and it was not
    ``given``, the strictest epsilon that every seed of both reaches takes its place.
    """
    groups = [result.group for result in results]
    pairs = ((group, _partner(group, groups)) for group in groups if group.algorithm == "anil" and group.inner_steps)
    return [
        _row(anil, maml, target if given else _of_both(anil, maml, target)) for anil, maml in pairs if maml is not None
    ]


def _of_both(anil: Group, maml: Group, target: Target | None) -> Target | None:
    w = frozenset(anil.same("w"))
    if target is not None:
        costs = [median_cost(anil.by_seed, target), median_cost(maml.by_seed, target, w)]
        if all(0 < cost.reached == cost.seeds and trusted(target, cost) for cost in costs):
            return target
    return reached_by_all("epsilon", [(anil.by_seed.values(), None), (maml.by_seed.values(), w)]) or target


def differing(anil: Group, maml: Group) -> tuple[str, ...]:
    """Settings that are not the method's in which two groups differ."""
    names = sorted(anil.setting.keys() | maml.setting.keys())
    return tuple(name for name in names if name not in _METHOD and anil.setting.get(name) != maml.setting.get(name))


def _partner(anil: Group, groups: Sequence[Group]) -> Group | None:
    """The MAML of the same N and parameters that differs in the fewest settings, the first of several."""
    size, w = anil.same("n_w") + anil.same("n_phi"), anil.same("w")
    found = [
        group
        for group in groups
        if group.algorithm == "maml"
        and group.inner_steps == anil.inner_steps
        and group.same("n_w") + group.same("n_phi") == size
        and all(has_block(run, w) for run in group.runs)
    ]
    return min(found, key=lambda group: len(differing(anil, group)), default=None)


def _row(anil: Group, maml: Group, target: Target | None) -> FactorRow:
    from harness.theory.bounds import predicted_factor

    kappa_L = maml.same("inner_lr") * largest_L(list(maml.by_seed.values()))
    known = 0.0 if math.isnan(kappa_L) else kappa_L
    predicted = predicted_factor(anil.geometry, anil.same("n_w"), anil.same("n_phi"), anil.inner_steps, known)
    above = median_cost(maml.by_seed, target, anil.same("w")) if target else MedianCost({})
    below = median_cost(anil.by_seed, target) if target else MedianCost({})
    return FactorRow(
        anil.problem,
        anil.geometry,
        anil.inner_steps,
        anil,
        maml,
        target,
        _factor(above, below, "gradient_entries", predicted.gradient, _each(anil, maml, "gradient")),
        _factor(above, below, "second_order_entries", predicted.second_order, _each(anil, maml, "second_order")),
        _factor(above, below, "seconds", math.nan, math.nan),
        below,
        above,
        kappa_L,
        differing(anil, maml),
    )


def _factor(above: MedianCost, below: MedianCost, measure: Measure, predicted: float, per_iteration: float) -> Factor:
    measured, word = ratio_of(above, below, measure)
    return Factor(measured, word, predicted, per_iteration)


def _each(anil: Group, maml: Group, kind: str) -> float:
    """Ratio of the exact entries of one task and meta-iteration."""
    above, below = (group.runs[0].number("counts_per_task", f"{kind}_entries") for group in (maml, anil))
    return above / below if below else math.nan


def largest_L(runs: Sequence[Run]) -> float:
    """The norm of the inner Hessian along each run at its largest, the median over runs; NaN where not measured."""
    found = [[value for line in run.stationarity if (value := number(line.get("L"))) >= 0] for run in runs]
    largest = [max(values) for values in found if values]
    return float(np.median(largest)) if largest else math.nan
