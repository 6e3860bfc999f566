"""Studies: made or joined, with the sampler and the pruner that they say; another study of that name is refused."""

from __future__ import annotations

import warnings
import zlib
from typing import Any

import optuna

from harness.errors import InputError
from harness.tune.plan import StudyPlan

#: attribute of a study that says what it is
ATTRIBUTE = "harness"
_STARTUP = 10
_POPULATION = 10
_PRUNE_AFTER = 5


def check(storage: optuna.storages.BaseStorage, plan: StudyPlan) -> None:
    """Raise :class:`InputError` if a study of this name is another one; nothing is written."""
    if plan.name not in optuna.get_all_study_names(storage):
        return
    study = optuna.load_study(study_name=plan.name, storage=storage)
    there = study.user_attrs.get(ATTRIBUTE)
    directions = [direction.name.lower() for direction in study.directions]
    if not isinstance(there, dict) and (study.get_trials(deepcopy=False) or directions != plan.objective.directions):
        raise InputError(f"--study {plan.name}: the study there is not one of harness tune; try another name")
    if isinstance(there, dict) and (difference := _difference(there, plan.document())):
        raise InputError(
            f"--study {plan.name}: it exists with {difference}; give the same, or another --study or --out"
        )


def enter(storage: optuna.storages.BaseStorage, plan: StudyPlan) -> optuna.Study:
    """Make or join the study of ``plan``; two processes may do so at once."""
    check(storage, plan)
    if plan.name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=plan.name, storage=storage)
    else:
        study = optuna.create_study(
            study_name=plan.name, storage=storage, directions=plan.objective.directions, load_if_exists=True
        )
    if ATTRIBUTE not in study.user_attrs:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([str(part) for part in plan.objective.parts])
        study.set_user_attr("sampler", repr_of(plan.sampler))
        study.set_user_attr("pruner", repr_of(plan.pruner))
        study.set_user_attr(ATTRIBUTE, plan.document())
    return study


def load(storage: optuna.storages.BaseStorage, name: str) -> tuple[optuna.Study, StudyPlan]:
    """A study that :func:`enter` has made, and its plan; the pruner is set, the sampler is set by :func:`prepare`."""
    study = optuna.load_study(study_name=name, storage=storage)
    plan = StudyPlan.of(study.user_attrs[ATTRIBUTE])
    study.pruner = _pruner(plan)
    return study, plan


def prepare(study: optuna.Study, plan: StudyPlan, slot: int) -> None:
    """Give the study the sampler of one trial, seeded by the study's seed and the trial's place in it.

    So a trial depends on those before it alone, not on how often the process that runs it was started.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.sampler = _sampler(plan, zlib.crc32(f"{plan.base['seed']} {slot}".encode()))


def _sampler(plan: StudyPlan, seed: int) -> optuna.samplers.BaseSampler:
    samplers = optuna.samplers
    if plan.sampler == "tpe":
        return samplers.TPESampler(n_startup_trials=_STARTUP, multivariate=True, constant_liar=True, seed=seed)
    if plan.sampler == "qmc":  # the sequence is one for the whole study
        first = samplers.RandomSampler(seed)
        whole = plan.base["seed"] % 2**32
        return samplers.QMCSampler(
            qmc_type="sobol",
            scramble=True,
            seed=whole,
            independent_sampler=first,
            warn_asynchronous_seeding=False,
            warn_independent_sampling=False,
        )
    if plan.sampler == "cmaes":
        return samplers.CmaEsSampler(n_startup_trials=1, seed=seed, warn_independent_sampling=False)
    if plan.sampler == "nsga2":
        return samplers.NSGAIISampler(population_size=_POPULATION, seed=seed)
    return samplers.RandomSampler(seed)


def _pruner(plan: StudyPlan) -> optuna.pruners.BasePruner:
    if plan.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=_PRUNE_AFTER, n_warmup_steps=0)
    if plan.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=plan.rungs, reduction_factor=3)
    return optuna.pruners.NopPruner()


_WORDS = {
    "tpe": f"TPESampler(n_startup_trials={_STARTUP}, multivariate=True, constant_liar=True)",
    "qmc": "QMCSampler(qmc_type='sobol', scramble=True)",
    "cmaes": "CmaEsSampler(n_startup_trials=1)",
    "nsga2": f"NSGAIISampler(population_size={_POPULATION})",
    "random": "RandomSampler()",
    "median": f"MedianPruner(n_startup_trials={_PRUNE_AFTER}, n_warmup_steps=0)",
    "hyperband": "HyperbandPruner(min_resource=1, max_resource=rungs, reduction_factor=3)",
    "none": "NopPruner()",
}


def repr_of(name: str) -> str:
    """Sampler or pruner with its settings and Optuna's version, as stored with the study."""
    return f"{_WORDS[name]} of Optuna {optuna.__version__}"


def check_sampler(plan: StudyPlan) -> None:
    """Raise :class:`InputError` where the sampler needs a package that is not there."""
    if plan.sampler == "cmaes":
        try:
            import cmaes  # noqa: F401
        except ImportError:
            raise InputError("--sampler cmaes: needs the package cmaes; try pip install cmaes") from None


def _difference(there: dict[str, Any], here: dict[str, Any]) -> str | None:
    """The first thing in which two studies differ, in words; None where they agree."""
    for key in ("version", "objective", "sampler", "pruner", "space", "tasks", "rungs", "base", "default"):
        before, now = there.get(key), here[key]
        if isinstance(now, dict) and isinstance(before, dict):
            # what neither sets is no difference, also where one was made before there was such a setting
            names = sorted(n for n in {*before, *now} if before.get(n) != now.get(n))
            if names:
                return f"another {key}: {names[0]} {before.get(names[0])}, here {now.get(names[0])}"
        elif before != now:
            return f"another {key}: {before}, here {now}"
    return None
