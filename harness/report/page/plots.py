"""The charts as the page's script wants them: cards of charts, with numbers of five digits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.report.charts import Chart, Line, Panel
from harness.report.charts.chart import Array
from harness.report.charts.style import style
from harness.report.page.script_safe import plain
from harness.report.reading.studies import Study


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


def cards(charts: Iterable[Chart]) -> list[Card]:
    """Charts by problem and family, in order."""
    found: dict[tuple[str, str], list[Chart]] = {}
    for chart in charts:
        found.setdefault((chart.problem, chart.family), []).append(chart)
    return [
        Card(f"plot-{index}", problem, tuple(members)) for index, ((problem, _), members) in enumerate(found.items())
    ]


def plot_data(found: Sequence[Card]) -> dict[str, Any]:
    """By the card's id, what its plots show."""
    return {card.id: [_chart(chart) for chart in card.charts] for card in found}


def study_data(studies: Sequence[Study]) -> dict[str, Any]:
    """By the id of its place on the page, every plot of every study."""
    return {
        f"study-{row}-{column}": {"data": plain(figure.data), "layout": plain(figure.plot)}
        for row, study in enumerate(studies)
        for column, figure in enumerate(study.figures)
    }


def _chart(chart: Chart) -> dict[str, Any]:
    panels = [_panel(panel) for panel in chart.panels]
    return {"title": chart.title, "variant": chart.variant, "statistic": chart.statistic, "panels": panels}


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "quantity": panel.quantity,
        "xLabel": panel.x_label,
        "yLabel": panel.y_label,
        "xLog": panel.x_log,
        "yLog": panel.y_log,
        "limits": list(panel.y_limits),
        "ticks": list(panel.ticks),
        "percent": panel.y_label.startswith("accuracy"),
        "lines": [_line(panel, line) for line in panel.lines],
    }


def _line(panel: Panel, line: Line) -> dict[str, Any]:
    look = style(line.style)
    found = {
        "name": line.name,
        "kind": line.kind,
        "colour": look.colour,
        "dash": look.dash,
        "marker": look.marker,
        "x": _numbers(line.x),
        "y": _numbers(line.y),
    }
    if line.low is not None and line.high is not None:
        beyond = np.where(np.isinf(line.high), panel.y_limits[1] * 10, line.high)
        found |= {"low": _numbers(line.low), "high": _numbers(beyond)}
    extra = {"labels": list(line.labels), "unreached": _numbers(line.unreached), "zeros": _numbers(panel.zeros(line))}
    return found | {name: values for name, values in extra.items() if values}


def _numbers(values: Array) -> list[float | int | None]:
    """Five significant digits; None for what is not finite."""
    return [_number(value) for value in values.tolist()]


def _number(value: float) -> float | int | None:
    if not np.isfinite(value):
        return None
    short = float(f"{value:.5g}")
    return int(short) if short.is_integer() and abs(short) < 2**53 else short
