"""Figures 1 and 2 of the paper, and the same with the methods side by side: training loss as it falls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from harness.report.charts import view
from harness.report.charts.chart import Chart, Line, Panel, listed, wide
from harness.report.charts.curves import ENOUGH, average, loss_of, thin
from harness.report.charts.style import method_styles
from harness.report.groups import Group

_CLOCKS = (("iteration", "meta-iterations", "meta-iterations"), ("seconds", "running time", "running time (s)"))
#: the smoothing window is this share of the longest run
_SHARE = 20


def loss_charts(comparison: view.Comparison, benchmark: str) -> list[Chart]:
    """Figure 1 (convex), figure 2 (nonconvex), and one chart of methods for each N that several share."""
    groups = [result.group for result in view.results(comparison, benchmark)]
    charts = []
    for family, method in (("figure1", "anil convex"), ("figure2", "anil nonconvex")):
        members = [group for group in groups if group.method == method]
        if members:
            charts.append(
                _chart(family, f"Figure {family[-1]}: {view.shown(method)}", benchmark, members, lambda i, _: i, _steps)
            )
    return charts + _methods(groups, benchmark)


def _methods(groups: list[Group], benchmark: str) -> list[Chart]:
    """Methods side by side at each N that two of them have; all in one chart where no N is shared."""
    look = method_styles([group.method for group in groups])
    sharing = Counter(n for _, n in {(group.method, group.inner_steps) for group in groups})
    shared = sorted(n for n, methods in sharing.items() if methods > 1)

    def make(members: list[Group], variant: str) -> Chart:
        seen: Counter[str] = Counter()

        def pick(_: int, group: Group) -> int:
            seen[group.method] += 1
            return look[group.method] + 7 * (seen[group.method] - 1)

        return _chart("loss-methods", "Methods side by side", benchmark, members, pick, _method, variant)

    if shared:
        return [make([group for group in groups if group.inner_steps == n], listed([n])) for n in shared]
    return [make(groups, "")] if len({group.method for group in groups}) > 1 else []


def _steps(group: Group) -> str:
    return f"N = {group.inner_steps}{view.extras(group)}"


def _method(group: Group) -> str:
    return f"{view.shown(group.method)}, N = {group.inner_steps}{view.extras(group)}"


def _chart(
    family: str,
    title: str,
    benchmark: str,
    groups: Sequence[Group],
    style: Callable[[int, Group], int],
    name: Callable[[Group], str],
    variant: str = "",
) -> Chart:
    longest = max((len(run.metrics["loss"]) for group in groups for run in group.runs), default=0)
    window = max(1, longest // _SHARE)
    drawn = [(group, style(index, group), name(group) + _stopped(group)) for index, group in enumerate(groups)]
    panels = []
    for clock, quantity, label in _CLOCKS:
        lines = tuple(line for group, look, text in drawn for line in _lines(group, look, text, clock, window))
        y_log = wide(line.y for line in lines)
        panels.append(Panel(quantity, label, "training loss", lines, y_log=y_log))
    return Chart(family, title, benchmark, _statistic(groups, window), tuple(panels), variant)


def _lines(group: Group, style: int, name: str, clock: str, window: int) -> list[Line]:
    """The curve of its completed runs, and each other run by itself."""
    lines = []
    seeds = [loss_of(run.metrics, clock, window) for run in view.completed(group)]
    if seeds := [seed for seed in seeds if len(seed[0])]:
        curve = average(seeds, clock == "iteration", np.random.default_rng(0))
        lines.append(Line(name, style, "curve", curve.x, curve.y, curve.low, curve.high))
    for run in group.runs:
        x, y = loss_of(run.metrics, clock, window)
        if run.summary["status"] != "completed" and len(x):
            lines.append(Line(name, style, "stopped", *thin(x, y)))
    return lines or [Line(name, style, "curve", np.empty(0), np.empty(0))]


def _stopped(group: Group) -> str:
    """`` (2 of 5 diverged)``, or what else happened to its runs."""
    counts = Counter(run.summary["status"].replace("_", " ") for run in group.runs)
    notes = [f"{count} of {len(group.runs)} {status}" for status, count in counts.items() if status != "completed"]
    if not any(len(run.metrics["loss"]) for run in group.runs):
        notes.append("no metrics.jsonl")
    return f" ({', '.join(notes)})" if notes else ""


def _statistic(groups: Sequence[Group], window: int) -> str:
    counts = [len(view.completed(group)) for group in groups]
    text = []
    if max(counts) > 1:
        text.append(f"Line: interquartile mean over {view.seeds_text([count for count in counts if count])}.")
        if max(counts) >= ENOUGH:
            text.append("Band: 95 % bootstrap interval over seeds.")
        if any(1 < count < ENOUGH for count in counts):
            text.append(f"Band of fewer than {ENOUGH} seeds: their range.")
    elif max(counts) == 1:
        text.append("Line: a single seed.")
    if window > 1:
        text.append(f"Smoothed: mean of the last {window} meta-iterations.")
    if any(len(view.completed(group)) < len(group.runs) for group in groups):
        text.append("Thin line to a cross: a run that stopped there.")
    return " ".join(text)
