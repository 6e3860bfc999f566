"""What the figures and the page show, taken from a comparison."""

from __future__ import annotations

from harness.report.charts import view
from harness.report.charts.accuracy import accuracy_charts
from harness.report.charts.against_steps import cost_charts, resource_charts
from harness.report.charts.chart import Chart, Line, Panel
from harness.report.charts.loss import loss_charts

__all__ = ["Chart", "Line", "Panel", "charts_of"]


def charts_of(comparison: view.Comparison) -> list[Chart]:
    """Every chart of every benchmark: losses, cost to each target, resources, accuracy against cost."""
    makers = (loss_charts, cost_charts, resource_charts, accuracy_charts)
    return [
        chart for benchmark in view.benchmarks(comparison) for make in makers for chart in make(comparison, benchmark)
    ]
