"""Studies of ``harness tune`` among what is reported: what each found, and the plots that it left."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AllowInfNan, BaseModel, Field, ValidationError

from harness.errors import InputError
from harness.report.findings.groups import methods_of
from harness.report.findings.names import method_name
from harness.report.reading.documents import read_object
from harness.report.reading.runs import FILES, Run
from harness.report.tables.cells import Cell, Table, shown, table
from harness.store.foreign import is_small_tree, one_line, read_json_object
from harness.tune.config import TRIALS

#: the plots of a study of hundreds of trials are some hundred kilobytes
_MOST_BYTES, _MOST_NUMBERS = 4_000_000, 500_000
Finite = Annotated[float, AllowInfNan(False)]


class Tried(BaseModel):
    """A trial: its parameters and the objective's values."""

    number: int
    params: dict[str, str | bool | int | Finite]
    values: list[Finite] | None = None


class Tested(BaseModel):
    """What fresh seeds gave on test tasks."""

    accuracy: list[Finite | None] = []
    loss: list[Finite | None] = []


class Result(BaseModel):
    """What a report takes from a study's ``result.json``; everything else in it is left alone."""

    study: str
    algo: str
    geometry: str
    objective: str
    sampler: str = ""
    trials: int
    best: Tried
    default: Tried | None = None
    test: Tested | None = None


class Figure(BaseModel):
    """A plot as Plotly takes it."""

    title: str
    data: list[dict[str, Any]]
    plot: dict[str, Any] = Field(alias="layout")


@dataclass(frozen=True)
class Study:
    """One study: where it is, its result, and its plots."""

    folder: Path
    result: Result
    figures: tuple[Figure, ...]


def read_studies(paths: Iterable[Path]) -> tuple[list[Study], list[str]]:
    """Every study at or below ``paths``, and a line for each file that was left out."""
    studies, skipped = [], []
    for folder in sorted(set(_folders(paths))):
        found, fault = read_object(folder / "result.json")
        try:
            result = Result.model_validate(found)
        except ValidationError as error:
            first = error.errors()[0]
            reason = fault or f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            skipped.append(one_line(f"{folder / 'result.json'}: {reason}"))
            continue
        try:
            figures = tuple(map(Figure.model_validate, _plots(folder / "plots.json")))
        except (OSError, ValueError) as error:
            skipped.append(one_line(f"{folder / 'plots.json'}: {str(error).splitlines()[0]}"))
            figures = ()
        studies.append(Study(folder, result, figures))
    return studies, skipped


def without_trials(
    runs: list[Run], skipped: list[str], studies: Sequence[Study]
) -> tuple[list[Run], list[str], list[str]]:
    """Runs and skipped folders without what ``studies`` show, and a note.

    Trials are never compared: the best of many is no result, and they differ in everything that was searched. What
    a study trained anew with fresh seeds is compared where there is nothing else. Raises :class:`InputError` where
    there are only trials, and no study that they belong to.
    """
    folders = [study.folder for study in studies]
    results = [run for run in runs if not _is_trial(run)]
    others = [run for run in results if not any(folder in run.path.parents for folder in folders)]
    kept = others or results
    if not kept and not studies:
        where = one_line(runs[0].path.parent)
        raise InputError(f"{where}: trials of a study, nothing else; allowed: runs, or the folder of a finished study")
    if len(kept) == len(runs):
        return runs, skipped, []
    inside = tuple(one_line(f"{folder}{os.sep}" if others else f"{folder / TRIALS}{os.sep}") for folder in folders)
    left = [line for line in skipped if not line.startswith(inside)]
    trials = len(runs) - len(results)
    note = f"{trials} trials of studies are not compared: the best of many is no result"
    if len(kept) < len(results):
        note += f"; so are {len(results) - len(kept)} runs that tested them, which the studies' table has"
    return kept, left, [note]


def _is_trial(run: Run) -> bool:
    """Whether a study chose among this run and others: by its summary, or by its place in an older study."""
    if run.summary.trial:
        return True
    folder = run.path.absolute().parent
    return folder.name == TRIALS and (folder.parent / "result.json").is_file()


def studies_found(studies: Sequence[Study]) -> list[str]:
    """A sentence for each study: how its best setting did on test tasks that had no part in choosing it."""
    return [_found(name, study.result) for name, study in zip(_names(studies), studies, strict=True)]


def _found(name: str, result: Result) -> str:
    best = f"{name}, best of {result.trials} trials by {result.objective}"
    accuracy, loss = ([value for value in values if value is not None] for values in _tests(result))
    if not accuracy and not loss:
        return f"{best}: not tested on test tasks."
    shown_mean = f"accuracy {np.mean(accuracy):.1%}" if accuracy else f"loss {shown(float(np.mean(loss)))}"
    seeds = len(accuracy or loss)
    return f"{best}: {shown_mean} on test tasks, trained anew with {seeds} fresh {'seed' if seeds == 1 else 'seeds'}."


def _names(studies: Sequence[Study]) -> list[str]:
    named = [(study.result.algo, study.result.geometry) for study in studies]
    methods = methods_of(named)
    return [method_name(methods[each]) for each in named]


def _tests(result: Result) -> tuple[list[float | None], list[float | None]]:
    return (result.test.accuracy, result.test.loss) if result.test else ([], [])


def studies_table(studies: Sequence[Study]) -> Table:
    """Default beside tuned, on validation tasks that chose and test tasks that did not."""
    columns = ["method", "objective", "trials", "default", "best", "test accuracy", "test loss", "best setting"]
    rows: list[list[Cell]] = [
        [
            name,
            study.result.objective,
            study.result.trials,
            _values(study.result.default),
            _values(study.result.best),
            *map(_mean, _tests(study.result)),
            ", ".join(f"{parameter} {_short(value)}" for parameter, value in study.result.best.params.items()),
        ]
        for name, study in zip(_names(studies), studies, strict=True)
    ]
    notes = ["Default and best: the objective on the validation tasks that chose. Test: trained anew with fresh seeds."]
    return table("studies", "Tuned settings", columns, rows, notes)


def _folders(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        for name, folders, files in os.walk(path):
            if FILES & set(files):  # a run directory
                folders.clear()
            elif "result.json" in files:
                yield Path(name)


def _plots(path: Path) -> list[Any]:
    try:
        found = read_json_object(path, _MOST_BYTES, links=False)
    except FileNotFoundError:
        return []
    figures = found.get("figures") if is_small_tree(found, _MOST_NUMBERS) else None
    if not isinstance(figures, list):
        raise ValueError("no list of figures")
    return figures


def _values(trial: Tried | None) -> str | None:
    return ", ".join(map(shown, trial.values)) if trial and trial.values else None


def _mean(values: Sequence[float | None]) -> str | None:
    found = [value for value in values if value is not None]
    if not found:
        return None
    spread = f" ({shown(min(found))} to {shown(max(found))})" if len(found) > 1 else ""
    return f"{shown(sum(found) / len(found))}{spread}, {len(found)} seeds"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
