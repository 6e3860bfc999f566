"""Plots of a study in one HTML file that needs no network: history, importance, slice, parallel coordinates, front."""

from __future__ import annotations

import functools
import html
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import (
    plot_intermediate_values,
    plot_optimization_history,
    plot_parallel_coordinate,
    plot_param_importances,
    plot_pareto_front,
    plot_slice,
)

from harness.store import write
from harness.tune.plan import StudyPlan


def write_plots(study: optuna.Study, plan: StudyPlan, done: list[FrozenTrial], path: Path) -> Path:
    """Write every plot that the finished trials allow; plotly's own script is in the file."""
    parts: list[str] = []
    for title, figure in _figures(study, plan, done):
        script: bool | str = not parts
        parts.append(f"<h2>{html.escape(title)}</h2>" + figure.to_html(full_html=False, include_plotlyjs=script))
    name = html.escape(plan.name)
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title>'
    style = "<style>body{font:16px/1.5 system-ui;max-width:72rem;margin:2rem auto;padding:0 1rem}</style>"
    about = f"<h1>{name}</h1><p>{html.escape(_about(study, plan, done))}</p>"
    write(path, "\n".join([head, style, about, *parts, "</html>"]).encode())
    return path


def _about(study: optuna.Study, plan: StudyPlan, done: list[FrozenTrial]) -> str:
    attrs = study.user_attrs
    return (
        f"{len(done)} trials, objective {plan.objective}, {attrs['sampler']}, {attrs['pruner']}. Figures: validation."
    )


def _figures(study: optuna.Study, plan: StudyPlan, done: list[FrozenTrial]) -> Iterator[tuple[str, Any]]:
    complete = [trial for trial in done if trial.state == TrialState.COMPLETE]
    if not plan.objective.single:
        names = [str(part) for part in plan.objective.parts]
        yield from _tried("Pareto front", lambda: plot_pareto_front(study, target_names=names))
    for index, part in enumerate(plan.objective.parts):
        values = {trial.values[index] for trial in complete}
        target = None if plan.objective.single else _value(index)
        options: dict[str, Any] = {"target": target, "target_name": str(part)}
        plots = {"History": plot_optimization_history, "Slice": plot_slice, "Parallel": plot_parallel_coordinate}
        if len(values) > 1:
            plots["Importance"] = plot_param_importances
        for title, draw in plots.items():
            yield from _tried(f"{title}: {part}", functools.partial(draw, study, **options))
    if plan.objective.single:
        yield from _tried("Along the way", lambda: plot_intermediate_values(study))


def _value(index: int) -> Callable[[FrozenTrial], float]:
    return lambda trial: float(trial.values[index])


def _tried(title: str, draw: Callable[[], Any]) -> Iterator[tuple[str, Any]]:
    """A plot that too few trials do not allow is left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            figure = draw()
        except (ValueError, RuntimeError, KeyError, IndexError):
            return
    yield title, figure
