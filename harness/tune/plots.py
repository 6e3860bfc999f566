"""Plots of a study, as a page and as reports take them: history, importance, slice, parallel coordinates, front."""

from __future__ import annotations

import functools
import html
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import (
    plot_contour,
    plot_edf,
    plot_intermediate_values,
    plot_optimization_history,
    plot_parallel_coordinate,
    plot_param_importances,
    plot_pareto_front,
    plot_slice,
    plot_timeline,
)

from harness.store.directory import write_json
from harness.store.files import write
from harness.tune.plan import StudyPlan

_PLOTS = {
    "History": plot_optimization_history,
    "Slice": plot_slice,
    "Parallel coordinates": plot_parallel_coordinate,
    "Two parameters": plot_contour,
    "Share of trials below": plot_edf,
}


def write_plots(study: optuna.Study, plan: StudyPlan, done: list[FrozenTrial], path: Path) -> Path:
    """Write every plot that the finished trials allow, for reports to ``plots.json`` beside ``path``.

    Plotly's own script is in the page, which needs no network.
    """
    parts: list[str] = []
    figures = list(_figures(study, plan, done))
    write_json(path.with_suffix(".json"), {"figures": [_document(title, figure) for title, figure in figures]})
    for title, figure in figures:
        script: bool | str = not parts
        parts.append(f"<h2>{html.escape(title)}</h2>" + figure.to_html(full_html=False, include_plotlyjs=script))
    name = html.escape(plan.name)
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title>'
    style = "<style>body{font:16px/1.5 system-ui;max-width:72rem;margin:2rem auto;padding:0 1rem}</style>"
    about = f"<h1>{name}</h1><p>{html.escape(_about(study, plan, done))}</p>"
    write(path, "\n".join([head, style, about, *parts, "</html>"]).encode())
    return path


def _document(title: str, figure: Any) -> dict[str, Any]:
    found = json.loads(figure.to_json())
    del found["layout"]["template"], found["layout"]["title"]  # a report has its own colours and headings
    return {"title": title, "data": found["data"], "layout": found["layout"]}


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
        target = None if plan.objective.single else _value(index)
        options: dict[str, Any] = {"target": target, "target_name": str(part)}
        for title, draw in _PLOTS.items():
            yield from _tried(f"{title}: {part}", functools.partial(draw, study, **options))
        if len({trial.values[index] for trial in complete}) > 1:
            # PED-ANOVA asks what makes a value low
            options["target"] = _value(index, -1 if part.direction == "maximize" else 1)
            yield from _tried(f"Importance for {part}", functools.partial(_importance, study, **options))
    if plan.objective.single:
        yield from _tried("Along the way", lambda: plot_intermediate_values(study))
    yield from _tried("When each trial ran", lambda: plot_timeline(study))


def _importance(study: optuna.Study, **options: Any) -> Any:
    """By PED-ANOVA: what Optuna 4 takes by default needs scikit-learn."""
    return plot_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), **options)


def _value(index: int, sign: int = 1) -> Callable[[FrozenTrial], float]:
    return lambda trial: sign * float(trial.values[index])


def _tried(title: str, draw: Callable[[], Any]) -> Iterator[tuple[str, Any]]:
    """A plot that too few trials do not allow is left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental, or too few trials
        try:
            figure = draw()
        except (ValueError, RuntimeError, KeyError, IndexError):
            return
    yield title, figure
