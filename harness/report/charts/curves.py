"""Training curves of several seeds as one line with a band, on a few hundred points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.charts.chart import Array
from harness.report.findings.statistics import ENOUGH, mean_band
from harness.report.reading.columns import Columns

POINTS = 200


@dataclass(frozen=True)
class Curve:
    """Mean over seeds ``[points]`` with its band; ``low`` and ``high`` are None for one seed."""

    x: Array
    y: Array
    low: Array | None
    high: Array | None


def trailing_mean(values: Array, window: int) -> Array:
    """Mean of each value and those before it, ``window`` at most: it never looks ahead."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - window, 0)
    return np.asarray((total[end] - total[start]) / (end - start))


def loss_of(metrics: Columns, clock: str, window: int) -> tuple[Array, Array]:
    """``clock`` (iteration, seconds) and the smoothed training loss of one run, up to its first loss not finite."""
    x, loss = metrics[clock], metrics["loss"]
    bad = np.flatnonzero(~np.isfinite(loss) | ~np.isfinite(x))
    end = int(bad[0]) if len(bad) else len(loss)
    return x[:end], trailing_mean(loss[:end], window)


def thin(x: Array, y: Array) -> tuple[Array, Array]:
    """At most ``POINTS`` points of a line, its ends among them."""
    if len(x) <= POINTS:
        return x, y
    kept = np.unique(np.linspace(0, len(x) - 1, POINTS).round().astype(int))
    return x[kept], y[kept]


def average(seeds: Sequence[tuple[Array, Array]], whole: bool) -> Curve:
    """Mean over ``seeds`` (x, y), where all of them were measured; ``whole``: x are integers.

    The band is a 95 % interval of the mean, or the range of the seeds where they are fewer than ``ENOUGH``.
    """
    grid = _grid(max(float(x[0]) for x, _ in seeds), min(float(x[-1]) for x, _ in seeds), whole)
    values = np.stack([np.interp(grid, x, y) for x, y in seeds], axis=1)
    if len(seeds) == 1:
        return Curve(grid, values[:, 0], None, None)
    centre, low, high = mean_band(values)
    least = values.min(1)
    if len(seeds) < ENOUGH:
        return Curve(grid, centre, least, values.max(1))
    return Curve(grid, centre, np.where((low <= 0) & (least > 0), least, low), high)  # the axis may be logarithmic


def _grid(first: float, last: float, whole: bool) -> Array:
    """Half of the points evenly spaced, half evenly on a logarithmic axis."""
    half = POINTS // 2
    if last <= first:
        return np.array([last])
    points = np.linspace(first, last, half)
    if first > 0:
        points = np.concatenate([points, np.geomspace(first, last, half)])
    return np.asarray(np.unique(points.round() if whole else points.clip(first, last)))
