"""How likely so many seeds decide a claim: its own statistic, on seeds drawn like those at hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, norm

from harness.report.findings.claim import Claim
from harness.report.findings.line import Line
from harness.report.findings.looks import LEVEL_OF_LOOKS
from harness.report.findings.rows import Row
from harness.report.findings.statistics import ENOUGH
from harness.report.findings.verdicts import Verdict

Values = NDArray[np.float64]
#: what decides a claim: where it is measured, and from that and a level to a verdict
Evidence = tuple[Line, Callable[[Line, float], Verdict]]
#: of that many seeds a plan promises to decide a claim
POWER = 0.9
#: how sure a plan is that seeds do not spread more than it takes them to (Browne 1995)
SURE = 0.8
#: fewer say nothing of how much seeds spread
FEWEST = 3
#: a claim that takes more is as good as never decided
MOST = 1000
#: what takes more is reckoned from the power of so many
_SIMULATED = 160
_COARSE, _FINE, _CHANCES = 40, 100, 30


def evidence(claim: Claim) -> Evidence | None:
    """What decides ``claim``; None where runs are missing, or where more seeds are not what lacks."""
    if claim.line is None or claim.test is None or claim.line.doubts or claim.line.mend or claim.line.cannot:
        return None
    return claim.line, claim.test


def seeds_needed(found: Evidence, sure: float = SURE, level: float = LEVEL_OF_LOOKS) -> int | None:
    """The fewest seeds that decide a claim with :data:`POWER`, where it is as the seeds at hand say.

    Few seeds know their spread badly: their variances are taken at the upper end of a one-sided interval that is
    ``sure``, of three seeds 4.5 times as large. None beyond :data:`MOST`, or with fewer seeds than :data:`FEWEST`.
    """
    seeds = _Seeds(found[0])
    if seeds.count < FEWEST:
        return None
    wider = (seeds.count - 1) / float(chi2.ppf(1 - sure, seeds.count - 1))

    def power(n: int, trials: int) -> float:
        random = np.random.default_rng(0)
        return _share(found, (seeds.drawn(n, random, wider) for _ in range(trials)), level)

    few, many = 0, ENOUGH
    while (reached := power(many, _COARSE)) < POWER and many < _SIMULATED:
        few, many = many, 2 * many
    if reached < POWER:
        return _beyond(many, power(many, _FINE), level)
    return _between(few, many, lambda n: power(n, _FINE)) if few else many


def chance(found: Evidence, n: int, level: float = LEVEL_OF_LOOKS) -> float:
    """How likely ``n`` seeds decide a claim, those at hand among them; NaN where too few are.

    Over what truth may be, given these seeds, and over the seeds to come: the predictive probability under a flat
    prior, which doubts the spread of few seeds, and their mean.
    """
    seeds = _Seeds(found[0])
    if seeds.count < FEWEST:
        return math.nan
    random = np.random.default_rng(0)
    return _share(found, (seeds.with_more(n, random) for _ in range(_CHANCES)), level)


def _share(found: Evidence, lines: Iterator[Line], level: float) -> float:
    return float(np.mean([found[1](line, level) != "undecided" for line in lines]))


def _between(few: int, many: int, power: Callable[[int], float]) -> int:
    """Where the power passes :data:`POWER`: its normal quantile is nearly a line in the root of n."""
    ends = {few: power(few), many: power(many)}
    for last in (False, True):
        low, high = norm.ppf(np.clip([ends[few], ends[many]], 0.01, 0.99))
        share = float(np.clip((norm.ppf(POWER) - low) / max(high - low, 1e-9), 0, 1))
        middle = min(max(math.ceil(((1 - share) * math.sqrt(few) + share * math.sqrt(many)) ** 2), few + 1), many)
        if last or middle == many:
            break
        ends[middle] = power(middle)
        few, many = (few, middle) if ends[middle] >= POWER else (middle, many)
    return middle


def _beyond(most: int, power: float, level: float) -> int | None:
    """Where that line goes on beyond ``most``, from the power there and none at 0 seeds; None beyond :data:`MOST`."""
    bar = float(norm.ppf((1 + level) / 2))
    reached = bar + float(norm.ppf(np.clip(power, 1e-9, 1 - 1e-9)))
    needed = math.ceil(most * ((bar + norm.ppf(POWER)) / reached) ** 2) if reached > 0 else MOST + 1
    return max(needed, most + 1) if needed <= MOST else None


class _Seeds:
    """The seeds of a line, and seeds like them.

    Costs and other positive numbers are drawn with the means and covariances of their logarithms, so that points stay
    paired; accuracies and other numbers with their own. Shares are drawn with half a success and half a failure more.
    Where a run missed its target, whole seeds are drawn again from those at hand, which knows no others.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        rows = [*line.rows, *line.against]
        self._names = sorted(set.intersection(*(set(row.values) for row in rows))) if rows else []
        self.count = len(self._names)
        self._values, self._least = (
            np.array([[part[seed] for seed in self._names] for part in parts], dtype=float).reshape(len(rows), -1)
            for parts in ([row.values for row in rows], [row.least for row in rows])
        )
        self._binary = bool(np.isin(self._values, (0, 1)).all())
        self._known = bool(np.isfinite(self._values).all()) and not self._binary
        self._logs = self._known and bool((self._values > 0).all())

    def drawn(self, n: int, random: np.random.Generator, wider: float) -> Line:
        """A line of ``n`` new seeds whose variances are ``wider`` times those at hand."""
        return self._as_line(*self._draw(n, random, wider, 0.0))

    def with_more(self, n: int, random: np.random.Generator) -> Line:
        """A line of these seeds and as many new ones as make ``n``, of one truth of those that these allow."""
        freedom = self.count - 1
        values, least = self._draw(max(0, n - self.count), random, freedom / random.chisquare(freedom), 1 / self.count)
        return self._as_line(np.hstack([self._values, values]), np.hstack([self._least, least]))

    def _draw(self, n: int, random: np.random.Generator, wider: float, doubt: float) -> tuple[Values, Values]:
        """``[rows, n]`` twice; ``doubt``: the variance of the mean itself, over that of a seed."""
        if self._binary:
            successes = self._values.sum(axis=1)
            odds = (successes + 0.5) / (self.count + 1)
            if doubt:
                odds = random.beta(successes + 0.5, self.count - successes + 0.5)
            drawn = (random.random((len(odds), n)) < odds[:, None]).astype(float)
            return drawn, drawn
        if not self._known:
            chosen = random.integers(self.count, size=n)
            return self._values[:, chosen], self._least[:, chosen]
        values = np.log(self._values) if self._logs else self._values
        middle = values.mean(axis=1, keepdims=True)
        spread = (values - middle) * math.sqrt(wider / (self.count - 1))
        centre = middle + spread @ random.normal(0, math.sqrt(doubt), (self.count, 1))
        drawn = centre + spread @ random.normal(size=(self.count, n))
        drawn = np.exp(drawn) if self._logs else drawn
        return drawn, drawn

    def _as_line(self, values: Values, least: Values) -> Line:
        rows = [
            Row(dict(zip(itertools.count(), one, strict=False)), dict(zip(itertools.count(), other, strict=False)))
            for one, other in zip(values.tolist(), least.tolist(), strict=True)
        ]
        cut = len(self._line.rows)
        return replace(self._line, rows=tuple(rows[:cut]), against=tuple(rows[cut:]))
