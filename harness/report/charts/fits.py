"""The theory's forms of K(N), fitted to the measured K and carried over to what an iteration costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import InputError
from harness.report.charts import view
from harness.report.charts.chart import Array
from harness.report.costs import MEASURES, Target
from harness.report.runs import Run
from harness.theory.fits import fit_convex, fit_linear

_FITS = {"anil convex": fit_convex, "anil nonconvex": fit_linear}
_POINTS = 60


@dataclass(frozen=True)
class Prediction:
    """A fitted K(N) ``[points]`` on a fine grid of N, and what one iteration costs there, by measure."""

    name: str
    inner_steps: Array
    iterations: Array
    per_iteration: dict[str, Array]


def predictions(members: Sequence[view.Result], target: Target) -> Prediction | None:
    """The fit for one geometry's results in order of N; None where theory has no form or too little was reached."""
    fit_form = _FITS.get(members[0].group.method)
    reached = [(m, k) for m in members if math.isfinite(k := view.cost(m, target, "iterations").value)]
    steps = [member.group.inner_steps for member, _ in reached]
    if fit_form is None or len(set(steps)) < 2:
        return None
    try:
        fit = fit_form(steps, [k for _, k in reached])
    except InputError:
        return None
    if not fit.parameters:
        return None
    grid = np.linspace(min(steps), max(steps), _POINTS)
    verdict = f"R² = {fit.r_squared:.2f}" if fit.holds else f"does not hold: {fit.reason}"
    return Prediction(
        f"theory, {view.shown(members[0].group.method)}: {fit.form} ({verdict})",
        grid,
        np.array([fit.predict(n) for n in grid]),
        {measure: np.interp(grid, steps, [_each(m, measure) for m, _ in reached]) for measure in MEASURES},
    )


def _each(member: view.Result, measure: str) -> float:
    """What one meta-iteration costs; linear in N between the measured ones."""
    if measure == "iterations":
        return 1.0

    def spent(run: Run) -> float:
        done = run.summary.get("iterations_done")
        return run.summary["counts"].get(measure, math.nan) / done if done else math.nan

    found = view.over_runs(member.group, view.seconds_per_iteration if measure == "seconds" else spent)
    return math.nan if found is None else found.value
