"""A chart as a matplotlib figure: panels side by side where there is room, and below them the legend, nothing else."""

from __future__ import annotations

import math
import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator
from matplotlib.transforms import Bbox, ScaledTranslation, Transform

from harness.report.charts import Chart, Line, Panel
from harness.report.charts.chart import Array
from harness.report.figures.look import letters, look, marks, plain
from harness.report.figures.ticks import set_ticks, thin_ticks
from harness.report.figures.width import WIDTHS

# inches: a panel that is narrower than that has no neighbour; a row of the legend; its handles and gaps
_NARROW, _ROW, _HANDLE = 2.0, 0.165, 0.5
# inches: the least that a panel of a row of pairs takes, and how high it is at least
_LEAST, _LOW = 1.3, 1.45
# letters of the legend's font in an inch, times its points
_LETTERS = 17.0 * 8
_DODGE = 4.5  # points between lines that share their x


def draw(chart: Chart, width: float = WIDTHS["neurips"]) -> Figure:
    """The figure of ``chart``, ``width`` inches wide; its title and what its lines mean belong in a caption."""
    beside = _beside(chart, width)
    rows = math.ceil(len(chart.panels) / beside)
    handles = _handles(chart)
    size = letters()
    room = int((width - _HANDLE) * _LETTERS / size * 0.9)
    names = ["\n".join(textwrap.wrap(plain(name), room)) for name in handles]
    columns = _legend_columns(names, width, size)
    below = _ROW * size / 8 * sum(max(name.count("\n") + 1 for name in row) for row in _rows(names, columns)) + 0.1
    height = rows * min(2.4, max(_LOW, 0.72 * width / beside)) + below
    figure = Figure(figsize=(width, height), layout=_layout(below / height))
    FigureCanvasAgg(figure)
    for at, (panel, axes) in enumerate(
        zip(chart.panels, figure.subplots(rows, beside, squeeze=False).flat, strict=True)
    ):
        _draw_panel(axes, panel, 3 if beside > 2 else 5)
        if at % beside and panel.beside and not panel.title:
            axes.set_ylabel("")  # its left neighbour has the same axis
    figure.legend(
        list(handles.values()),
        names,
        loc="lower center",
        bbox_to_anchor=(0.5, 0),
        ncols=columns,
        handlelength=2.4,
        columnspacing=1.0,
        labelspacing=0.3,
        borderpad=0.2,
        borderaxespad=0.2,
    )
    figure.draw_without_rendering()
    figure.set_layout_engine(None)  # laid out once, for all three formats: with an engine each would be drawn twice
    for panel, axes in zip(chart.panels, figure.axes, strict=True):
        # the solver's last digits differ from time to time, and a file's names come from them
        left, bottom, wide, high = (round(edge, 6) for edge in axes.get_position().bounds)
        axes.set_position((left, bottom, wide, high))
        thin_ticks(axes, figure.canvas.get_renderer())  # type: ignore[attr-defined]
        _label_points(axes, panel)
    return figure


def _beside(chart: Chart, width: float) -> int:
    """How many panels stand in a row: two where there is room; of several problems all pairs, or else a pair."""
    panels = len(chart.panels)
    if any(panel.title for panel in chart.panels):
        return next((beside for beside in (panels, 2) if width / beside >= _LEAST), 1)
    return min(panels, max(1, int(width / _NARROW)), 2)


def _layout(bottom: float) -> ConstrainedLayoutEngine:
    return ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.04, rect=(0, bottom, 1, 1 - bottom))


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


def _legend_columns(names: list[str], width: float, size: float) -> int:
    """As many columns as fit."""
    longest = max((len(line) for name in names for line in name.split("\n")), default=1)
    return max(1, min(5, len(names), int(width / (_HANDLE + longest * size / _LETTERS))))


def _rows(names: list[str], columns: int) -> list[list[str]]:
    """The names as a legend sets them, column by column."""
    rows = math.ceil(len(names) / columns)
    return [names[row::rows] for row in range(rows)]


def _draw_panel(axes: Axes, panel: Panel, most_ticks: int) -> None:
    axes.set_xlabel(plain(panel.x_label))
    axes.set_ylabel(plain(panel.y_label))
    axes.set_title(plain(panel.title), loc="left", fontsize=letters())
    axes.set_xscale("log" if panel.x_log else "linear")
    axes.set_yscale("log" if panel.y_log else "linear")
    axes.set_ylim(*panel.y_limits)
    if panel.ticks:
        axes.set_xlim(*panel.x_limits)
    for line in panel.lines:
        _draw_line(axes, panel, line)
    set_ticks(axes.xaxis, panel.x_log, None, False, most_ticks)
    if panel.ticks:
        axes.xaxis.set_major_locator(FixedLocator(panel.ticks))
        axes.xaxis.set_minor_locator(NullLocator())
    set_ticks(axes.yaxis, panel.y_log, panel.y_limits, panel.y_label.startswith("accuracy"))


def _draw_line(axes: Axes, panel: Panel, line: Line) -> None:
    how = look(line)
    y = np.where(np.isfinite(line.y), line.y, np.nan)
    if line.kind == "front":
        axes.step(line.x, y, where="post", zorder=1, **how)
        return
    across = _dodged(axes, panel, line) if line.kind == "points" else axes.transData
    axes.plot(line.x, y, markevery=marks(line), transform=across, **how)
    if line.kind == "stopped" and len(y):
        axes.plot(line.x[-1:], y[-1:], marker="x", markersize=6.5, markeredgewidth=1.6, color=how["color"], zorder=4)
    if line.low is not None and line.high is not None:
        _draw_spread(axes, panel, line, line.low, line.high, how["color"], across)
    _draw_edges(axes, panel, line, how["color"])


def _dodged(axes: Axes, panel: Panel, line: Line, base: Transform | None = None) -> Transform:
    """``base`` moved aside, so that lines of equal x, or equal values, stand beside each other."""
    measured = [other for other in panel.lines if other.kind != "fit"]
    points = _DODGE * (measured.index(line) - (len(measured) - 1) / 2) if line in measured else 0.0
    figure = axes.figure
    assert figure is not None
    return (base or axes.transData) + ScaledTranslation(points / 72, 0, figure.dpi_scale_trans)


def _draw_edges(axes: Axes, panel: Panel, line: Line, colour: str) -> None:
    """Triangles at the top edge for what was never reached, at the bottom edge for zero on a logarithmic axis."""
    aside = _dodged(axes, panel, line, axes.get_xaxis_transform())
    for places, edge, marker in ((line.unreached, 1.0, "^"), (panel.zeros(line), 0.0, "v")):
        if len(places):
            heights = np.full(len(places), edge)
            axes.scatter(places, heights, s=22, marker=marker, color=colour, transform=aside, clip_on=False, zorder=4)


def _draw_spread(axes: Axes, panel: Panel, line: Line, low: Array, high: Array, colour: str, across: Transform) -> None:
    if line.kind == "curve":
        axes.fill_between(line.x, low, high, color=colour, alpha=0.18, linewidth=0)
        return
    bottom, top = panel.y_limits
    beyond = np.where(np.isinf(high), top * 10, high)  # a bar without end leaves the panel
    bars = axes.vlines(line.x, np.clip(low, bottom, None), beyond, color=colour, linewidth=1, alpha=0.7)
    bars.set_transform(across)


def _label_points(axes: Axes, panel: Panel) -> None:
    """A label beside each point that has one, on the first side where nothing stands; none where all are taken."""
    figure = axes.figure
    assert figure is not None
    scale = figure.dpi / 72
    points = [
        (axes.transData.transform((x, y)), plain(label))
        for line in panel.lines
        for x, y, label in zip(line.x, line.y, line.labels, strict=False)
    ]
    taken = [Bbox.from_bounds(x - 3 * scale, y - 3 * scale, 6 * scale, 6 * scale) for (x, y), _ in points]
    frame = axes.get_window_extent()
    for place, text in points:
        wide, high = 0.65 * letters() * len(text) + 2, 0.8 * letters()
        for right, up in ((5, 3), (5, -3 - high), (-5 - wide, 3), (-5 - wide, -3 - high), (-wide / 2, 6)):
            x, y = place[0] + right * scale, place[1] + up * scale
            box = Bbox.from_bounds(x, y, wide * scale, high * scale)
            if box.count_overlaps(taken) == 0 and frame.x0 <= box.x0 and box.x1 <= frame.x1 + 6 * scale:
                anchor = axes.transData.inverted().transform(place)
                axes.annotate(
                    text,
                    (float(anchor[0]), float(anchor[1])),
                    (right, up),
                    textcoords="offset points",
                    color="#444444",
                )
                taken.append(box)
                break
