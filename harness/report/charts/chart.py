"""What a figure shows, whoever draws it: charts of panels of lines, in the units of their axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: curve: a line with its band; points: measured points, joined; markers: the same, not joined; fit: a fitted form;
#: front: the steps of a Pareto front; stopped: one run that did not complete, which ends with a cross.
Kind = Literal["curve", "points", "markers", "fit", "front", "stopped"]

_WIDE = 20.0
_MARGIN = 2.5


@dataclass(frozen=True, eq=False)
class Line:
    """One line ``[points]`` of a panel; infinity in ``y`` is a target that was never reached, NaN is left out.

    ``name`` is its entry in the legend; lines of one name are shown and hidden together, in every panel.
    ``low`` and ``high`` bound its band or its bars, ``labels`` stand beside its points.
    """

    name: str
    style: int
    kind: Kind
    x: Array
    y: Array
    low: Array | None = None
    high: Array | None = None
    labels: tuple[str, ...] = ()

    @property
    def unreached(self) -> Array:
        """Where ``y`` is infinite."""
        return self.x[np.isposinf(self.y)]


@dataclass(frozen=True)
class Panel:
    """One pair of axes. ``quantity`` is what sets it apart from the chart's other panels, in a word or two."""

    quantity: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    x_log: bool = False
    y_log: bool = False
    #: whether a linear y axis begins at zero
    from_zero: bool = False
    #: where the x axis has its ticks; empty: as the one who draws sees fit
    ticks: tuple[float, ...] = ()
    #: lines of the panel beside it, which its y axis has to hold too
    beside: tuple[Line, ...] = ()
    #: what stands above it, where the panels of a chart are of several problems
    title: str = ""

    @property
    def x_limits(self) -> tuple[float, float]:
        """The x axis around its ticks."""
        first, last = self.ticks[0], self.ticks[-1]
        margin = 0.06 * (last - first) or 0.5
        return (first / 1.2, last * 1.2) if self.x_log else (first - margin, last + margin)

    @property
    def y_limits(self) -> tuple[float, float]:
        """The y axis such that everything measured, its bars included, lies within; fits may leave it."""
        measured = [line for line in (*self.lines, *self.beside) if line.kind != "fit"]
        values = [self._finite(part) for line in measured for part in (line.y, line.low)]
        tops = [self._finite(line.high) for line in measured]
        found = np.concatenate([*values, *tops, np.empty(0)])
        if not len(found):
            return (0.1, 10.0) if self.y_log else (0.0, 1.0)
        low, high = float(found.min()), float(found.max())
        if self.y_log:
            return low / _MARGIN, high * _MARGIN
        margin = 0.08 * ((high - low) or abs(high) or 1.0)
        return 0.0 if self.from_zero else low - margin, high + margin

    def zeros(self, line: Line) -> Array:
        """Where a logarithmic y axis has no place for a point of ``line``, because it is zero (or less)."""
        return line.x[line.y <= 0] if self.y_log else np.empty(0)

    def _finite(self, values: Array | None) -> Array:
        if values is None:
            return np.empty(0)
        return values[np.isfinite(values) & ((values > 0) | (not self.y_log))]


@dataclass(frozen=True)
class Chart:
    """A figure of one problem. Charts of one ``family`` differ in ``variant`` alone: the target, or N."""

    family: str
    title: str
    #: see :attr:`Group.problem`
    problem: str
    #: what a line, its band or bars and its marks mean: one sentence each
    statistic: str
    panels: tuple[Panel, ...]
    variant: str = ""
    #: whether it becomes a figure in files, or is on the page alone
    on_paper: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the legend, each once, in order."""
        return tuple(dict.fromkeys(line.name for panel in self.panels for line in panel.lines))


def wide(values: Iterable[Array]) -> bool:
    """Whether positive values span so much that they need a logarithmic axis."""
    joined = np.concatenate([*values, np.empty(0)])
    finite = joined[np.isfinite(joined)]
    return len(finite) > 0 and bool(finite.min() > 0 and finite.max() / finite.min() > _WIDE)


def steps_axis(steps: Sequence[int]) -> tuple[bool, tuple[float, ...]]:
    """Whether the axis of N is logarithmic, and its ticks."""
    ticks = tuple(float(n) for n in sorted(set(steps)))
    return bool(ticks) and ticks[0] > 0 and ticks[-1] / ticks[0] > 8, ticks


def listed(steps: Iterable[float]) -> str:
    """``N = 1, 3``."""
    return "N = " + ", ".join(f"{n:g}" for n in steps if math.isfinite(n))
