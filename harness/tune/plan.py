"""Studies to do, checked before anything is written: base settings, space, objective, sampler and pruner. No Optuna."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.problem.algorithm import Algorithm, Choice, Range
from harness.settings.config import RunConfig, validate
from harness.settings.resolve import Resolved, resolve
from harness.strangers.blame import blamed
from harness.strangers.values import origin
from harness.tune.config import OWN, TuneConfig
from harness.tune.objective import Objective, parse
from harness.tune.space import Override, Space, as_document, check_name, from_document, lookup, narrowed, put

#: measurements along the way of a trial: few for pruning, many to see when a target was met
_RUNGS, _FINE = 4, 20


@dataclass(frozen=True)
class StudyPlan:
    """One study: everything that its trials share, and that a process that joins must agree with."""

    name: str
    #: settings of every trial, as given or by default; those of the benchmark still fill what is open
    base: dict[str, Any]
    space: Space
    objective: Objective
    sampler: str
    pruner: str
    #: meta-iterations times tasks of a trial, whatever its meta-batch
    tasks: int
    rungs: int
    #: parameters of the algorithm's own default setting; empty where it lies outside the space
    default: dict[str, Any]

    def config(self, params: Mapping[str, Any]) -> RunConfig:
        """The run of a trial: every one trains on as many tasks, and is measured as often."""
        settings = put(self.base, params)
        settings["iterations"] = max(1, round(self.tasks / settings["meta_batch"]))
        every = math.ceil(settings["iterations"] / self.rungs)
        watched = {part.watched for part in self.objective.parts}
        settings["eval_every"] = every if "validation" in watched else 0
        settings["stationarity_every"] = every if "stationarity" in watched else 0
        return RunConfig(**settings)

    def rung(self, config: RunConfig, iteration: int) -> int:
        """Which of the ``rungs`` measurements of a trial comes after ``iteration``; the last one is ``rungs``."""
        every = config.eval_every or config.stationarity_every
        return self.rungs if iteration >= config.iterations else math.ceil(iteration / every)

    def document(self) -> dict[str, Any]:
        """What is stored with the study, see :meth:`of`."""
        fields = {**vars(self), "space": as_document(self.space), "objective": str(self.objective)}
        return {"version": 1, **fields}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> StudyPlan:
        """The inverse of :meth:`document`."""
        fields = {key: value for key, value in document.items() if key != "version"}
        space, objective = from_document(fields.pop("space")), parse(fields.pop("objective"))
        return cls(space=space, objective=objective, **fields)


def plan(config: TuneConfig, origins: Mapping[str, str], asked: list[Override]) -> list[StudyPlan]:
    """A study for every algorithm of ``config``; raises :class:`InputError` for what no run could have."""
    objective = parse(config.objective, origin("objective", origins))
    if not objective.single and config.pruner not in ("auto", "none"):
        where = origin("pruner", origins)
        raise InputError(f"{where}: {config.pruner} cannot prune a study of two objectives; allowed: none")
    if not objective.single and config.sampler == "cmaes":
        where = origin("sampler", origins)
        raise InputError(f"{where}: cmaes has one objective; allowed for two: tpe, random, qmc, nsga2")
    pruner = ("median" if objective.single else "none") if config.pruner == "auto" else config.pruner
    runs = [_resolved(name.strip(), config, origins) for name in config.algo.split(",")]
    _check_names(asked, runs)
    plans = [_study(run, config, objective, pruner, asked, len(runs)) for run in runs]
    if len({study.name for study in plans}) < len(plans):
        raise InputError(f"{origin('algo', origins)}: {config.algo!r} names a study twice; allowed: each once")
    return plans


def _resolved(name: str, config: TuneConfig, origins: Mapping[str, str]) -> Resolved:
    """The default setting of an algorithm; ``--geometry`` goes to those of several that have it."""
    from harness.settings import registry
    from harness.strangers.values import blame

    algo, _, geometry = name.partition(":")
    given = {field: getattr(config, field) for field in config.model_fields_set - OWN}
    given |= {"algo": algo, "iterations": config.iterations, "eval_tasks": config.eval_tasks}
    with blame("algo", origins):
        known = registry.algorithms().get(algo).geometries
    if geometry:
        given["geometry"] = geometry
    elif "," in config.algo and given.get("geometry") not in known:
        given.pop("geometry", None)
    return resolve(validate(given, origins), origins=origins)


def _declared(algorithm: Algorithm) -> dict[str, Range | Choice]:
    with blamed(f"algorithm {algorithm.name!r}"):
        return dict(algorithm.search_space)


def _check_names(asked: Iterable[Override], runs: Iterable[Resolved]) -> None:
    declared = {name for run in runs for name in _declared(run.algorithm)}
    for override in asked:
        check_name(override, declared)


def _study(
    run: Resolved, config: TuneConfig, objective: Objective, pruner: str, asked: list[Override], studies: int
) -> StudyPlan:
    declared = _declared(run.algorithm)
    # What another algorithm of the same command declares, or has as an option, is meant for that one.
    own = [
        override
        for override in asked
        if studies == 1 or _knows(run.algorithm, override) or not _known_elsewhere(override, config)
    ]
    space, fixed = narrowed(declared, own)
    if not space:
        raise InputError("--space: every parameter is fixed; allowed: at least one range or choice")
    if "accuracy" in str(objective) and run.loss.regression:
        raise InputError(f"--objective {objective}: {run.benchmark.name} is regression; allowed: loss, seconds@loss=1")
    base = put(run.config.model_dump(mode="json"), fixed)
    c = run.config
    default = {name: lookup(base, name) for name in space}
    inside = all(part.holds(default[name]) for name, part in space.items())
    name = f"{c.algo}-{c.geometry}_{run.benchmark.name}_{c.ways}w{c.shots}s_s{c.seed}"
    if config.study:
        name = config.study if studies == 1 else f"{config.study}-{c.algo}-{c.geometry}"
    along = _FINE if any(part.target for part in objective.parts) else _RUNGS if pruner != "none" else 1
    every = c.eval_every or c.stationarity_every
    made = StudyPlan(
        name,
        {key: value for key, value in base.items() if key not in ("eval_every", "stationarity_every", "iterations")},
        space,
        objective,
        config.sampler,
        pruner,
        c.iterations * base["meta_batch"],
        max(1, c.iterations // every) if every else along,
        default if inside else {},
    )
    _check_ends(made, own)
    return made


def _knows(algorithm: Algorithm, override: Override) -> bool:
    """Whether the parameter is one that ``algorithm`` declares, or an option of its own."""
    field, _, option = override.name.partition(".")
    return override.name in _declared(algorithm) or (
        field == "algo_options" and option in algorithm.Options.model_fields
    )


def _known_elsewhere(override: Override, config: TuneConfig) -> bool:
    from harness.settings import registry

    for name in config.algo.split(","):
        algo, _, geometry = name.strip().partition(":")
        algorithm = registry.algorithms().get(algo)
        chosen = geometry or (config.geometry if config.geometry in algorithm.geometries else None)
        if _knows(algorithm(chosen or next(iter(algorithm.geometries))), override):
            return True
    return False


def _check_ends(study: StudyPlan, asked: Iterable[Override]) -> None:
    """Every value that a person gave has to be one that a run can have."""
    origins = {override.name: override.where for override in asked}
    first = {name: part.ends[0] for name, part in study.space.items()}
    for name, part in study.space.items():
        for end in part.ends:
            settings = put(study.base, {**first, name: end})
            resolve(validate(settings, origins), origins=origins)


def folder(out: Path, study: StudyPlan) -> Path:
    """Where a study keeps its runs and its result."""
    return out / study.name
