"""What the figures and the page show, taken from a comparison."""

from __future__ import annotations

from functools import lru_cache

from harness.report.charts.accuracy import accuracy_charts
from harness.report.charts.chart import Chart, Line, Panel
from harness.report.charts.cost import cost_charts
from harness.report.charts.loss import loss_charts, side_by_side
from harness.report.charts.resources import resource_charts
from harness.report.findings.comparison import Comparison

__all__ = ["Chart", "Line", "Panel", "charts_of", "on_paper"]


@lru_cache(maxsize=1)
def charts_of(comparison: Comparison) -> tuple[Chart, ...]:
    """Every chart of every problem: losses, cost to each target, resources, accuracy against cost.

    Figures and page ask for the same ones, so the last are kept.
    """
    makers = (loss_charts, cost_charts, resource_charts, accuracy_charts)
    return tuple(chart for problem in comparison.problems for make in makers for chart in make(comparison, problem))


def on_paper(comparison: Comparison) -> list[Chart]:
    """Those that become figures in files; where there are several problems, Figures 1 and 2 of all of them first."""
    charts = charts_of(comparison)
    return [*side_by_side(charts), *(chart for chart in charts if chart.on_paper)]
