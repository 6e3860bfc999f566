"""Places of a study: as many as trials are asked for, each filled by one trial, whoever dies on the way.

A trial says in one record which place it takes and whose it is, so there is no moment at which a death leaves
half of that. Of two trials that take one place at the same time, the earlier one has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from harness.problem.search_space import Choice, Range
from harness.store.records import Status
from harness.tune.owners import Owners
from harness.tune.plan import StudyPlan
from harness.tune.space import Space

#: outcomes that Optuna is told as failures; any other failed trial was lost, and its place is free
BROKEN = (Status.CRASHED, Status.REFUSED)
#: deaths of a process, each with the process that started it looking on, before its trial counts as crashed
_DEATHS = 3


def slot_of(trial: FrozenTrial) -> int | None:
    """The place that a trial takes; None where it takes none, as one whose process died."""
    state, attrs = trial.state, trial.user_attrs
    if state == TrialState.WAITING or "slot" not in attrs:
        return None
    if state == TrialState.FAIL and attrs.get("outcome") not in BROKEN:
        return None
    return None if attrs.get("outcome") == "duplicate" else int(attrs["slot"])


def filled(study: optuna.Study) -> dict[int, FrozenTrial]:
    """The trial of each place that is taken, finished or running."""
    found: dict[int, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        if (slot := slot_of(trial)) is not None:
            found.setdefault(slot, trial)
    return found


def finished(study: optuna.Study, trials: int) -> list[FrozenTrial]:
    """The finished trials of the first ``trials`` places."""
    return [trial for slot, trial in sorted(filled(study).items()) if slot < trials and trial.state.is_finished()]


def spent(study: optuna.Study) -> float:
    """Seconds in which trials of a study were at work, added up, those of dead and running processes too.

    Each process counts its own, by a clock that nobody sets.
    """
    return float(sum(trial.user_attrs.get("seconds", 0.0) for trial in study.get_trials(deepcopy=False)))


def claim(
    study: optuna.Study, storage: optuna.storages.BaseStorage, plan: StudyPlan, owner: str, trials: int
) -> int | None:
    """Take the first free place below ``trials``: the number of the new trial, None where none is free.

    A place whose trial was lost gets it back with its parameters; the first one gets the default setting.
    """
    while True:
        taken = filled(study)
        slot = next((slot for slot in range(trials) if slot not in taken), None)
        if slot is None:
            return None
        lost = _lost(study, slot)
        params = lost.params if lost else plan.default if slot == 0 else {}
        attrs: dict[str, Any] = {"slot": slot, "owner": owner}
        if lost:
            attrs["retry_of"] = lost.number
        if slot == 0 and plan.default:
            attrs["default"] = True
        distributions = {name: part for name, part in distributions_of(plan.space).items() if name in params}
        template = optuna.create_trial(
            state=TrialState.RUNNING, params=params, distributions=distributions, user_attrs=attrs
        )
        study_id = storage.get_study_id_from_name(study.study_name)
        trial_id: int = storage.create_new_trial(study_id, template_trial=template)
        number = storage.get_trial(trial_id).number
        if filled(study)[slot].number == number:
            return trial_id
        storage.set_trial_user_attr(trial_id, "outcome", "duplicate")
        storage.set_trial_state_values(trial_id, TrialState.FAIL)


def recover(
    study: optuna.Study,
    storage: optuna.storages.BaseStorage,
    owners: Owners,
    gone: Callable[[str], str | None] = lambda owner: None,
) -> list[int]:
    """Fail the trials whose process has died, which frees their places; returns their numbers.

    ``gone`` tells how a process that this one started has ended. A trial that took several of them with
    it keeps its place as crashed: it would never end.
    """
    if isinstance(storage, optuna.storages.RDBStorage):
        optuna.storages.fail_stale_trials(study)
    found = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        owner = trial.user_attrs.get("owner", "")
        if owner and owners.dead(owner, f"{study.study_name}: trial {trial.number}"):
            fail(study, storage, trial, gone(owner))
            found.append(trial.number)
            owners.forget(owner)
    return found


def fail(study: optuna.Study, storage: optuna.storages.BaseStorage, trial: FrozenTrial, how: str | None) -> None:
    """Fail a running trial so that its place is free; how its process ended is None where nobody saw it."""
    trial_id = trial._trial_id
    try:
        if how is not None:
            storage.set_trial_user_attr(trial_id, "died", how)
            deaths = Counter(other.user_attrs.get("slot") for other in study.get_trials() if "died" in other.user_attrs)
            if deaths[trial.user_attrs.get("slot")] >= _DEATHS:
                storage.set_trial_user_attr(trial_id, "outcome", "crashed")
                storage.set_trial_user_attr(trial_id, "message", how)
        storage.set_trial_state_values(trial_id, TrialState.FAIL)
    except optuna.exceptions.UpdateFinishedTrialError:
        pass  # somebody else was faster


def _lost(study: optuna.Study, slot: int) -> FrozenTrial | None:
    """The last trial of a place whose process died."""
    lost = None
    for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        if trial.user_attrs.get("slot") == slot and trial.user_attrs.get("outcome") not in (*BROKEN, "duplicate"):
            lost = trial
    return lost


def distributions_of(space: Space) -> dict[str, BaseDistribution]:
    """The space in Optuna's words."""
    return {name: _distribution(part) for name, part in sorted(space.items())}


def _distribution(part: Range | Choice) -> BaseDistribution:
    if isinstance(part, Choice):
        return CategoricalDistribution(part.values)
    if part.whole:
        return IntDistribution(int(part.low), int(part.high), log=part.log)
    return FloatDistribution(part.low, part.high, log=part.log)
