"""What was measured for a group of runs: cost to every target, accuracy, loss, time and memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from harness.report.costs import UNKNOWN, Cost, Measure, Target, cost_to, has_block
from harness.report.groups import Group
from harness.report.runs import Run
from harness.report.statistics import Interval, bootstrap, generator, median, relative_spread
from harness.report.validity import PHASES

#: what seconds per iteration are given for; ``train`` is the whole iteration
TIMED = ("train", *PHASES)
_LAST = 10


@dataclass(frozen=True, eq=False)
class MedianCost:
    """Costs of each seed's run to a target; each measure is their median, misses counted as infinity."""

    #: by seed, those whose measurements can tell
    each: Mapping[int, Cost]
    _intervals: dict[Measure, Interval] = field(default_factory=dict, repr=False)

    @cached_property
    def median(self) -> Cost:
        """The medians alone, over the seeds that have the measure; NaN where none has."""
        if not self.each:
            return UNKNOWN
        measures = zip(*self.each.values(), strict=True)
        return Cost(*(_middle([value for value in values if not math.isnan(value)]) for values in measures))

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

    def interval(self, measure: Measure) -> Interval:
        """The median of one measure and its interval over seeds."""
        if measure not in self._intervals:
            found = bootstrap([list(self.by_seed(measure).values())], generator(), median)
            self._intervals[measure] = found or Interval(math.nan, math.nan, math.nan, 0, False)
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
    blocks: Mapping[str, Mapping[Target, MedianCost]] = field(default_factory=dict)

    @cached_property
    def accuracy(self) -> Interval | None:
        """Interquartile mean of the held-out accuracy of the runs that were completed."""
        return self.over_seeds(lambda run: run.number("accuracy", "mean"))

    @cached_property
    def training_seconds(self) -> float:
        """Median seconds of training of the completed runs; NaN where none was measured."""
        taken = [run.number("seconds", "train") for run in self.group.completed]
        return _middle([value for value in taken if not math.isnan(value)])

    @cached_property
    def train_loss(self) -> Interval | None:
        """Interquartile mean of the training loss over the last ten meta-iterations of completed runs."""
        return self.over_seeds(last_loss)

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
        return sum(run.summary["status"] == status for run in self.group.by_seed.values())

    def over_seeds(self, quantity: Callable[[Run], float]) -> Interval | None:
        """Interquartile mean and interval of a quantity of the completed runs."""
        return bootstrap([[quantity(run) for run in self.group.completed]], generator())

    def all_costs(self, target: Target) -> list[MedianCost]:
        """Costs to ``target`` on every block that counts: the compared ones, or its own."""
        return [costs[target] for costs in self.blocks.values()] or [self.costs[target]]

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
    """The cost of each seed's run (see :func:`cost_to`)."""
    block = None if w is None else frozenset(w)
    each = {seed: cost_to(run, target, block) for seed, run in runs.items()}
    return MedianCost({seed: cost for seed, cost in each.items() if not math.isnan(cost.iterations)})


def seconds_per_iteration(run: Run, name: str = "train") -> float:
    """Seconds of one meta-iteration of ``run``, whole or one phase; NaN where that was not measured."""
    done = run.summary["iterations_done"]
    total, first = run.number("seconds", name), run.number("seconds", "first_iteration")
    if name != "train" or done < 2:
        return total / done if done else math.nan
    return (total - first) / (done - 1) if total >= first else math.nan


def last_loss(run: Run) -> float:
    """Mean training loss over the last ten meta-iterations; NaN where one of them is not finite."""
    losses = run.metrics["loss"][-_LAST:]
    return float(losses.mean()) if losses.size else math.nan


def max_or_nan(values: Iterable[float]) -> float:
    """The largest value, NaN where there is none or one is NaN."""
    found = list(values)
    return max(found) if found and not any(map(math.isnan, found)) else math.nan


def _middle(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else math.nan
