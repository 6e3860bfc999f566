"""Held-out accuracy against what training cost, with the front that nothing is better than in both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from harness.report.charts import view
from harness.report.charts.chart import Array, Chart, Line, Panel, wide
from harness.report.charts.style import BLACK, method_styles
from harness.report.findings.comparison import Comparison
from harness.report.findings.groups import Group
from harness.report.findings.names import extra_of, method_name
from harness.report.findings.results import GroupResult
from harness.report.reading.runs import Run
from harness.store.records import Status

_WORD = 10


def accuracy_charts(comparison: Comparison, problem: str) -> list[Chart]:
    """Accuracy against seconds and against gradient entries; nothing for benchmarks without accuracy."""
    results = [result for result in comparison.of(problem) if result.accuracy is not None]
    if not results:
        return []
    panels = (
        _panel(results, "seconds", "training time (s)", lambda run: run.number("seconds", "train")),
        _panel(results, "gradient entries", "gradient entries", lambda run: run.number("counts", "gradient_entries")),
    )
    counts = view.seeds_text(len(result.group.completed) for result in results)
    statistic = (
        f"Height: mean over {counts}, bars: 95 % interval of it (Student's t). Cost: median. "
        "Numbers beside points: N; equal ones differ in another setting. "
        "Front: no setting is both cheaper and more accurate."
    )
    return [Chart("accuracy-cost", "Accuracy against cost", problem, statistic, panels)]


def front(cost: Array, value: Array) -> Array:
    """Indices ``[points of the front]`` in order of cost, where no other point is cheaper and better.

    >>> front(np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.4, 0.6])).tolist()
    [0, 2]
    """
    best, kept = -math.inf, []
    for index in np.lexsort((-value, cost)):
        if value[index] > best:
            best = value[index]
            kept.append(index)
    return np.array(kept, dtype=int)


def _panel(results: Sequence[GroupResult], quantity: str, label: str, spent: Callable[[Run], float]) -> Panel:
    points = [
        (result.group, view.bar(result.accuracy), cost.value)
        for result in results
        if result.accuracy is not None and not math.isnan((cost := _cost(result, spent)).value)
    ]
    look = method_styles([group.method for group, _, _ in points])
    lines = []
    for method in look:
        own = [(group, (cost, *bar)) for group, bar, cost in points if group.method == method]
        if own:
            labels = tuple(_beside(group) for group, _ in own)
            x, y, low, high = np.array([values for _, values in own], float).T
            lines.append(Line(method_name(method), look[method], "markers", x, y, low, high, labels))
    costs, values = np.array([(cost, bar.value) for _, bar, cost in points], float).reshape(-1, 2).T
    best = front(costs, values)
    lines.append(Line("Pareto front", BLACK, "front", costs[best], values[best]))
    return Panel(quantity, label, "accuracy on held-out tasks", tuple(lines), x_log=wide([costs]))


def _beside(group: Group) -> str:
    """N, and what else sets the group apart if that is a word, such as a label."""
    extra = extra_of(group)
    return f"{group.inner_steps} {extra}" if 0 < len(extra) <= _WORD else str(group.inner_steps)


def _cost(result: GroupResult, spent: Callable[[Run], float]) -> view.Bar:
    """What its completed runs spent: the accuracy is theirs."""
    return view.over_runs(result.group, lambda run: spent(run) if run.summary.status == Status.COMPLETED else math.nan)
