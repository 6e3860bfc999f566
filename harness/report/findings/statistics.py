"""Statistics over seeds: means with Student's t, medians with infinity and their bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, t

#: fewer seeds carry no claim: between the least and the largest of n lies the median with 1 - 2^(1-n), 75 % of three
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

    def within(self, least: float, most: float) -> Interval:
        """The same of a quantity that cannot leave these bounds."""
        low, high = np.clip([self.low, self.high], least, most)
        return replace(self, low=float(low), high=float(high))


#: of no seeds
NOTHING = Interval(math.nan, math.nan, math.nan, 0, False)


def generator() -> np.random.Generator:
    """The generator of every interval in a report: its numbers depend on the runs alone, not on their order."""
    return np.random.default_rng(20_200_616)


def median(values: ArrayLike) -> Values:
    """Median ``[..., seeds] -> [...]`` in which infinity counts: of 3, ∞ and ∞ it is ∞."""
    # whole rows sorted take an eighth of np.median's time, which partitions each row for itself
    ordered = np.sort(np.asarray(values, dtype=float), axis=-1)
    middle = ordered.shape[-1] // 2
    found = ordered[..., middle] if ordered.shape[-1] % 2 else ordered[..., middle - 1 : middle + 1].mean(axis=-1)
    return np.where(np.isnan(ordered[..., -1]), math.nan, found)


def mean(strata: Sequence[ArrayLike], level: float = LEVEL) -> Interval | None:
    """Mean of the strata's means and its Student t interval, Welch's where there are several.

    ``strata`` are values over seeds ``[seeds]``, one sequence for each benchmark, say. What is not finite is left
    out; None where nothing is left. The seeds of the interval are those of the smallest stratum.
    """
    arrays = [array[np.isfinite(array)] for array in (np.asarray(stratum, dtype=float) for stratum in strata)]
    arrays = [array for array in arrays if array.size]
    if not arrays:
        return None
    seeds = min(array.size for array in arrays)
    value = float(np.mean([array.mean() for array in arrays]))
    if seeds < 2:
        return Interval(value, math.nan, math.nan, seeds, False)
    with np.errstate(all="ignore"):
        errors = np.array([array.var(ddof=1) / array.size for array in arrays])
        total = errors.sum()
        freedom = 1 / sum((errors / total) ** 2 / [array.size - 1 for array in arrays])
        half = float(t.ppf((1 + level) / 2, freedom) * np.sqrt(total)) / len(arrays) if total else 0.0
    return Interval(value, value - half, value + half, seeds, seeds >= ENOUGH)


def mean_band(values: Values) -> tuple[Values, Values, Values]:
    """Means of ``values`` ``[points, seeds]`` and the ends of their Student t intervals, ``[points]`` each."""
    seeds = values.shape[-1]
    half = t.ppf((1 + LEVEL) / 2, seeds - 1) * values.std(axis=-1, ddof=1) / math.sqrt(seeds)
    middle = values.mean(axis=-1)
    return middle, middle - half, middle + half


def bootstrap(
    strata: Sequence[ArrayLike], random: np.random.Generator, statistic: Statistic = median
) -> Interval | None:
    """A statistic of all values and its percentile interval; seeds are drawn anew within each stratum.

    ``strata`` are values over seeds ``[seeds]``, one sequence for each benchmark, say. NaN, what was not
    measured, is left out; None where nothing is left. The seeds of the interval are those of the
    smallest stratum. Of five it holds a median in 94 % of cases, but a mean in 90 %: see :func:`mean`.
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

    Pairs of n seeds that all point one way say no more than 1 - 2^(1-n). So without misses and zeros the interval
    is at least as wide as Student's t of the logarithms, and with them the two sides are drawn apart where ``level``
    is beyond that. ``level`` is stricter where any of several ratios decides.
    """
    values = _shared([above, below])
    found = paired([above, below], _quotient, random, 0, level)
    if found.seeds < 2:
        return found
    ratios = divide(values[0], values[1])
    if (np.isfinite(ratios) & (ratios > 0)).all():
        logs = mean([np.log(ratios)], level) or NOTHING
        with np.errstate(over="ignore"):
            low, high = np.exp([logs.low, logs.high])
        return replace(found, low=min(found.low, float(low)), high=max(found.high, float(high)))
    if level > max(LEVEL, 1 - 2.0 ** (1 - found.seeds)):
        apart = np.stack([row[_draws(found.seeds, random)] for row in values], axis=-2)
        return _interval(found.value, _quotient(apart), found.seeds, 0, level)
    return found


def paired_difference(first: Mapping[int, float], second: Mapping[int, float], level: float = LEVEL) -> Interval:
    """Mean of the differences ``first - second``, seed by seed, with Student's t; seeds with a NaN are left out."""
    values = _shared([first, second])
    return mean([values[0] - values[1]], level) or NOTHING


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
    values = _shared(rows)
    seeds = values.shape[-1]
    if not seeds:
        return NOTHING
    drawn = np.moveaxis(values[:, _draws(seeds, random)], 0, -2)
    return _interval(float(statistic(values)), statistic(drawn), seeds, least, level)


def divide(above: Values, below: Values) -> Values:
    """Their ratio, NaN for ``0/0`` and ``∞/∞``."""
    with np.errstate(all="ignore"):
        found: Values = np.divide(above, below)
    return found


def share(successes: int, seeds: int, level: float = LEVEL) -> Interval:
    """A share of seeds with its Wilson interval, which is not empty where all seeds agree."""
    limits = binomtest(successes, seeds).proportion_ci(level, method="wilson")
    return Interval(successes / seeds, float(limits.low), float(limits.high), seeds, seeds >= ENOUGH)


def relative_spread(values: ArrayLike) -> float:
    """Interquartile range over median; NaN of fewer than two values or a median of 0."""
    array = np.asarray(values, dtype=float)
    array = array[np.isfinite(array)]
    middle = float(np.median(array)) if array.size > 1 else 0.0
    return float(np.subtract(*np.quantile(array, [0.75, 0.25]))) / middle if middle else math.nan


def _quotient(values: Values) -> Values:
    """Median over median, ``[..., 2, seeds] -> [...]``."""
    return divide(median(values[..., 0, :]), median(values[..., 1, :]))


def _shared(rows: Sequence[Mapping[int, float]]) -> Values:
    """``[rows, seeds]`` for the seeds that all rows have, without those with a NaN."""
    shared = sorted(set.intersection(*(set(row) for row in rows)))
    values = np.array([[row[seed] for seed in shared] for row in rows], dtype=float)
    return values[:, ~np.isnan(values).any(axis=0)]


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
