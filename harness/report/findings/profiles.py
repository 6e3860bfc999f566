"""Performance profiles (Dolan and Moré 2002) over the problems of a report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Profile:
    """A step function: the share of problems on which a method costs at most ``ratio`` times the cheapest one."""

    ratio: NDArray[np.float64]
    share: NDArray[np.float64]

    def at(self, ratio: float) -> float:
        """The share at ``ratio``."""
        return float(self.share[np.searchsorted(self.ratio, ratio, side="right") - 1]) if ratio >= 1 else 0.0


def performance_profiles(costs: Mapping[str, Mapping[str, float]]) -> dict[str, Profile]:
    """A profile for every method from ``costs[problem][method]``, infinity or missing where it did not get there.

    A problem that no method solves counts for none of them, and stays in the denominator. NaN counts as missing.
    """
    methods = sorted({method for row in costs.values() for method in row})
    if not methods:
        return {}
    ratios = np.array([[_ratio(row, method) for method in methods] for row in costs.values()])
    steps = np.unique(np.append(ratios[np.isfinite(ratios)], 1.0))
    return {
        method: Profile(steps, (ratios[:, index, None] <= steps).mean(axis=0)) for index, method in enumerate(methods)
    }


def _ratio(row: Mapping[str, float], method: str) -> float:
    """Of a method's cost over the least on this problem; 1 where both are 0."""
    solved = [cost for cost in row.values() if math.isfinite(cost)]
    cost, least = row.get(method, math.inf), min(solved, default=math.inf)
    if not math.isfinite(cost):
        return math.inf
    return 1.0 if cost == least else cost / least if least else math.inf
