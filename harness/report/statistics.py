"""Statistics over seeds: interquartile means, medians with infinity, and bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, trim_mean

#: fewer seeds carry no claim: a 95 % bootstrap interval of three covers 77 to 87 %
ENOUGH = 5
_RESAMPLES = 2000
#: of every interval, unless several decide together
LEVEL = 0.95

Values = NDArray[np.float64]
#: from ``[..., seeds]`` to ``[...]``
Statistic = Callable[[Values], Values]


@dataclass(frozen=True)
class Interval:
    """A statistic over seeds with its 95 % interval; NaN where one seed leaves the ends unknown."""

    value: float
    low: float
    high: float
    seeds: int
    #: whether there are seeds enough for a claim
    enough: bool

    def excludes(self, neutral: float) -> bool:
        """Whether a claim that the value is not ``neutral`` stands: enough seeds, and not inside the interval."""
        return self.enough and (self.low > neutral or self.high < neutral)


def generator() -> np.random.Generator:
    """The generator of every interval in a report: its numbers depend on the runs alone, not on their order."""
    return np.random.default_rng(20_200_616)


def interquartile_mean(values: ArrayLike) -> Values:
    """Mean of the middle half ``[..., seeds] -> [...]``; of fewer than four values it is their mean."""
    found: Values = np.asarray(trim_mean(np.asarray(values, dtype=float), 0.25, axis=-1))
    return found


def median(values: ArrayLike) -> Values:
    """Median ``[..., seeds] -> [...]`` in which infinity counts: of 3, ∞ and ∞ it is ∞."""
    # whole rows sorted take an eighth of np.median's time, which partitions each row for itself
    ordered = np.sort(np.asarray(values, dtype=float), axis=-1)
    middle = ordered.shape[-1] // 2
    found = ordered[..., middle] if ordered.shape[-1] % 2 else ordered[..., middle - 1 : middle + 1].mean(axis=-1)
    return np.where(np.isnan(ordered[..., -1]), math.nan, found)


def bootstrap(
    strata: Sequence[ArrayLike], random: np.random.Generator, statistic: Statistic = interquartile_mean
) -> Interval | None:
    """A statistic of all values and its percentile interval; seeds are drawn anew within each stratum.

    ``strata`` are values over seeds ``[seeds]``, one sequence for each benchmark, say. NaN, what was not
    measured, is left out; None where nothing is left. The seeds of the interval are those of the
    smallest stratum.
    """
    arrays = [array[~np.isnan(array)] for array in (np.asarray(stratum, dtype=float) for stratum in strata)]
    arrays = [array for array in arrays if array.size]
    if not arrays:
        return None
    drawn = [array[_draws(array.size, random)] for array in arrays]
    value = float(statistic(np.concatenate(arrays)))
    return _interval(value, statistic(np.concatenate(drawn, axis=-1)), min(array.size for array in arrays))


def paired_ratio(
    above: Mapping[int, float], below: Mapping[int, float], random: np.random.Generator, level: float = LEVEL
) -> Interval:
    """Median of ``above`` over median of ``below`` on the seeds of both, which are drawn anew together.

    Keys are seeds: equal seeds have seen equal tasks. ``x/∞`` is 0 and ``∞/x`` is ∞; a resample with
    ``∞/∞`` or ``0/0`` can be anything, so it widens the interval at both ends. NaN where it is the value.
    """
    return paired(
        [above, below], lambda values: divide(median(values[..., 0, :]), median(values[..., 1, :])), random, 0, level
    )


def paired_difference(first: Mapping[int, float], second: Mapping[int, float], random: np.random.Generator) -> Interval:
    """Interquartile mean of the differences ``first - second``, seed by seed."""
    return paired([first, second], lambda v: interquartile_mean(v[..., 0, :] - v[..., 1, :]), random)


def paired(
    rows: Sequence[Mapping[int, float]],
    statistic: Statistic,
    random: np.random.Generator,
    least: float = -math.inf,
    level: float = LEVEL,
) -> Interval:
    """A statistic ``[..., rows, seeds] -> [...]`` on the seeds that all rows have, which are drawn anew together.

    Seeds with a NaN are left out. ``least`` is the smallest value that the statistic can take.
    """
    shared = sorted(set.intersection(*(set(row) for row in rows)))
    values = np.array([[row[seed] for seed in shared] for row in rows], dtype=float)
    values = values[:, ~np.isnan(values).any(axis=0)]
    seeds = values.shape[-1]
    if not seeds:
        return Interval(math.nan, math.nan, math.nan, 0, False)
    drawn = np.moveaxis(values[:, _draws(seeds, random)], 0, -2)
    return _interval(float(statistic(values)), statistic(drawn), seeds, least, level)


def divide(above: Values, below: Values) -> Values:
    """Their ratio, NaN for ``0/0`` and ``∞/∞``."""
    with np.errstate(all="ignore"):
        found: Values = np.divide(above, below)
    return found


def share(successes: int, seeds: int) -> Interval:
    """A share of seeds with its Wilson interval, which is not empty where all seeds agree."""
    limits = binomtest(successes, seeds).proportion_ci(LEVEL, method="wilson")
    return Interval(successes / seeds, float(limits.low), float(limits.high), seeds, seeds >= ENOUGH)


def relative_spread(values: ArrayLike) -> float:
    """Interquartile range over median; NaN of fewer than two values or a median of 0."""
    array = np.asarray(values, dtype=float)
    array = array[np.isfinite(array)]
    middle = float(np.median(array)) if array.size > 1 else 0.0
    return float(np.subtract(*np.quantile(array, [0.75, 0.25]))) / middle if middle else math.nan


def _draws(seeds: int, random: np.random.Generator) -> NDArray[np.int64]:
    return random.integers(seeds, size=(_RESAMPLES, seeds))


def _interval(
    value: float, distribution: Values, seeds: int, least: float = -math.inf, level: float = LEVEL
) -> Interval:
    """Percentiles that are members of the distribution: between a number and infinity there is no middle.

    NaN in it stands for anything from ``least`` to infinity.
    """
    if seeds < 2:
        return Interval(value, math.nan, math.nan, seeds, False)
    unknown = np.isnan(distribution)
    tail = (1 - level) / 2
    low = np.quantile(np.where(unknown, least, distribution), tail, method="lower")
    high = np.quantile(np.where(unknown, math.inf, distribution), 1 - tail, method="higher")
    return Interval(value, float(low), float(high), seeds, seeds >= ENOUGH)
