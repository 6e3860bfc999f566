"""The theory's forms of K(N), fitted to the measured K and carried over to what an iteration costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.charts import view
from harness.report.charts.chart import Array
from harness.report.findings.costs import Measure, Target
from harness.report.findings.results import GroupResult, seconds_per_iteration
from harness.report.reading.runs import Run
from harness.theory.fits import fit_convex, fit_linear

_FITS = {"anil convex": fit_convex, "anil nonconvex": fit_linear}
_POINTS = 60
_MEASURES: tuple[Measure, ...] = ("iterations", "gradient_entries", "second_order_entries", "seconds")


@dataclass(frozen=True, eq=False)
class Prediction:
    """A fitted K(N) ``[points]`` on a fine grid of N, and what one iteration costs there, by measure.

    Without points where nothing could be fitted; ``reason`` says which form it has, and why it does not hold.
    """

    name: str
    reason: str
    inner_steps: Array
    iterations: Array
    per_iteration: dict[Measure, Array]


def prediction(name: str, members: Sequence[GroupResult], target: Target) -> Prediction | None:
    """The fit to the results of the series ``name``, in order of N; None where theory has no form for its method."""
    form = _FITS.get(members[0].group.method)
    if form is None:
        return None
    steps = [member.group.inner_steps for member in members]
    fit = form(steps, [view.cost(member, target, "iterations").value for member in members])
    verdict = f"R² = {fit.r_squared:.2f}" if fit.holds else "does not hold"
    reason = f"Theory for {name}: K = {fit.form}." if fit.parameters else ""
    if not fit.holds:
        reason = f"{reason} Theory does not hold for {name}: {fit.reason}.".strip()
    reached = [member for member in members if math.isfinite(view.cost(member, target, "iterations").value)]
    usable = [member.group.inner_steps for member in reached] if fit.parameters else []
    grid = np.linspace(min(usable), max(usable), _POINTS) if usable else np.empty(0)
    each = {measure: [_each(member, measure) for member in reached] for measure in _MEASURES}
    return Prediction(
        f"theory, {name} ({verdict})",
        reason,
        grid,
        np.array([fit.predict(n) for n in grid]),
        {measure: np.interp(grid, usable, each[measure]) if usable else grid for measure in _MEASURES},
    )


def _each(member: GroupResult, measure: Measure) -> float:
    """What one meta-iteration costs; linear in N between the measured ones."""
    if measure == "iterations":
        return 1.0

    def spent(run: Run) -> float:
        done = run.summary.iterations_done
        return run.number("counts", measure) / done if done else math.nan

    return view.over_runs(member.group, seconds_per_iteration if measure == "seconds" else spent).value
