"""What a study found: the best setting, its figures with fresh seeds, what mattered; ``best.yaml``, ``result.json``."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from harness.grid.compare import Entry
from harness.grid.pool import Job, Pool
from harness.grid.workers import Workers
from harness.settings.config import RunConfig
from harness.settings.resolve import resolve
from harness.store.directory import read_json, write_json
from harness.store.files import write
from harness.store.yaml_core import dumped
from harness.tune.plan import StudyPlan
from harness.tune.plots import write_plots
from harness.tune.slots import finished, spent
from harness.tune.space import put

#: test seeds are far from those of any study, so that no best setting is tested on tasks that chose it
_FRESH = 1_000_000
#: tasks of a test evaluation
_TEST_TASKS = RunConfig.model_fields["eval_tasks"].default
Tell = Callable[[dict[str, Any]], None]


def result_of(
    study: optuna.Study, plan: StudyPlan, folder: Path, trials: int, test_seeds: int, workers: Workers, tell: Tell
) -> dict[str, Any]:
    """The result of a finished study, written to ``folder``; ``best`` is None where no trial completed."""
    done = finished(study, trials)
    front = _front(study, plan, done)
    outcomes = Counter(trial.user_attrs.get("outcome", "completed") for trial in done)
    result: dict[str, Any] = {
        "study": plan.name,
        "algo": plan.base["algo"],
        "geometry": plan.base["geometry"],
        "seed": plan.base["seed"],
        "objective": str(plan.objective),
        "sampler": study.user_attrs["sampler"],
        "pruner": study.user_attrs["pruner"],
        "trials": len(done),
        "outcomes": dict(outcomes),
        "seconds": spent(study),
        "folder": str(folder),
        "best": None,
        "default": next((_trial(trial) for trial in done if trial.user_attrs.get("default")), None),
        "front": [],
        "test": None,
        "importances": _importances(study, plan, done),
        "plots": None,
    }
    if front:
        folder.mkdir(parents=True, exist_ok=True)
        result["best"] = _trial(front[0])
        result["best_yaml"] = str(folder / "best.yaml")
        write(folder / "best.yaml", _settings(plan, front[0], len(done)))
        write(folder / "default.yaml", dumped(best_config(plan, {})))
        if not plan.objective.single:
            for trial in front:
                write(folder / f"front-{trial.number}.yaml", _settings(plan, trial, len(done)))
            result["front"] = [_trial(trial) for trial in front]
        if test_seeds:
            tell({"event": "testing", "seeds": test_seeds})
            result["test"] = _tested(plan, front[0], folder / "test", test_seeds, workers)
        result["plots"] = str(write_plots(study, plan, done, folder / "plots.html"))
        write_json(folder / "result.json", result)
    return result


def write_suite(out: Path, results: Iterable[dict[str, Any]]) -> Path | None:
    """A suite for ``harness compare``: every algorithm, default and tuned, with five fresh seeds."""
    found = [result for result in results if result["best"]]
    if not found:
        return None
    grid: list[dict[str, Any]] = []
    tuned = Counter((result["algo"], result["geometry"]) for result in found)
    for result in found:
        default, best = (f"{result['study']}/{name}.yaml" for name in ("default", "best"))
        label = "tuned" if tuned[result["algo"], result["geometry"]] == 1 else f"tuned s{result['seed']}"
        if result["default"] and result["best"]["number"] == result["default"]["number"]:  # one run, not two
            grid.append({"config": default, "label": f"default, {label}"})
        else:
            grid += [{"config": default, "label": "default"}, {"config": best, "label": label}]
    document = {"title": "default and tuned settings under equal budgets", "seeds": [_FRESH + n for n in range(5)]}
    path = out / "tuned.yaml"
    write(path, dumped({**document, "grid": grid}))
    return path


def best_config(plan: StudyPlan, params: dict[str, Any]) -> dict[str, Any]:
    """The settings of a trial without what only tuning needs: evaluated once, at the end, on as many tasks as a run."""
    config = plan.config(params).model_dump(mode="json")
    for name in ("eval_every", "stationarity_every", "stationarity_tasks", "checkpoint_every", "eval_tasks", "label"):
        del config[name]
    return {name: value for name, value in config.items() if value is not None}


def _settings(plan: StudyPlan, trial: FrozenTrial, trials: int) -> bytes:
    values = ", ".join(f"{part} {value:.6g}" for part, value in zip(plan.objective.parts, trial.values, strict=True))
    lines = [f"# trial {trial.number} of {trials} in study {plan.name}: {values} (validation)"]
    return ("\n".join(lines) + "\n").encode() + dumped(best_config(plan, trial.params))


def _front(study: optuna.Study, plan: StudyPlan, done: list[FrozenTrial]) -> list[FrozenTrial]:
    """The best trial, or all that no other beats in both objectives, best in the first one first."""
    complete = [trial for trial in done if trial.state == TrialState.COMPLETE]
    signs = _signs(plan)
    costs = {
        trial.number: tuple(sign * value for sign, value in zip(signs, trial.values, strict=True)) for trial in complete
    }
    complete.sort(key=lambda trial: (costs[trial.number], trial.number))
    if plan.objective.single:
        return complete[:1]
    front: list[FrozenTrial] = []
    for trial in complete:  # in order of the first objective: on the front if better in the second than all before
        if not front or costs[trial.number][1] < costs[front[-1].number][1]:
            front.append(trial)
    return front


def _signs(plan: StudyPlan) -> list[int]:
    """Factors that make every objective one to minimise."""
    return [-1 if direction == "maximize" else 1 for direction in plan.objective.directions]


def _trial(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "params": trial.params,
        "values": trial.values,
        "outcome": trial.user_attrs.get("outcome"),
        "run_dir": trial.user_attrs.get("run_dir"),
    }


def _tested(plan: StudyPlan, trial: FrozenTrial, folder: Path, seeds: int, workers: Workers) -> dict[str, Any]:
    """Test figures of a setting, trained anew with seeds that no trial has seen."""
    entries = []
    for number in range(seeds):
        settings = put(best_config(plan, trial.params), {"seed": _FRESH + number, "eval_tasks": _TEST_TASKS})
        entries.append(Entry(resolve(RunConfig(**settings)), folder))
    jobs = [Job(entry.asked, entry.directory) for entry in entries if entry.state in ("new", "unfinished")]
    pool = Pool(jobs, workers)
    try:
        for _ in pool.events():
            pass
    except KeyboardInterrupt:
        pool.stop()
        raise
    found = [read_json(entry.directory / "summary.json") or {} for entry in entries]
    return {
        "seeds": [entry.config.seed for entry in entries],
        "status": [summary.get("status") for summary in found],
        **{name: [(summary.get(name) or {}).get("mean") for summary in found] for name in ("loss", "accuracy")},
        "tasks": _TEST_TASKS,
    }


def _importances(study: optuna.Study, plan: StudyPlan, done: list[FrozenTrial]) -> dict[str, dict[str, float]]:
    """Share of each parameter in what the trials differ by (PED-ANOVA), for each objective; empty with too few."""
    complete = [trial for trial in done if trial.state == TrialState.COMPLETE]
    found, signs = {}, _signs(plan)
    for index, part in enumerate(plan.objective.parts):
        if len({trial.values[index] for trial in complete}) < 2:
            continue
        sign = signs[index]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that low values count as good, which the sign sees to
            try:
                shares = optuna.importance.get_param_importances(
                    study,
                    evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
                    target=lambda trial, index=index, sign=sign: sign * trial.values[index],
                )
            except (ValueError, RuntimeError):  # too few trials, or all alike
                continue
        found[str(part)] = {name: float(share) for name, share in shares.items() if math.isfinite(share)}
    return found
