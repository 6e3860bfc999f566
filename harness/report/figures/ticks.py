"""Ticks that can be read: powers of ten as powers, and no label on top of another."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.backend_bases import RendererBase
from matplotlib.ticker import FixedFormatter, FixedLocator, LogLocator, MaxNLocator, NullFormatter, NullLocator

_GAP = 3.0  # points between labels
_PLAIN = (1e-3, 1e4)


def number(value: float) -> str:
    r"""A tick's label: ``20``, ``0.5``, and beyond four digits ``$2 \times 10^{5}$``.

    >>> number(200000.0), number(1e6)
    ('$2\\times10^{5}$', '$10^{6}$')
    """
    if value == 0 or _PLAIN[0] <= abs(value) < _PLAIN[1]:
        return f"{value:g}"
    power = math.floor(math.log10(abs(value)) + 1e-12)
    factor = f"{value / 10**power:.4g}"
    return f"$10^{{{power}}}$" if factor == "1" else rf"${factor}\times10^{{{power}}}$"


def set_ticks(axis: Axis, log: bool, limits: tuple[float, float] | None, percent: bool, most: int = 5) -> None:
    """``most`` round numbers; on a logarithmic axis powers of ten, and on less than two decades 1, 2 and 5 between."""
    axis.set_major_formatter((lambda value, _: f"{100 * value:g} %") if percent else (lambda value, _: number(value)))
    if not log:
        axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))
        _share_power(axis)
        return
    low, high = axis.get_view_interval() if limits is None else limits
    if math.log10(high / low) < 2:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _share_power(axis: Axis) -> None:
    """Long numbers on a linear axis as multiples of one power of ten, which stands with the axis' name."""
    high = max(map(abs, axis.axes.get_xlim() if isinstance(axis, XAxis) else axis.axes.get_ylim()))
    if high == 0 or _PLAIN[0] <= high < _PLAIN[1]:
        return
    power = math.floor(math.log10(high))
    axis.set_major_formatter(lambda value, _: f"{value / 10.0**power:.4g}")
    axis.set_label_text(rf"{axis.get_label_text()} ($10^{{{power}}}$)")


def thin_ticks(axes: Axes, renderer: RendererBase) -> None:
    """Leave out the label of every tick that would touch the one before it."""
    for axis, side in ((axes.xaxis, 0), (axes.yaxis, 1)):
        low, high = sorted(axis.get_view_interval())
        end = -math.inf
        places, labels = [], []
        for tick in axis.get_major_ticks():
            place = float(tick.get_loc())
            text = tick.label1.get_text()
            if not low <= place <= high:
                continue
            box = tick.label1.get_window_extent(renderer)
            start, stop = (box.x0, box.x1) if side == 0 else (box.y0, box.y1)
            free = start > end + _GAP * axes.figure.dpi / 72
            places.append(place)
            labels.append(text if free else "")
            end = stop if free else end
        axis.set_major_locator(FixedLocator(places))
        axis.set_major_formatter(FixedFormatter(labels))
