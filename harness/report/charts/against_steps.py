"""Panels with N on the x axis: a line for each series of settings that differ in N alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from harness.report.charts.chart import Line, Panel, steps_axis, wide
from harness.report.charts.style import apart, method_styles
from harness.report.charts.view import Bar, Series
from harness.report.findings.results import GroupResult


def looks_of(series: Series) -> dict[str, int]:
    """A style for each series: its method's, or for further series of the same method another."""
    methods = [members[0].group.method for members in series.values()]
    look = method_styles(methods)
    return dict(zip(series, apart([look[method] for method in methods]), strict=True))


def panel_of(
    series: Series, quantity: str, label: str, measure: Callable[[GroupResult], Bar], y_log: bool | None = None
) -> Panel:
    """The panel of ``measure`` against N; ``y_log`` None: as its values ask for."""
    looks = looks_of(series)
    lines = tuple(_line(name, looks[name], members, measure) for name, members in series.items())
    x_log, ticks = steps_axis(_steps(series))
    logarithmic = wide(line.y for line in lines) if y_log is None else y_log
    return Panel(quantity, "inner steps N", label, lines, x_log, logarithmic, not logarithmic, ticks)


def _line(name: str, look: int, members: Sequence[GroupResult], measure: Callable[[GroupResult], Bar]) -> Line:
    values = np.array([(member.group.inner_steps, *measure(member)) for member in members], float)
    return Line(name, look, "points", values[:, 0], values[:, 1], values[:, 2], values[:, 3])


def _steps(series: Mapping[str, Sequence[GroupResult]]) -> list[int]:
    return [member.group.inner_steps for members in series.values() for member in members]
