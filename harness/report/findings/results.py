"""What was measured for a group of runs: cost to every target, accuracy, time and memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from harness.report.findings.costs import (
    UNKNOWN,
    Cost,
    Measure,
    Reached,
    State,
    Target,
    chance,
    course,
    reach,
)
from harness.report.findings.groups import Group
from harness.report.findings.norms import has_block
from harness.report.findings.rows import Bound, Row, ratio
from harness.report.findings.statistics import (
    LEVEL,
    NOTHING,
    Interval,
    bootstrap,
    generator,
    mean,
    relative_spread,
)
from harness.report.reading.runs import Run
from harness.store.records import PHASES

#: what seconds per iteration are given for; ``train`` is the whole iteration
TIMED = ("train", *PHASES)


@dataclass(frozen=True, eq=False)
class MedianCost:
    """Costs of each seed's run to a target; each measure is their median, misses counted as infinity."""

    #: by seed, those whose measurements can tell
    found: Mapping[int, Reached]
    _intervals: dict[Measure, Interval] = field(default_factory=dict, repr=False)

    @cached_property
    def each(self) -> dict[int, Cost]:
        """The cost of each seed, infinity for a miss."""
        return {seed: reached.cost for seed, reached in self.found.items()}

    @cached_property
    def median(self) -> Cost:
        """The medians alone, over the seeds that have the measure; NaN where none has."""
        if not self.each:
            return UNKNOWN
        measures = zip(*self.each.values(), strict=True)
        return Cost(*(_middle([value for value in values if not math.isnan(value)]) for values in measures))

    @cached_property
    def state(self) -> State:
        """Medians of loss, accuracy and standard error where each seed met the target, or at its end."""
        states = [reached.state for reached in self.found.values()]
        columns = zip(*states, strict=True) if states else [()] * len(State._fields)
        return State(*(_middle([value for value in values if not math.isnan(value)]) for values in columns))

    @property
    def seeds(self) -> int:
        """How many seeds were measured."""
        return len(self.each)

    @property
    def reached(self) -> int:
        """How many seeds reached the target."""
        return sum(math.isfinite(cost.iterations) for cost in self.each.values())

    def by_seed(self, measure: Measure) -> dict[int, float]:
        """One measure for each seed."""
        return {seed: getattr(cost, measure) for seed, cost in self.each.items()}

    def row(self, measure: Measure) -> Row:
        """One measure for each seed, with what a miss had spent."""
        spent = {seed: getattr(reached.spent, measure) for seed, reached in self.found.items()}
        return Row(self.by_seed(measure), spent)

    def interval(self, measure: Measure) -> Interval:
        """The median of one measure and its interval over seeds."""
        if measure not in self._intervals:
            found = bootstrap([list(self.by_seed(measure).values())], generator())
            self._intervals[measure] = found or NOTHING
        return self._intervals[measure]

    @property
    def iterations(self) -> Interval:
        """K(epsilon): meta-iterations."""
        return self.interval("iterations")


@dataclass(frozen=True, eq=False)
class GroupResult:
    """The numbers of one group; of several runs of a seed the first by path counts."""

    group: Group
    #: on the group's own (w, phi)
    costs: Mapping[Target, MedianCost]
    #: for methods without phi: costs on the (w, phi) of each ANIL on this problem, by that ANIL's name
    blocks: Mapping[str, Mapping[Target, MedianCost]]

    @cached_property
    def accuracy(self) -> Interval | None:
        """Mean of the held-out accuracy of the runs that were completed."""
        found = mean([[run.number("accuracy", "mean") for run in self.group.completed]])
        return found and found.within(0, 1)

    @cached_property
    def training_seconds(self) -> float:
        """Median seconds of training of the completed runs; NaN where none was measured."""
        taken = [run.number("seconds", "train") for run in self.group.completed]
        return _middle([value for value in taken if not math.isnan(value)])

    @cached_property
    def seconds(self) -> dict[str, float]:
        """Median over runs of the seconds of one meta-iteration, whole (``train``) and by phase; NaN unmeasured.

        The first iteration, which warms up, is left out of ``train``; phases are known as totals only.
        """
        return {name: _middle(self._timings(name)) for name in TIMED}

    @cached_property
    def spread(self) -> dict[str, float]:
        """Interquartile range of these seconds over their median."""
        return {name: relative_spread(self._timings(name)) for name in TIMED}

    @cached_property
    def peak_memory_bytes(self) -> float:
        """The largest peak of any run; NaN where none was measured."""
        return max(self._values(lambda run: run.number("peak_memory_bytes")), default=math.nan)

    @property
    def diverged(self) -> int:
        """How many runs diverged."""
        return self.with_status("diverged")

    def with_status(self, status: str) -> int:
        """How many runs ended so."""
        return sum(run.summary.status == status for run in self.group.by_seed.values())

    def all_costs(self, target: Target) -> list[MedianCost]:
        """Costs to ``target`` on every block that counts: the compared ones, or its own."""
        return [costs[target] for costs in self.blocks.values()] or [self.costs[target]]

    def longest(self, target: Target) -> MedianCost:
        """Costs to ``target`` on the block, of those that count, on which it takes most iterations."""
        return max(self.all_costs(target), key=lambda cost: _or_least(cost.median.iterations))

    def iterations_to(self, target: Target) -> float:
        """Median K on the block that takes longest; NaN where nothing was measured."""
        return max_or_nan(cost.median.iterations for cost in self.all_costs(target))

    def _timings(self, name: str) -> list[float]:
        return self._values(lambda run: seconds_per_iteration(run, name))

    def _values(self, quantity: Callable[[Run], float]) -> list[float]:
        return [value for run in self.group.by_seed.values() if not math.isnan(value := quantity(run))]


def result_of(group: Group, targets: Sequence[Target], blocks: Mapping[str, Sequence[str]]) -> GroupResult:
    """Costs of ``group`` to all targets; ``blocks`` are the w of every ANIL on its problem, by name.

    They are taken where the group itself has no phi, and where its model has those parameters.
    """
    runs = group.by_seed
    compared = {
        name: {target: median_cost(runs, target, w) for target in targets}
        for name, w in blocks.items()
        if not group.same("n_phi") and all(has_block(run, w) for run in runs.values())
    }
    return GroupResult(group, {target: median_cost(runs, target) for target in targets}, compared)


def median_cost(runs: Mapping[int, Run], target: Target, w: Iterable[str] | None = None) -> MedianCost:
    """The cost of each seed's run (see :func:`reach`)."""
    block = None if w is None else frozenset(w)
    each = {seed: reach(run, target, block) for seed, run in runs.items()}
    return MedianCost({seed: reached for seed, reached in each.items() if reached is not None})


def ratio_of(above: MedianCost, below: MedianCost, measure: Measure, level: float = LEVEL) -> tuple[Interval, Bound]:
    """``above`` over ``below``, and which bound of it the value is where a median run missed: see :func:`ratio`."""
    return ratio(above.row(measure), below.row(measure), level)


def at_chance(group: Group, cost: MedianCost) -> bool:
    """Whether ``group`` had learnt nothing where it met a target: a small gradient may be that of one that never does.

    Its accuracy there, or in regression its loss, is no better than chance, or than before training, over its seeds.
    """
    runs = {seed: group.by_seed[seed] for seed in cost.found}
    level = {seed: chance(run, "accuracy") for seed, run in runs.items()}
    if any(map(math.isnan, level.values())):
        gains = [float(course(run, "loss")[0]) - cost.found[seed].state.loss for seed, run in runs.items()]
    else:
        gains = [cost.found[seed].state.accuracy - level[seed] for seed in runs]
    found = mean([gains])
    return found is not None and not (found.low if found.seeds > 1 else found.value) > 0


def seconds_per_iteration(run: Run, name: str = "train") -> float:
    """Seconds of one meta-iteration of ``run``, whole or one phase; NaN where that was not measured."""
    done = run.summary.iterations_done
    total, first = run.number("seconds", name), run.number("seconds", "first_iteration")
    if name != "train" or done < 2:
        return total / done if done else math.nan
    return (total - first) / (done - 1) if total >= first else math.nan


def max_or_nan(values: Iterable[float]) -> float:
    """The largest value, NaN where there is none or one is NaN."""
    found = list(values)
    return max(found) if found and not any(map(math.isnan, found)) else math.nan


def _or_least(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _middle(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else math.nan
