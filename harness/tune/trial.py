"""One trial: a run directory like any other, watched by the pruner, and told to Optuna whatever becomes of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages._heartbeat import get_heartbeat_thread
from optuna.trial import TrialState

from harness.errors import InputError
from harness.experiment.run import run
from harness.grid.compare import Entry
from harness.measure.memory import free_memory, is_out_of_memory
from harness.settings.resolve import resolve
from harness.store.lock import Locked
from harness.tune.plan import StudyPlan
from harness.tune.slots import BROKEN, distributions_of
from harness.tune.study import prepare

if TYPE_CHECKING:
    from harness.experiment.progress import Measured
    from harness.settings.config import RunConfig

log = logging.getLogger("harness")
_LOCKED_SECONDS = 2.0
#: how much of what a killed process did for a trial may be missing in what the study has spent
_COUNT_SECONDS = 10.0
#: why a run was stopped
PRUNED, REACHED = "pruned", "target reached"
Send = Callable[..., None]


class Watch:
    """Implements :class:`harness.experiment.progress.Progress`: reports to Optuna, and stops what it prunes."""

    def __init__(self, trial: optuna.Trial, plan: StudyPlan, directory: Path, send: Send) -> None:
        self._trial, self._plan, self._directory, self._send = trial, plan, directory, send
        self._part = plan.objective.parts[0]
        self._reported: set[int] = set()
        self._config: RunConfig | None = None
        self._began = self._counted = time.monotonic()

    def count(self) -> None:
        """Tell Optuna how long this trial has been at work here."""
        self._counted = time.monotonic()
        self._trial.set_user_attr("seconds", self._counted - self._began)

    def waited(self, seconds: float) -> None:
        """So long nothing was done for this trial."""
        self._began += seconds

    def begin(self, config: RunConfig, done: int) -> None:
        """Training starts, or goes on after ``done`` iterations, whose measurements are on disk."""
        self._config = config
        self.report_all(config)
        self._send("begin", iteration=done, iterations=config.iterations)

    def trained(self, record: dict[str, Any]) -> None:
        """See :class:`Progress`."""
        self._send("trained", iteration=record["iteration"], loss=record["loss"])
        if time.monotonic() - self._counted > _COUNT_SECONDS:
            self.count()

    def evaluated(self, split: str, done: int, total: int) -> None:
        """See :class:`Progress`."""

    def measured(self, what: Measured, record: dict[str, Any]) -> str | None:
        """See :class:`Progress`: a reason to stop once the target is met or the pruner says so."""
        assert self._config is not None
        if not self._plan.objective.single or what != self._part.watched:
            return None
        self._report(self._config, record)
        if self._part.target and self._part.reached(self._part.records(self._directory)):
            return REACHED
        last = record["iteration"] >= self._config.iterations
        return PRUNED if not last and self._trial.should_prune() else None

    def end(self) -> None:
        """See :class:`Progress`."""

    def report_all(self, config: RunConfig) -> None:
        """Tell Optuna the measurements that are on disk."""
        if self._plan.objective.single:
            for record in self._part.records(self._directory):
                self._report(config, record)

    def _report(self, config: RunConfig, record: dict[str, Any]) -> None:
        value, step = self._part.progress(record), self._plan.rung(config, record["iteration"])
        if step and value is not None and step not in self._reported:
            self._reported.add(step)
            self._trial.report(value, step)
            self._send("measured", value=value)


def run_trial(
    study: optuna.Study,
    storage: optuna.storages.BaseStorage,
    plan: StudyPlan,
    trial_id: int,
    results: Path,
    device: str | None,
    send: Send,
) -> str:
    """Do a claimed trial and tell Optuna; returns its outcome.

    ``completed``, ``pruned``, ``missed`` (the target was not met, or no number came out), ``diverged``,
    ``out_of_memory``; ``refused`` and ``crashed`` with a message; ``interrupted`` frees its place.
    """
    prepare(study, plan, storage.get_trial(trial_id).user_attrs["slot"])
    trial = optuna.Trial(study, trial_id)
    params = {name: _suggest(trial, name, part) for name, part in distributions_of(plan.space).items()}
    send("claimed", number=trial.number, slot=trial.user_attrs["slot"], params=params)
    with get_heartbeat_thread(trial_id, storage):
        outcome, message, values = _run(trial, plan, params, results, device, send)
        if outcome == "out_of_memory":
            free_memory()  # what this run held is not the next one's loss
        if outcome == "interrupted":
            storage.set_trial_state_values(trial_id, TrialState.FAIL)
        else:
            _tell(study, trial, outcome, message, values)
    send("told", number=trial.number, outcome=outcome, values=values, message=message)
    return outcome


def _run(
    trial: optuna.Trial, plan: StudyPlan, params: dict[str, Any], results: Path, device: str | None, send: Send
) -> tuple[str, str | None, list[float] | None]:
    try:
        config = plan.config(params)
        if device is not None:
            config = config.model_copy(update={"device": device})
        directory = Entry(resolve(config), results).directory
        trial.set_user_attr("run_dir", str(directory))
        watch = Watch(trial, plan, directory, send)
        try:
            summary = _run_alone(config, results, watch)
        finally:
            watch.count()
    except InputError as error:
        return "refused", str(error), None
    except Exception as error:  # whatever a plugin raises is this trial's own
        log.debug("trial %d", trial.number, exc_info=True)
        kind = "out_of_memory" if is_out_of_memory(error) else "crashed"
        return kind, f"{type(error).__name__}: {error}", None
    status = summary["status"]
    if status == "interrupted" or (status == "stopped" and summary["stopped"] == PRUNED):
        return ("interrupted" if status == "interrupted" else "pruned"), None, None
    if status not in ("completed", "stopped"):
        return status, _why(summary), None
    watch.report_all(config)
    values = plan.objective.values(directory, summary)
    return ("completed", None, values) if values else ("missed", "the target was not met, or no number came out", None)


def _run_alone(config: RunConfig, results: Path, watch: Watch) -> dict[str, Any]:
    """The run, when no other process is at it: another trial may have the same parameters."""
    while True:
        try:
            return run(config, results=results, resume=True, progress=watch, trial=True)
        except Locked:
            time.sleep(_LOCKED_SECONDS)
            watch.waited(_LOCKED_SECONDS)


def _tell(
    study: optuna.Study, trial: optuna.Trial, outcome: str, message: str | None, values: list[float] | None
) -> None:
    try:
        if message is not None:
            trial.set_user_attr("message", message)
        trial.set_user_attr("outcome", outcome)
        if values is not None:
            study.tell(trial, values if len(values) > 1 else values[0])
        elif outcome in BROKEN:
            study.tell(trial, state=TrialState.FAIL)
        else:  # samplers learn from pruned trials where not to go, and take no notice of failed ones
            study.tell(trial, state=TrialState.PRUNED)
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        # Without a sign of life for too long: another process has the place, its result counts.
        log.warning("trial %d was taken for dead; its result is left out", trial.number)


def _suggest(trial: optuna.Trial, name: str, part: Any) -> Any:
    if isinstance(part, optuna.distributions.CategoricalDistribution):
        return trial.suggest_categorical(name, part.choices)
    suggest = trial.suggest_int if isinstance(part, optuna.distributions.IntDistribution) else trial.suggest_float
    return suggest(name, part.low, part.high, log=part.log)


def _why(summary: dict[str, Any]) -> str | None:
    found = summary.get("diverged")
    if found:
        return f"{found['quantity']} at meta-iteration {found['iteration']}"
    return (summary.get("out_of_memory") or {}).get("message")
