"""Against N: the cost to reach a target with the theory's fit, and memory and time of a meta-iteration."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from harness.report.charts import view
from harness.report.charts.chart import Chart, Line, Panel, listed, steps_axis, wide
from harness.report.charts.fits import Prediction, prediction
from harness.report.charts.style import method_styles
from harness.report.costs import Target
from harness.report.groups import Group

_COSTS = {
    "iterations": ("meta-iterations", "meta-iterations to target, K"),
    "gradient_entries": ("gradient entries", "gradient entries to target"),
    "second_order_entries": ("second-order entries", "second-order entries to target"),
    "seconds": ("seconds", "seconds to target"),
}

Series = dict[str, list[view.Result]]
Measure = Callable[[view.Result], view.Bar | None]


def cost_charts(comparison: view.Comparison, benchmark: str) -> list[Chart]:
    """One chart a target: K and what it cost against N, a line for each method, with the theory's fits."""
    results = view.results(comparison, benchmark)
    return [_cost_chart(results, target, benchmark) for target in view.targets(comparison)]


def resource_charts(comparison: view.Comparison, benchmark: str) -> list[Chart]:
    """Peak memory and time of a meta-iteration against N."""
    results = view.results(comparison, benchmark)

    def memory(result: view.Result) -> view.Bar | None:
        return view.over_runs(result.group, lambda run: (run.summary["peak_memory_bytes"] or math.nan) / 2**20)

    def seconds(result: view.Result) -> view.Bar | None:
        return view.over_runs(result.group, view.seconds_per_iteration)

    panels = (
        _panel(_series(results), "memory", "peak memory (MiB)", memory),
        _panel(_series(results), "time", "seconds per meta-iteration", seconds),
    )
    counts = view.seeds_text([len(result.group.runs) for result in results])
    statistic = f"Points: median over {counts}; bars: their range."
    return [Chart("resources", "Memory and time of a meta-iteration", benchmark, statistic, panels)]


def _cost_chart(results: Sequence[view.Result], target: Target, benchmark: str) -> Chart:
    series = _series(results)
    names = {name: name + _unreached(members, target) for name, members in series.items()}
    fitted = {name: found for name, members in series.items() if (found := prediction(name, members, target))}
    panels = []
    for measure, (quantity, label) in _COSTS.items():

        def bar(result: view.Result, measure: str = measure) -> view.Bar:
            return view.cost(result, target, measure)

        panel = _panel({names[name]: members for name, members in series.items()}, quantity, label, bar, y_log=True)
        looks = {line.name: line.style for line in panel.lines}
        fits = tuple(_fit_line(fit, measure, looks[names[name]]) for name, fit in fitted.items())
        panels.append(Panel(**vars(panel) | {"lines": panel.lines + fits}))
    counts = view.seeds_text([len(result.group.runs) for result in results])
    statistic = f"Points: median over {counts}; bars: 95 % bootstrap interval."
    if any(line.unreached.size for panel in panels for line in panel.lines):
        statistic += " Triangles at the top edge: never reached."
    if any(np.isinf(line.high).any() for panel in panels for line in panel.lines if line.high is not None):
        statistic += " A bar that leaves the panel has no upper end."
    if any(panel.zeros(line).size for panel in panels for line in panel.lines):
        statistic += " Triangles at the bottom edge: zero."
    statistic = " ".join([statistic, *(fit.reason for fit in fitted.values() if fit.reason)])
    return Chart("cost", f"Cost to {target}", benchmark, statistic, tuple(panels), variant=str(target))


def _series(results: Sequence[view.Result]) -> Series:
    """Results by method (and what else sets them apart), N ascending."""
    found: Series = {}
    for result in sorted(results, key=lambda result: result.group.inner_steps):
        found.setdefault(view.shown(result.group.method) + view.extras(result.group), []).append(result)
    order = list(dict.fromkeys(result.group.method for result in results))
    return dict(sorted(found.items(), key=lambda item: (order.index(item[1][0].group.method), item[0])))


def _panel(series: Series, quantity: str, label: str, measure: Measure, y_log: bool | None = None) -> Panel:
    looks = _looks({name: members[0].group for name, members in series.items()})
    lines = tuple(
        Line(name, looks[name], "points", *np.array(rows, float).reshape(-1, 4).T)
        for name, members in series.items()
        if (rows := [(m.group.inner_steps, *bar) for m in members if (bar := measure(m)) is not None])
    )
    x_log, ticks = steps_axis([member.group.inner_steps for members in series.values() for member in members])
    if y_log is None:
        y_log = wide(line.y for line in lines)
    return Panel(quantity, "inner steps N", label, lines, x_log, y_log, not y_log, ticks)


def _looks(first: dict[str, Group]) -> dict[str, int]:
    """A style for each series: its method's, moved on for further series of the same method."""
    methods = [group.method for group in first.values()]
    look = method_styles(methods)
    return {
        name: look[group.method] + 7 * methods[:index].count(group.method)
        for index, (name, group) in enumerate(first.items())
    }


def _unreached(members: Sequence[view.Result], target: Target) -> str:
    steps = [m.group.inner_steps for m in members if math.isinf(view.cost(m, target, "iterations").value)]
    return f" (not reached at {listed(steps)})" if steps else ""


def _fit_line(fit: Prediction, measure: str, style: int) -> Line:
    return Line(fit.name, style, "fit", fit.inner_steps, fit.iterations * fit.per_iteration[measure])
