"""One run from configuration to summary: what ``harness run`` does, as a function."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness import registry
from harness.config import RunConfig
from harness.errors import InputError, OutOfMemory
from harness.measure.environment import environment
from harness.measure.memory import is_out_of_memory, one_line
from harness.progress import Progress, Silent
from harness.resolve import Resolved, resolve
from harness.setup import Setup, set_up
from harness.store import FINISHED, RunDirectory
from harness.summary import summarise
from harness.train import Trainer

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
    model: ModelFactory | None = None,
    benchmark: Benchmark | None = None,
    algorithm: type[Algorithm] | None = None,
    progress: Progress | None = None,
    origins: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Train, evaluate on held-out tasks, and write a run directory under ``results``.

    Args:
        config: the run; every field has a default.
        results: folder that holds run directories.
        resume: go on from the last checkpoint of an unfinished run, if there is one.
        fresh: delete an earlier run of the same key and start anew. Without it, a finished run is
            not repeated: its summary is returned.
        model: ``(input_shape, outputs, **model_options) -> nn.Module``, instead of ``config.model``.
        benchmark: a benchmark object, instead of ``config.benchmark``.
        algorithm: an algorithm class, instead of ``config.algo``.
        progress: is told about every iteration; nobody is, by default.
        origins: where keys of ``config`` were given, for error messages.

    Returns:
        The content of ``summary.json``; seconds, bytes and counts of entries. Its ``status`` is
        ``completed``, ``diverged``, ``out_of_memory``, ``interrupted`` or, where ``progress`` ended it, ``stopped``.

    Raises:
        InputError: the request cannot be met; no directory has been made.
        OutOfMemory: not even the model fits; no directory has been made.

    >>> import harness
    >>> summary = harness.run(harness.RunConfig(algo="anil", inner_steps=3))  # doctest: +SKIP
    >>> summary["accuracy"]["mean"]  # doctest: +SKIP
    """
    resolved = resolve(config or RunConfig(), model=model, benchmark=benchmark, algorithm=algorithm, origins=origins)
    with _threads(resolved.config.threads):
        setup = _set_up(resolved)
        directory = RunDirectory(Path(results) / f"{resolved.directory}-{setup.key}")
        earlier = directory.summary()
        if earlier is not None and earlier.get("status") in FINISHED and not fresh:
            log.info("%s was finished before; add --fresh to run it again", directory.path)
            return {**earlier, "run_dir": str(directory.path)}
        if directory.checkpoint_path.exists() and not (resume or fresh):
            raise InputError(f"{directory.path} holds an unfinished run; allowed: --resume or --fresh")
        try:
            return _run(resolved, setup, directory, resume and directory.checkpoint_path.exists(), progress or Silent())
        finally:
            directory.close()


def _run(resolved: Resolved, setup: Setup, directory: RunDirectory, resume: bool, progress: Progress) -> dict[str, Any]:
    config = setup.config
    state = directory.load_checkpoint() if resume else None
    directory.begin(config.model_dump(), environment(setup.device, _distributions(resolved)), resume)
    trainer = Trainer(
        config, setup.engine, setup.evaluator, resolved.benchmark, directory, setup.w, setup.phi, progress
    )
    evaluation: dict[str, Any] | None = None
    try:
        if state is not None:
            trainer.restore(state)
            directory.cut("metrics.jsonl", trainer.totals.metrics_lines)
            directory.cut("evaluations.jsonl", trainer.totals.evaluations_lines)
            directory.cut("stationarity.jsonl", trainer.totals.stationarity_lines)
        status = trainer.train()
        if status == "completed":
            evaluation = trainer.evaluate("test")
    except KeyboardInterrupt:
        status = "interrupted"
    except InputError:
        if not resume and trainer.totals.iteration == 0:
            directory.discard()
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        trainer.ran_out(error)
        status = "out_of_memory"
    finally:
        progress.end()
    if status == "out_of_memory":  # out here, where the error no longer holds what it was raised among
        status = trainer.settle() or status
    summary = summarise(status, directory.path, setup, trainer, evaluation)
    directory.finish(summary)
    return summary


def _set_up(resolved: Resolved) -> Setup:
    try:
        return set_up(resolved)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        message = f"out of memory before the first meta-iteration ({one_line(error)})"
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
