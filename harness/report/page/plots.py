"""The charts and the plots of studies as Plotly's figures, with their legends; colours are variables of the page."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import plotly.graph_objects as go

from harness.report.charts import Chart, Line, Panel
from harness.report.charts.style import MARKERS, style
from harness.report.page.script_safe import plain
from harness.report.page.traces import escaped, traces
from harness.report.reading.studies import Figure, Study

_AXIS = {
    "gridcolor": "var(--grid)",
    "linecolor": "var(--soft)",
    "tickcolor": "var(--grid)",
    "showline": True,
    "zeroline": False,
    "ticks": "outside",
    "automargin": True,
    "exponentformat": "power",
    "title": {"standoff": 8, "font": {"size": 13}},
}
#: what all figures look like
_LAYOUT = {
    "showlegend": False,
    "hovermode": "closest",
    "paper_bgcolor": "var(--card)",
    "plot_bgcolor": "var(--card)",
    "margin": {"l": 56, "r": 16, "t": 14, "b": 44},
    "font": {"family": "system-ui, Segoe UI, Roboto, Arial, sans-serif", "size": 13, "color": "var(--ink)"},
    "hoverlabel": {"bgcolor": "var(--card)", "bordercolor": "var(--soft)", "font": {"color": "var(--ink)"}},
    "legend": {"orientation": "h", "y": -0.2},
    "xaxis": _AXIS,
    "yaxis": _AXIS,
}
#: kinds of traces that the page's bundle of Plotly draws, a quarter of the whole
_BASIC = {"scatter", "bar", "pie"}
#: in a legend; further lines than so many are shown when they are asked for
_DASHES = {"solid": "", "dash": "7 4", "dashdot": "8 3 2 3", "dot": "2 3"}
_MARKS = dict(zip(MARKERS, "●■◆⬟✚★⬢", strict=True))
_SHOWN = 16


@dataclass(frozen=True)
class Card:
    """Charts of one family and problem: one place on the page, with a choice between them."""

    id: str
    problem: str
    charts: tuple[Chart, ...]

    @property
    def title(self) -> str:
        """What all its charts are called; they say more themselves."""
        return self.charts[0].title if self.charts[0].family != "cost" else "Cost to a target"


class Entry(NamedTuple):
    """A line of a legend: ``dashes`` are None for points alone, ``mark`` is empty for a line alone."""

    name: str
    colour: int
    dashes: str | None
    mark: str
    shown: bool


def cards(charts: Iterable[Chart]) -> list[Card]:
    """Charts by problem and family, in order; what the report is about, the cost to a target, comes first."""
    found: dict[tuple[str, str], list[Chart]] = {}
    for chart in sorted(charts, key=lambda chart: chart.family != "cost"):
        found.setdefault((chart.problem, chart.family), []).append(chart)
    return [Card(f"plot-{index}", key[0], tuple(members)) for index, (key, members) in enumerate(found.items())]


def legend(chart: Chart) -> list[Entry]:
    """One entry for each name, as its first line looks: buttons, which keyboards and narrow windows have too."""
    first: dict[str, Line] = {}
    for line in (line for panel in chart.panels for line in panel.lines):
        first.setdefault(line.name, line)
    entries = []
    for index, line in enumerate(first.values()):
        look = style(line.style)
        dashes = {"markers": None, "fit": _DASHES["dot"], "front": ""}.get(line.kind, _DASHES[look.dash])
        mark = {"points": _MARKS[look.marker], "markers": _MARKS[look.marker], "stopped": "✕"}.get(line.kind, "")
        entries.append(Entry(line.name, look.colour, dashes, mark, index < _SHOWN))
    return entries


def plot_data(found: Sequence[Card], studies: Sequence[Study]) -> dict[str, Any]:
    """``template`` for all figures; by the id of its place, one for each chart and panel that can be chosen there."""
    charts = {card.id: [[_figure(panel) for panel in chart.panels] for chart in card.charts] for card in found}
    plots = {
        f"study-{row}-{column}": [[_study_figure(figure)]]
        for row, study in enumerate(studies)
        for column, figure in enumerate(study.figures)
        if drawable(figure)
    }
    return {"template": {"layout": _LAYOUT}, **charts, **plots}


def drawable(figure: Figure) -> bool:
    """Whether the page can show a plot of a study; if not, the study's own page does."""
    return {trace.get("type", "scatter") for trace in figure.data} <= _BASIC


def _study_figure(figure: Figure) -> dict[str, Any]:
    """Optuna's plot as its file has it, in the looks of the page."""
    layout = {name: value for name, value in plain(figure.plot).items() if name not in _LAYOUT}
    axes = {name: plain(axis) for name, axis in figure.plot.items() if re.fullmatch(r"[xy]axis\d*", name)}
    for note in layout.get("annotations") or ():
        if isinstance(note, dict):
            note["font"] = {"color": "var(--soft)", "size": 10}
    return {"data": plain(figure.data), "layout": {**layout, **axes, "showlegend": True}}


def _figure(panel: Panel) -> dict[str, Any]:
    """One panel; ``meta`` has the ticks of both axes for the time that they are logarithmic."""
    low, high = panel.y_limits
    x = [value for line in panel.lines for value in line.x.tolist() if 0 < value < math.inf] or [1.0]
    percent = panel.y_label.startswith("accuracy")
    named = {"tickmode": "array", "tickvals": panel.ticks, "ticktext": [f"{tick:g}" for tick in panel.ticks]}
    ticks = {"xaxis": named if panel.ticks else _powers(min(x), max(x)), "yaxis": _powers(low, high, percent)}
    made = go.Figure(
        [trace for line in panel.lines for trace in traces(panel, line)],
        {
            "meta": ticks,
            "xaxis": _axis(panel.x_label, panel.x_log, ticks["xaxis"]) | (named if panel.ticks else {}),
            "yaxis": {
                **_axis(panel.y_label, panel.y_log, ticks["yaxis"]),
                "tickformat": ".0%" if percent else "",
                "range": [math.log10(low), math.log10(high)] if panel.y_log else [low, high],
                "autorangeoptions": {"clipmax": high},  # where the other scale is asked for
            },
            "yaxis2": {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True},
        },
    )
    made.layout.template = None  # the page's, which is there once
    return dict(made.to_dict())


def _axis(label: str, log: bool, ticks: dict[str, Any]) -> dict[str, Any]:
    scale = {"type": "log", **ticks} if log else {"type": "linear"}
    return {"title": {"text": escaped(label)}, **scale}


def _powers(low: float, high: float, percent: bool = False) -> dict[str, Any]:
    """Powers of ten, with their 2 and 5 on less than two decades; nothing where the axis cannot be logarithmic."""
    if not 0 < low <= high:
        return {}
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    digits = (1, 2, 5) if high < 100 * low else (1,)
    values = [(d, e) for e in range(first, last + 1, max(1, (last - first) // 8)) for d in digits]
    return {
        "tickvals": [float(f"{digit}e{exponent}") for digit, exponent in values],
        "ticktext": [f"{float(f'{d}e{e + 2}'):g}%" if percent else _power(d, e) for d, e in values],
    }


def _power(digit: int, exponent: int) -> str:
    if -4 < exponent < 5:
        return f"{float(f'{digit}e{exponent}'):.12g}"
    return f"{'' if digit == 1 else f'{digit}·'}10<sup>{exponent}</sup>"
