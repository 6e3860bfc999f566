"""Peak memory and time of a meta-iteration against N."""

from __future__ import annotations

from harness.report.charts import view
from harness.report.charts.against_steps import panel_of
from harness.report.charts.chart import Chart
from harness.report.findings.comparison import Comparison
from harness.report.findings.results import GroupResult, seconds_per_iteration


def resource_charts(comparison: Comparison, problem: str) -> list[Chart]:
    """One chart of two panels."""
    results = comparison.of(problem)
    series = view.series(results)
    panels = (
        panel_of(series, "memory", "peak memory (MiB)", _memory),
        panel_of(series, "time", "seconds per meta-iteration", _seconds),
    )
    counts = view.seeds_text(len(result.group.by_seed) for result in results)
    statistic = (
        f"Memory: the largest peak of any run. Time: median over {counts}, the first iteration left out. "
        "Bars: range over seeds."
    )
    return [Chart("resources", "Memory and time of a meta-iteration", problem, statistic, panels)]


def _memory(result: GroupResult) -> view.Bar:
    over = view.over_runs(result.group, lambda run: run.number("peak_memory_bytes") / 2**20)
    return view.Bar(result.peak_memory_bytes / 2**20, over.low, over.high)


def _seconds(result: GroupResult) -> view.Bar:
    return view.over_runs(result.group, seconds_per_iteration)
