"""The cost to reach a target against N: K, entries and seconds, with the theory's fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from harness.report.charts import view
from harness.report.charts.against_steps import looks_of, panel_of
from harness.report.charts.chart import Chart, Line, Panel, listed
from harness.report.charts.fits import Prediction, prediction
from harness.report.findings.comparison import Comparison
from harness.report.findings.costs import Measure, Target
from harness.report.findings.results import GroupResult

_LABELS: dict[Measure, tuple[str, str]] = {
    "iterations": ("meta-iterations", "meta-iterations to target, K"),
    "gradient_entries": ("gradient entries", "gradient entries to target"),
    "second_order_entries": ("second-order entries", "second-order entries to target"),
    "seconds": ("seconds", "seconds to target"),
}
assert set(_LABELS) <= set(get_args(Measure))


def cost_charts(comparison: Comparison, problem: str) -> list[Chart]:
    """One chart a target, a line for each method, with the theory's fits; on paper for headlines only."""
    headlines, others = view.targets(comparison, problem)
    results = comparison.of(problem)
    return [_chart(results, target, problem, target in headlines) for target in [*headlines, *others]]


def _chart(results: Sequence[GroupResult], target: Target, problem: str, on_paper: bool) -> Chart:
    series = view.series(results)
    names = {name: name + _unreached(members, target) for name, members in series.items()}
    looks = looks_of(series)
    fits = [
        (fit, looks[name]) for name, members in series.items() if (fit := prediction(name, members, target)) is not None
    ]
    panels = []
    for measure, (quantity, label) in _LABELS.items():

        def bar(result: GroupResult, measure: Measure = measure) -> view.Bar:
            return view.cost(result, target, measure)

        panel = panel_of({names[name]: members for name, members in series.items()}, quantity, label, bar, y_log=True)
        lines = (*panel.lines, *(_fit_line(fit, measure, look) for fit, look in fits))
        panels.append(replace(panel, lines=lines))
    statistic = " ".join([*_statistic(results, panels), *(fit.reason for fit, _ in fits if fit.reason)])
    return Chart("cost", f"Cost to {target}", problem, statistic, tuple(panels), str(target), on_paper)


def _statistic(results: Sequence[GroupResult], panels: Sequence[Panel]) -> list[str]:
    counts = view.seeds_text(len(result.group.by_seed) for result in results)
    lines = [line for panel in panels for line in panel.lines]
    text = [f"Points: median over {counts}; bars: 95 % bootstrap interval."]
    if any(result.blocks for result in results):
        text.append("Methods without φ: on the (w, φ) of the ANIL on which they take longest.")
    if any(line.unreached.size for line in lines):
        text.append("Triangles at the top edge: never reached.")
    if any((line.high == math.inf).any() for line in lines if line.high is not None):
        text.append("A bar that leaves the panel has no upper end.")
    if any(panel.zeros(line).size for panel in panels for line in panel.lines):
        text.append("Triangles at the bottom edge: zero.")
    return text


def _unreached(members: Sequence[GroupResult], target: Target) -> str:
    found = {member.group.inner_steps: view.cost(member, target, "iterations").value for member in members}
    if all(math.isnan(value) for value in found.values()):
        return " (not measured)"
    steps = [n for n, value in found.items() if math.isinf(value)]
    return f" (not reached at {listed(steps)})" if steps else ""


def _fit_line(fit: Prediction, measure: Measure, look: int) -> Line:
    return Line(fit.name, look, "fit", fit.inner_steps, fit.iterations * fit.per_iteration[measure])
