"""A chart as a matplotlib figure: panels side by side, below them the legend and what the lines mean."""

from __future__ import annotations

import math
import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import YAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from harness.report.charts import Chart, Line, Panel
from harness.report.charts.chart import Array
from harness.report.figures.look import look, marks, plain

# inches
_WIDTH, _PANEL, _TITLE, _ROW, _CAPTION = 7.2, 2.5, 0.32, 0.165, 0.13
_LETTERS_A_LINE = 140


def draw(chart: Chart) -> Figure:
    """The figure of ``chart``, 7.2 inches wide (two columns of print); four panels stand two by two."""
    handles = _handles(chart)
    names = [plain(name) for name in handles]
    columns = _legend_columns(names)
    caption = textwrap.wrap(chart.statistic, _LETTERS_A_LINE)
    rows = math.ceil(len(chart.panels) / 2)
    below = _CAPTION * len(caption) + _ROW * math.ceil(len(names) / columns) + 0.15
    height = rows * _PANEL + _TITLE + below
    figure = Figure(figsize=(_WIDTH, height), layout=_layout(below / height, 1 - _TITLE / height))
    FigureCanvasAgg(figure)
    for panel, axes in zip(chart.panels, figure.subplots(rows, 2, squeeze=False).flat, strict=True):
        _draw_panel(axes, panel)
    variant = "" if chart.variant in chart.title else f", {chart.variant}"
    title = plain(f"{chart.title}{variant} ({chart.problem})")
    figure.text(0.5, 1 - 0.08 / height, title, ha="center", va="top", fontsize=10)
    foot = _CAPTION * len(caption) + 0.06
    anchor = (0.5, foot / height)
    figure.legend(
        list(handles.values()), names, loc="lower center", bbox_to_anchor=anchor, ncols=columns, handlelength=3
    )
    figure.text(0.5, 0.06 / height, "\n".join(caption), ha="center", va="bottom", fontsize=6.8, color="#444444")
    figure.draw_without_rendering()
    figure.set_layout_engine(None)  # laid out once, for all three formats: with an engine each would be drawn twice
    for axes in figure.axes:  # the solver's last digits differ from time to time, and a file's names come from them
        left, bottom, width, height = (round(edge, 6) for edge in axes.get_position().bounds)
        axes.set_position((left, bottom, width, height))
    return figure


def _layout(bottom: float, top: float) -> ConstrainedLayoutEngine:
    return ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05, rect=(0, bottom, 1, top - bottom))


def _handles(chart: Chart) -> dict[str, Line2D]:
    """What stands for each name in the legend: the first line of that name."""
    first: dict[str, Line] = {}
    for panel in chart.panels:
        for line in panel.lines:
            first.setdefault(line.name, line)
    cross = {"marker": "x"}
    return {
        name: Line2D([], [], **look(line) | (cross if line.kind == "stopped" else {})) for name, line in first.items()
    }


def _legend_columns(names: list[str]) -> int:
    """As many columns as fit."""
    longest = max(map(len, names), default=1)
    return max(1, min(5, len(names), 130 // (longest + 9)))


def _draw_panel(axes: Axes, panel: Panel) -> None:
    axes.set_xlabel(plain(panel.x_label))
    axes.set_ylabel(plain(panel.y_label))
    axes.set_xscale("log" if panel.x_log else "linear")
    axes.set_yscale("log" if panel.y_log else "linear")
    axes.set_ylim(*panel.y_limits)
    if panel.ticks:
        axes.set_xlim(*panel.x_limits)
    for line in panel.lines:
        _draw_line(axes, panel, line)
    axes.xaxis.set_major_formatter(_short)
    if panel.ticks:
        axes.xaxis.set_major_locator(FixedLocator(panel.ticks))
        axes.xaxis.set_minor_locator(NullLocator())
    if panel.y_log:
        _logarithmic_ticks(axes.yaxis, panel.y_limits)
    elif panel.y_label.startswith("accuracy"):
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")


def _logarithmic_ticks(axis: YAxis, limits: tuple[float, float]) -> None:
    """Powers of ten; on less than two decades 1, 2, 5 and their tenfold as plain numbers, if they are short."""
    decades = math.log10(limits[1] / limits[0])
    if decades < 2:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(_short)
        axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _short(value: float, _: object) -> str:
    return f"{value:g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")


def _draw_line(axes: Axes, panel: Panel, line: Line) -> None:
    how = look(line)
    y = np.where(np.isfinite(line.y), line.y, np.nan)
    if line.kind == "front":
        axes.step(line.x, y, where="post", zorder=1, **how)
        return
    axes.plot(line.x, y, markevery=marks(line), **how)
    if line.kind == "stopped" and len(y):
        axes.plot(line.x[-1:], y[-1:], marker="x", markersize=6.5, markeredgewidth=1.6, color=how["color"], zorder=4)
    if line.low is not None and line.high is not None:
        _draw_spread(axes, panel, line, line.low, line.high, how["color"])
    for x, height, label in zip(line.x, y, line.labels, strict=False):
        axes.annotate(plain(label), (x, height), (4, 4), textcoords="offset points", fontsize=6.5, color="#444444")
    _draw_edges(axes, panel, line, how["color"])


def _draw_edges(axes: Axes, panel: Panel, line: Line, colour: str) -> None:
    """Triangles at the top edge for what was never reached, at the bottom edge for zero on a logarithmic axis.

    Those of several lines stand side by side.
    """
    measured = [other for other in panel.lines if other.kind != "fit"]
    points = 5 * (measured.index(line) - (len(measured) - 1) / 2) if line in measured else 0.0
    figure = axes.figure
    assert figure is not None
    aside = axes.get_xaxis_transform() + ScaledTranslation(points / 72, 0, figure.dpi_scale_trans)
    for places, edge, marker in ((line.unreached, 1.0, "^"), (panel.zeros(line), 0.0, "v")):
        if len(places):
            heights = np.full(len(places), edge)
            axes.scatter(places, heights, s=32, marker=marker, color=colour, transform=aside, clip_on=False, zorder=4)


def _draw_spread(axes: Axes, panel: Panel, line: Line, low: Array, high: Array, colour: str) -> None:
    if line.kind == "curve":
        axes.fill_between(line.x, low, high, color=colour, alpha=0.18, linewidth=0)
        return
    bottom, top = panel.y_limits
    beyond = np.where(np.isinf(high), top * 10, high)  # a bar without end leaves the panel
    axes.vlines(line.x, np.clip(low, bottom, None), beyond, color=colour, linewidth=1, alpha=0.7)
