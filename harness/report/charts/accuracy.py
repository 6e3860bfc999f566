"""Held-out accuracy against what training cost, with the front that nothing is better than in both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from harness.report.charts import view
from harness.report.charts.chart import Array, Chart, Line, Panel, wide
from harness.report.charts.style import method_styles
from harness.report.runs import Run


def accuracy_charts(comparison: view.Comparison, benchmark: str) -> list[Chart]:
    """Accuracy against seconds and against gradient entries; nothing for benchmarks without accuracy."""
    results = [result for result in view.results(comparison, benchmark) if view.accuracy(result) is not None]
    if not results:
        return []
    panels = (
        _panel(results, "seconds", "training time (s)", lambda run: run.summary["seconds"]["train"]),
        _panel(results, "gradient entries", "gradient entries", lambda run: run.summary["counts"]["gradient_entries"]),
    )
    counts = view.seeds_text([len(result.group.runs) for result in results])
    statistic = (
        f"Height: interquartile mean over {counts}, bars: 95 % bootstrap interval. Cost: median. "
        "Front: no setting is both cheaper and more accurate."
    )
    return [Chart("accuracy-cost", "Accuracy against cost", benchmark, statistic, panels)]


def front(cost: Array, value: Array) -> Array:
    """Indices ``[points of the front]`` in order of cost, where no other point is cheaper and better.

    >>> front(np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.4, 0.6])).tolist()
    [0, 2]
    """
    order = np.lexsort((-value, cost))
    best, kept = -math.inf, []
    for index in order:
        if value[index] > best:
            best = value[index]
            kept.append(index)
    return np.array(kept, dtype=int)


def _panel(results: Sequence[view.Result], quantity: str, label: str, spent: Callable[[Run], float]) -> Panel:
    points = [
        (result.group, bar, cost.value)
        for result in results
        if (bar := view.accuracy(result)) and (cost := view.over_runs(result.group, spent))
    ]
    look = method_styles([group.method for group, _, _ in points])
    lines = []
    for method in dict.fromkeys(group.method for group, _, _ in points):
        own = [(cost, *bar) for group, bar, cost in points if group.method == method]
        labels = tuple(f"{group.inner_steps}{view.extras(group)}" for group, _, _ in points if group.method == method)
        x, y, low, high = np.array(own, float).T
        lines.append(Line(f"{view.shown(method)}, by N", look[method], "markers", x, y, low, high, labels))
    costs, values = np.array([(cost, bar.value) for _, bar, cost in points], float).reshape(-1, 2).T
    best = front(costs, values)
    lines.append(Line("Pareto front", 6, "front", costs[best], values[best]))
    return Panel(quantity, label, "accuracy on held-out tasks", tuple(lines), x_log=wide([costs]))
