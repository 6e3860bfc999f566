"""Numbers by seed, of which some are only known to be at least so much, and ratios of two such rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from harness.report.findings.statistics import LEVEL, NOTHING, Interval, Values, generator, mean, median, paired_ratio

#: what a ratio's value is: itself, or a bound of it where a median run missed
Bound = Literal["", "at least", "at most"]


class Row(NamedTuple):
    """One quantity of one setting, by seed: infinite where a run missed its target, then at least what it spent."""

    values: Mapping[int, float]
    least: Mapping[int, float]

    @classmethod
    def known(cls, values: Mapping[int, float]) -> Row:
        """Of numbers without misses."""
        return cls(values, values)

    def __mul__(self, other: Row) -> Row:  # type: ignore[override]
        """The product seed by seed, on the seeds of both."""
        shared = self.values.keys() & other.values.keys()
        return Row(*({seed: one[seed] * two[seed] for seed in shared} for one, two in zip(self, other, strict=True)))

    @property
    def middle(self) -> float:
        """The median over seeds, without NaN; NaN where there is none."""
        found = [value for value in self.values.values() if not math.isnan(value)]
        return float(median(found)) if found else math.nan


def ratio(above: Row, below: Row, level: float = LEVEL) -> tuple[Interval, Bound]:
    """Median of ``above`` over that of ``below``, and which bound of it the value is where a median run missed.

    A miss shows that more is needed than was spent, and nothing else: the low end takes what ``above`` spent in vain
    for its cost, the high end what ``below`` did, and infinity stands on the other side. So the interval holds
    whatever the budgets were. The value is unknown (NaN) where both missed.
    """
    if not above.values or not below.values:
        return NOTHING, ""
    least = paired_ratio(above.least, below.values, generator(), level)
    missed_any = above.values != above.least or below.values != below.least
    most = paired_ratio(above.values, below.least, generator(), level) if missed_any else least
    missed = [math.isinf(row.middle) for row in (above, below)]
    value = math.nan if all(missed) else most.value if missed[1] else least.value
    word: Bound = "" if missed[0] == missed[1] else "at least" if missed[0] else "at most"
    return Interval(value, least.low, most.high, least.seeds, least.enough), word


def slope(points: tuple[float, ...], rows: tuple[Row, ...], level: float = LEVEL) -> Interval:
    """Mean over seeds of the least-squares slope of log value on log point, with Student's t.

    Of the seeds that every row has with a positive finite number; a seed that misses anywhere has no slope, and then
    the interval carries no claim: what is left would be a choice of the fast ones.
    """
    seeds = sorted(set.intersection(*(set(row.values) for row in rows)))
    values: Values = np.array([[row.values[seed] for seed in seeds] for row in rows], dtype=float)
    good = (np.isfinite(values) & (values > 0)).all(axis=0)
    if not good.any():
        return NOTHING
    x = np.log(points) - np.mean(np.log(points))
    found = mean([x @ np.log(values[:, good]) / (x @ x)], level) or NOTHING
    return found if good.all() else Interval(found.value, found.low, found.high, found.seeds, False)
