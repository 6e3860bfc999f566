"""One run from configuration to summary: what ``harness run`` does, as a function."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness.errors import CodeFailed, HarnessError, InputError, OutOfMemory
from harness.experiment.notebook import NotebookProgress, Result, in_notebook
from harness.experiment.once import once
from harness.experiment.progress import Progress, Silent
from harness.experiment.ranks import Alone, ranks
from harness.experiment.setup import Setup, complete, set_up
from harness.experiment.shares import Nowhere, begin_alike, check, follow, take_gpu
from harness.experiment.shares import environment as distributed
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
from harness.store.directory import RunDirectory
from harness.store.environments import SITTINGS, START, changes, continued
from harness.store.records import Status

if TYPE_CHECKING:
    from harness.problem.algorithm import Algorithm
    from harness.problem.benchmark import Benchmark
    from harness.problem.nets import ModelFactory

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
) -> Result:
    """Train, evaluate on held-out tasks, and write a run directory under ``results``.

    Where torchrun has started several processes, each has to ask for the same run: they do it together, and each gets
    the summary.

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
        progress: is told about every iteration; by default a bar in a notebook, and nobody elsewhere.
        log_to: names of :data:`harness.experiment.trackers.TRACKERS` that are told too, by their own libraries.
        origins: where keys of ``config`` were given, for error messages.
        trial: a study chooses among such runs: test tasks are left alone, and no report counts it as a result.

    Returns:
        The content of ``summary.json``; seconds, bytes and counts of entries. Its ``status`` is
        ``completed``, ``diverged``, ``out_of_memory``, ``interrupted`` or, where ``progress`` ended it, ``stopped``.
        In a notebook it shows itself as a table and the curve of the training loss.

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
    with ExitStack() as after:
        group = after.enter_context(ranks())
        resolved = resolve(
            config or RunConfig(), model=model, benchmark=benchmark, algorithm=algorithm, loss=loss, origins=origins
        )
        trackers = checked(log_to)
        take_gpu(group, resolved.config.device)
        complete(resolved)  # imports the model: what that sets in torch is no part of the run
        for context in (_threads(resolved.config.threads), settled(resolved.config.tf32), freed_memory_kept()):
            after.enter_context(context)
        setup = _set_up(resolved)
        after.callback(give_back, setup.problem.network.module)
        check(group, setup, resolved.benchmark)

        def train(directory: RunDirectory, resume: bool, progress: Progress) -> dict[str, Any]:
            return _run(resolved, setup, directory, resume, trial, progress, group)

        if group.rank:
            return Result(follow(group, lambda: train(Nowhere(), False, Silent())))

        def lead(directory: RunDirectory, resume: bool) -> dict[str, Any]:
            group.first(None)  # who follows waits for this
            watched = progress or (NotebookProgress() if in_notebook() else Silent())
            told = Tracked(trackers, directory.path, watched)
            summary = None
            try:
                summary = train(directory, resume, told)
            finally:
                told.finish(summary)
            return summary

        directory = RunDirectory(Path(results) / f"{resolved.directory}-{setup.key_after(setup.config.iterations)}")
        return Result(group.first(once(directory, setup, resume, fresh, replaces, trial, lead)))


def _run(
    resolved: Resolved,
    setup: Setup,
    directory: RunDirectory,
    resume: bool,
    trial: bool,
    progress: Progress,
    group: Alone,
) -> dict[str, Any]:
    config = setup.config
    state = directory.load_checkpoint() if resume else None
    here = environment(setup.device, _distributions(resolved))
    place: dict[str, Any] = {**here, **distributed(group), SITTINGS: [sitting()], START: setup.start}
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
        group,
    )
    for what, why in setup.unknown.items():
        log.warning("%s will not be known: %s", what, why)
    evaluation: dict[str, Any] | None = None
    try:
        with group.together():
            if state is not None:
                _restore(trainer, directory, state)
            begin_alike(group, trainer)
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
