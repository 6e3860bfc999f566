"""The lines of a panel as Plotly's traces; colours are the page's variables, which its script fills in."""

from __future__ import annotations

import html
import math
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from harness.report.charts import Line, Panel
from harness.report.charts.chart import Array
from harness.report.charts.style import style

#: between lines that share their N, of the axis
_ASIDE = 0.012


def traces(panel: Panel, line: Line) -> list[go.Scatter]:
    """A line with its band, and triangles at the edges for what the axis has no place for."""
    colour = f"var(--series-{style(line.style).colour})"
    made = [_main(panel, line, colour)]
    if line.low is not None and line.high is not None:
        if line.kind == "curve":
            made.insert(0, _band(line, line.low, line.high, colour))
        else:
            made[0].error_y = _bars(panel, line, line.low, line.high, colour)
    if len(line.unreached):  # one below the other, so that none hides another
        missing = [other.name for other in panel.lines if len(other.unreached)]
        made.append(_edge(line.unreached, 1 - 0.05 * missing.index(line.name), "triangle-up", "never reached", colour))
    if len(zeros := panel.zeros(line)):
        made.append(_edge(zeros, 0, "triangle-down", "zero", colour))
    return [trace.update(name=escaped(line.name), legendgroup=line.name) for trace in made]


def escaped(text: str) -> str:
    """``text`` where Plotly would take tags for markup."""
    return html.escape(text, quote=False)


def _main(panel: Panel, line: Line, colour: str) -> go.Scatter:
    look = style(line.style)
    lines, widths = {"fit": "dot", "front": "solid"}, {"fit": 1.5, "front": 1.2, "stopped": 1}
    modes = {"points": "lines+markers", "stopped": "lines+markers", "markers": "markers"}
    value = "%{y:.1%}" if panel.y_label.startswith("accuracy") else "%{y:.4g}"
    at = "N = %{customdata}" if panel.ticks else f"{escaped(panel.x_label)} %{{x:.4~g}}"
    beside = "<br>N = %{text}" if line.labels else ""
    stopped = line.kind == "stopped"
    return go.Scatter(
        x=_packed(_aside(panel, line)),
        y=_packed(line.y),
        mode="markers+text" if line.labels else modes.get(line.kind, "lines"),
        line={
            "color": colour,
            "dash": lines.get(line.kind, look.dash),
            "width": widths.get(line.kind, 2),
            "shape": "hv" if line.kind == "front" else "linear",
        },
        marker={
            "color": colour,
            "symbol": "x" if stopped else look.marker,
            "size": [0] * (len(line.x) - 1) + [11] if stopped else 8,
        },
        text=[escaped(label) for label in line.labels] or None,
        textposition="top right",
        cliponaxis=not line.labels,  # a label may stand over the margin
        customdata=line.x.round(1).tolist() if panel.ticks else None,
        hovertemplate=f"{at}<br>{escaped(panel.y_label)} {value}{beside}<extra>%{{fullData.name}}</extra>",
    )


def _aside(panel: Panel, line: Line) -> Array:
    """The line's x, moved a little where lines stand at the same N, so that their bars can be told apart."""
    measured = [other for other in panel.lines if other.kind == "points"]
    if line not in measured or not panel.ticks:
        return line.x
    share = _ASIDE * (measured.index(line) - (len(measured) - 1) / 2)
    low, high = panel.x_limits
    return line.x * (high / low) ** share if panel.x_log else line.x + share * (high - low)


def _band(line: Line, low: Array, high: Array, colour: str) -> go.Scatter:
    kept = np.isfinite(low) & np.isfinite(high)
    x, y = (np.concatenate([first[kept], other[kept][::-1]]) for first, other in ((line.x, line.x), (high, low)))
    look = {"mode": "lines", "line": {"width": 0}, "fill": "toself", "fillcolor": colour, "opacity": 0.16}
    return go.Scatter(x=_packed(x), y=_packed(y), hoverinfo="skip", **look)


def _bars(panel: Panel, line: Line, low: Array, high: Array, colour: str) -> dict[str, Any]:
    """From ``low`` to ``high``; a bar without end leaves the panel."""
    beyond = np.where(np.isinf(high), panel.y_limits[1] * 10, high)
    y = np.where(np.isfinite(line.y), line.y, math.nan)
    up, down = (_packed(np.nan_to_num(part)) for part in (beyond - y, y - low))
    ends = {"type": "data", "symmetric": False, "array": up, "arrayminus": down}
    return {**ends, "width": 0, "thickness": 1.2, "color": colour}


def _edge(places: Array, height: float, symbol: str, said: str, colour: str) -> go.Scatter:
    return go.Scatter(
        x=_packed(places),
        y=[height] * len(places),
        yaxis="y2",
        mode="markers",
        cliponaxis=False,
        marker={"symbol": symbol, "size": 12, "color": colour},
        hovertemplate=f"N = %{{x}}: {said}<extra>%{{fullData.name}}</extra>",
    )


def _packed(values: Array) -> NDArray[np.float32] | NDArray[np.int16] | list[float]:
    """As few bytes as a figure needs: Plotly writes arrays as they are in memory, unless they are empty."""
    if not len(values):
        return []
    small = bool(np.all((np.abs(values) < 2**15) & (values == np.round(values))))
    return values.astype(np.int16) if small else values.astype(np.float32)
