"""One run from configuration to summary: what ``harness run`` does, as a function."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness.errors import CodeFailed, HarnessError, InputError, OutOfMemory
from harness.experiment.interrupts import terminable
from harness.experiment.longer import begin_from_shorter
from harness.experiment.progress import Progress, Silent
from harness.experiment.setup import Setup, complete, set_up
from harness.experiment.start import place_of
from harness.experiment.summary import summarise
from harness.experiment.trackers import Tracked, checked
from harness.experiment.train import Trainer
from harness.measure.environment import environment, sitting
from harness.measure.memory import first_sentence, freed_memory_kept, is_out_of_memory
from harness.measure.precision import settled
from harness.problem.models import give_back
from harness.settings import registry
from harness.settings.config import RunConfig
from harness.settings.resolve import Resolved, resolve
from harness.store.directory import RunDirectory, changed, outcome
from harness.store.environments import SITTINGS, START, changes, continued
from harness.store.files import refuse_link
from harness.store.records import FINISHED, Status

if TYPE_CHECKING:
    from harness.problem.algorithm import Algorithm
    from harness.problem.benchmark import Benchmark
    from harness.problem.models import ModelFactory

log = logging.getLogger("harness")


def run(
    config: RunConfig | None = None,
    *,
    results: str | Path = Path("results/runs"),
    resume: bool = False,
    fresh: bool = False,
    replaces: Mapping[str, Any] | None = None,
    model: ModelFactory | None = None,
    benchmark: Benchmark | None = None,
    algorithm: type[Algorithm] | None = None,
    loss: Callable[..., Any] | None = None,
    progress: Progress | None = None,
    log_to: Iterable[str] = (),
    origins: Mapping[str, str] | None = None,
    trial: bool = False,
) -> dict[str, Any]:
    """Train, evaluate on held-out tasks, and write a run directory under ``results``.

    Args:
        config: the run; every field has a default.
        results: folder that holds run directories.
        resume: go on from the last checkpoint of an unfinished run, if there is one.
        fresh: delete an earlier run of the same key and start anew. Without it, a finished run is
            not repeated: its summary is returned. A finished run of fewer iterations is gone on from.
        replaces: repeat a run that ended so (see :func:`.directory.outcome`), unless it has been repeated since.
        model: ``(input_shape, outputs, **model_options) -> nn.Module``, instead of ``config.model``.
        benchmark: a benchmark object, instead of ``config.benchmark``.
        algorithm: an algorithm class, instead of ``config.algo``.
        loss: ``(prediction, target, **loss_options)`` -> one number a task, instead of ``config.loss``.
        progress: is told about every iteration; nobody is, by default.
        log_to: names of :data:`harness.experiment.trackers.TRACKERS` that are told too, by their own libraries.
        origins: where keys of ``config`` were given, for error messages.
        trial: a study chooses among such runs: test tasks are left alone, and no report counts it as a result.

    Returns:
        The content of ``summary.json``; seconds, bytes and counts of entries. Its ``status`` is
        ``completed``, ``diverged``, ``out_of_memory``, ``interrupted`` or, where ``progress`` ended it, ``stopped``.

    Raises:
        InputError: the request cannot be met; nothing has been changed.
        Locked: another process is doing this run.
        HarnessError: the disk is full or not writable, or a file is damaged; what was saved before is kept.
        CodeFailed: the algorithm's, the model's or the benchmark's own code raised something.
        OutOfMemory: not even the model fits; no directory has been made.

    >>> import harness
    >>> summary = harness.run(harness.RunConfig(algo="anil", inner_steps=3))  # doctest: +SKIP
    >>> summary["accuracy"]["mean"]  # doctest: +SKIP
    """
    resolved = resolve(
        config or RunConfig(), model=model, benchmark=benchmark, algorithm=algorithm, loss=loss, origins=origins
    )
    trackers = checked(log_to)
    complete(resolved)  # imports the model: what that sets in torch is no part of the run
    with _threads(resolved.config.threads), settled(resolved.config.tf32), freed_memory_kept(), ExitStack() as after:
        setup = _set_up(resolved)
        after.callback(give_back, setup.problem.network.module)
        directory = RunDirectory(Path(results) / f"{resolved.directory}-{setup.key_after(setup.config.iterations)}")
        refuse_link(directory.path)
        if not fresh:
            directory = _of_this_start(directory, setup, trial)

        def again() -> bool:
            return fresh or (replaces is not None and outcome(directory.path) == replaces)

        if not again() and (finished := _finished(directory)):
            return finished
        with terminable(), directory.claim():
            # Another process may have finished it, or left a checkpoint, until the directory became this one's.
            repeat = again()
            if not repeat and (finished := _finished(directory)):
                return finished
            if directory.checkpoint_path.exists() and not (resume or repeat):
                raise InputError(f"{directory.path} holds an unfinished run; allowed: --resume or --fresh")
            edited = repeat and replaces is not None and replaces["status"] == Status.CHANGED
            resume = resume and directory.checkpoint_path.exists() and not (fresh or edited)
            if not (resume or repeat):
                resume = begin_from_shorter(directory, setup)
            told = Tracked(trackers, directory.path, progress or Silent())
            summary = None
            try:
                summary = _run(resolved, setup, directory, resume, trial, told)
            finally:
                told.finish(summary)
            return summary


def _of_this_start(directory: RunDirectory, setup: Setup, trial: bool) -> RunDirectory:
    """``directory``, or another one where the run in it began with another model or other data than its key shows."""
    place, why = place_of(directory.path, setup.start)
    if why is None:
        return directory
    if trial:
        raise InputError(f"{directory.path} began with {why}; allowed: the same, or another --study or --out")
    log.info("%s began with %s than there are now: this run is %s", directory.path, why, place.name)
    refuse_link(place)
    return RunDirectory(place)


def _finished(directory: RunDirectory) -> dict[str, Any] | None:
    """The summary of a run that is not to be repeated; without digests of its files it says nothing."""
    summary = directory.summary()
    if summary is None or summary.get("status") not in FINISHED:
        return None
    edited = changed(directory.path, summary.get("files"))
    if edited is None:
        return None
    if edited:
        raise InputError(f"{directory.path}: {', '.join(edited)} changed after the run ended; allowed: --fresh")
    log.info("%s was finished before; add --fresh to run it again", directory.path)
    return {**summary, "run_dir": str(directory.path)}


def _run(
    resolved: Resolved, setup: Setup, directory: RunDirectory, resume: bool, trial: bool, progress: Progress
) -> dict[str, Any]:
    config = setup.config
    state = directory.load_checkpoint() if resume else None
    here = environment(setup.device, _distributions(resolved))
    place: dict[str, Any] = {**here, SITTINGS: [sitting()], START: setup.start}
    if resume:
        place = continued(directory.environment(), place)
    directory.begin(config.model_dump(), place, resume)
    trainer = Trainer(
        config,
        setup.engine,
        setup.evaluator,
        resolved.benchmark,
        directory,
        setup.w,
        setup.phi,
        progress,
        dict(setup.unknown),
    )
    for what, why in setup.unknown.items():
        log.warning("%s will not be known: %s", what, why)
    evaluation: dict[str, Any] | None = None
    try:
        if state is not None:
            _restore(trainer, directory, state)
        with resolved.blamed(CodeFailed):
            status = trainer.train()
            if status == Status.COMPLETED and not trial:
                evaluation = trainer.evaluate("test")
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    except (InputError, CodeFailed):
        if not resume and trainer.totals.iteration == 0:
            directory.discard()
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        trainer.ran_out(error)
        status = Status.OUT_OF_MEMORY
    finally:
        progress.end()
    if status == Status.OUT_OF_MEMORY:  # out here, where the error no longer holds what it was raised among
        status = trainer.settle() or status
    summary = summarise(status, directory.path, setup, trainer, evaluation, changes(place), trial)
    directory.finish(summary)
    return summary


def _restore(trainer: Trainer, directory: RunDirectory, state: dict[str, Any]) -> None:
    try:
        trainer.restore(state)
        directory.restore(state)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        kind = type(error).__name__
        raise HarnessError(
            f"{directory.checkpoint_path}: not a checkpoint of this run ({kind}); add --fresh to start anew"
        ) from error


def _set_up(resolved: Resolved) -> Setup:
    try:
        with resolved.blamed():
            return set_up(resolved)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        message = f"out of memory before the first meta-iteration ({first_sentence(error)})"
        raise OutOfMemory(message) from None


def _distributions(resolved: Resolved) -> list[str]:
    """Installed packages that this run's plugins came from."""
    config = resolved.config
    found = [
        registry.algorithms().plugins.get(config.algo),
        registry.benchmarks().plugins.get(config.benchmark),
        registry.engines().plugins.get(config.engine),
    ]
    return sorted({plugin.origin for plugin in found if plugin is not None})


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
