"""Figures 1 and 2 of the paper, and the same with the methods side by side: training loss as it falls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.report.charts import view
from harness.report.charts.chart import Chart, Line, Panel, listed, wide
from harness.report.charts.curves import average, loss_of, thin
from harness.report.charts.style import apart, method_styles
from harness.report.findings.comparison import Comparison
from harness.report.findings.groups import Group
from harness.report.findings.names import method_name
from harness.report.findings.statistics import ENOUGH
from harness.store.records import Status

_CLOCKS = (("iteration", "meta-iterations", "meta-iterations"), ("seconds", "running time", "running time (s)"))
#: the paper's figures, and the methods in them
_FIGURES = {"figure1": "anil convex", "figure2": "anil nonconvex"}
#: the smoothing window is this share of the longest run
_SHARE = 20


@dataclass(frozen=True)
class _Member:
    """A group with its style and its name in the legend."""

    group: Group
    style: int
    name: str


def loss_charts(comparison: Comparison, problem: str) -> list[Chart]:
    """Figure 1 (convex), figure 2 (nonconvex), and one chart of methods for each N that several share."""
    groups = [result.group for result in comparison.of(problem)]
    charts = []
    for family, method in _FIGURES.items():
        styles = {name: index for index, name in enumerate(_settings(comparison, method))}
        members = [
            _Member(group, styles[_setting(group)], _setting(group) + _stopped(group))
            for group in groups
            if group.method == method
        ]
        if members:
            charts.append(_chart(family, f"Figure {family[-1]}: {method_name(method)}", problem, members))
    return charts + _method_charts(groups, problem)


def side_by_side(charts: Sequence[Chart]) -> list[Chart]:
    """Figures 1 and 2 as the paper has them: a pair of panels for each problem, iterations left and time right.

    Of those of ``charts`` that several problems have.
    """
    found = []
    for family in _FIGURES:
        own = [chart for chart in charts if chart.family == family]
        if len(own) < 2:
            continue
        names = [chart.problem for chart in own]
        panels = [
            replace(panel, title=name if at == 0 else "")
            for name, chart in zip(names, own, strict=True)
            for at, panel in enumerate(chart.panels)
        ]
        said = [f"{name}: {chart.statistic}" for name, chart in zip(names, own, strict=True)]
        same = len({chart.statistic for chart in own}) == 1
        statistic = own[0].statistic if same else " ".join(said)
        found.append(replace(own[0], problem="", statistic=statistic, panels=tuple(panels)))
    return found


def _settings(comparison: Comparison, method: str) -> list[str]:
    """Every setting of a method, by N: one has the same colour whatever the problem."""
    groups = [result.group for result in comparison.results if result.group.method == method]
    return list(dict.fromkeys(_setting(group) for group in sorted(groups, key=lambda group: group.inner_steps)))


def _setting(group: Group) -> str:
    return f"N = {group.inner_steps}{view.extras(group)}"


def _method_charts(groups: list[Group], problem: str) -> list[Chart]:
    """Methods side by side at each N that two of them have; all in one chart where no N is shared.

    On paper is the N that most methods have, of several the middle one.
    """
    sharing = Counter(n for _, n in {(group.method, group.inner_steps) for group in groups})
    shared = sorted(n for n, methods in sharing.items() if methods > 1)
    if not shared:
        several = len({group.method for group in groups}) > 1
        return [_methods_chart(groups, problem, "", True)] if several else []
    most = [n for n in shared if sharing[n] == max(sharing.values())]
    paper = most[len(most) // 2]
    at = {n: [group for group in groups if group.inner_steps == n] for n in (paper, *shared)}
    return [_methods_chart(members, problem, listed([n]), n == paper) for n, members in at.items()]


def _methods_chart(groups: list[Group], problem: str, variant: str, on_paper: bool) -> Chart:
    look = method_styles([group.method for group in groups])
    members = [
        _Member(group, at, f"{method_name(group.method)}, N = {group.inner_steps}{view.extras(group)}{_stopped(group)}")
        for group, at in zip(groups, apart([look[group.method] for group in groups]), strict=True)
    ]
    return replace(_chart("loss-methods", "Methods side by side", problem, members), variant=variant, on_paper=on_paper)


def _chart(family: str, title: str, problem: str, members: Sequence[_Member]) -> Chart:
    lengths = [len(run.metrics["loss"]) for member in members for run in member.group.by_seed.values()]
    window = max(1, max(lengths) // _SHARE)
    panels = []
    for clock, quantity, label in _CLOCKS:
        lines = tuple(line for member in members for line in _lines(member, clock, window))
        panels.append(Panel(quantity, label, "training loss", lines))
    every = tuple(line for panel in panels for line in panel.lines)
    logarithmic = wide(line.y for line in every)
    panels = [replace(panel, y_log=logarithmic, beside=every) for panel in panels]
    return Chart(family, title, problem, _statistic([member.group for member in members], window), tuple(panels))


def _lines(member: _Member, clock: str, window: int) -> list[Line]:
    """The curve of its completed runs, and each other run by itself."""
    lines = []
    completed = [loss_of(run.metrics, clock, window) for run in member.group.completed]
    if seeds := [seed for seed in completed if len(seed[0])]:
        curve = average(seeds, clock == "iteration")
        lines.append(Line(member.name, member.style, "curve", curve.x, curve.y, curve.low, curve.high))
    for run in member.group.by_seed.values():
        x, y = loss_of(run.metrics, clock, window)
        if run.summary.status != Status.COMPLETED and len(x):
            lines.append(Line(member.name, member.style, "stopped", *thin(x, y)))
    return lines or [Line(member.name, member.style, "curve", np.empty(0), np.empty(0))]


def _stopped(group: Group) -> str:
    """`` (2 of 5 diverged)``, or what else happened to its runs."""
    counts = Counter(run.summary.status.replace("_", " ") for run in group.by_seed.values())
    notes = [
        f"{count} of {len(group.by_seed)} {status}" for status, count in counts.items() if status != Status.COMPLETED
    ]
    if not any(len(run.metrics["loss"]) for run in group.by_seed.values()):
        notes.append("no metrics.jsonl")
    return f" ({', '.join(notes)})" if notes else ""


def _statistic(groups: Sequence[Group], window: int) -> str:
    counts = [len(group.completed) for group in groups]
    text = []
    if max(counts) > 1:
        text.append(f"Line: mean over {view.seeds_text([count for count in counts if count])}.")
        if max(counts) >= ENOUGH:
            text.append("Band: 95 % interval of the mean (Student's t).")
        if any(1 < count < ENOUGH for count in counts):
            text.append(f"Band of fewer than {ENOUGH} seeds: their range.")
    elif max(counts) == 1:
        text.append("Line: a single seed.")
    if window > 1:
        text.append(f"Smoothed: mean of the last {window} meta-iterations.")
    if any(len(group.completed) < len(group.by_seed) for group in groups):
        text.append("Thin line to a cross: a run that stopped there.")
    return " ".join(text)
