"""The summary of a run: what ``summary.json`` holds and ``harness run --json`` prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.store.directory import FINISHED, digests

if TYPE_CHECKING:
    from harness.experiment.setup import Setup
    from harness.experiment.train import Trainer

#: raised whenever a key of the summary changes its meaning or goes
SCHEMA = 2


def summarise(
    status: str,
    path: Path,
    setup: Setup,
    trainer: Trainer,
    evaluation: dict[str, Any] | None,
    resumed_elsewhere: list[str],
    trial: bool = False,
) -> dict[str, Any]:
    """Every number of a run; None for what was not measured or is not finite.

    ``seconds.train`` is all training, the first iteration included; ``seconds.wall`` has evaluation,
    logging and checkpoints in it too. Phases stay None for engines on other libraries, whose inside
    no clock can see. ``resumed_elsewhere`` says what was different where the run went on (a version, a GPU):
    its seconds and memory are then those of no one machine. ``unknown`` says why ``counts`` or Definition 1
    (``definition_1``) are not known, where they were asked for and are not, and what is not known of the inner loop
    (``convexity``) or the tasks. ``trial``: a study chose among such runs.
    ``route``: whether the oracles' layers are written out (and why not), whether features of a shared body are computed
    once a task, and how far that was from the model's own forward before the first iteration.
    ``files``: digests of what it belongs to, see :func:`harness.store.directory.changed`.
    """
    trainer.count_wall()
    config, totals = setup.config, trainer.totals
    seen = evaluation or {}
    tasks = totals.iteration * config.meta_batch
    return {
        "schema": SCHEMA,
        "status": status,
        "run_dir": str(path),
        "files": digests(path),
        "key": path.name.rpartition("-")[2],
        "algorithm": config.algo,
        "geometry": config.geometry,
        "engine": config.engine,
        "strategy": setup.engine.strategy,
        "route": setup.route.words,
        "benchmark": config.benchmark,
        "model": config.model,
        "adapt": config.adapt,
        "loss_function": config.loss,
        "loss_options": config.loss_options,
        "ways": config.ways,
        "shots": config.shots,
        "queries": config.queries,
        "inner_steps": config.inner_steps,
        "inner_lr": config.inner_lr,
        "meta_batch": config.meta_batch,
        "task_chunk": trainer.chunks.size,
        "iterations": config.iterations,
        "iterations_done": totals.iteration,
        "seed": config.seed,
        "device": str(setup.device),
        "dtype": config.dtype,
        "n_w": setup.problem.network.n_w,
        "n_phi": setup.problem.network.n_phi,
        "w": [slot.name for slot in setup.problem.network.w_slots],
        "counts": totals.counts,
        "counts_per_task": {
            name: None if count is None else count // tasks if tasks else 0 for name, count in totals.counts.items()
        },
        "train_loss": totals.train_loss,
        "accuracy": {
            "mean": seen.get("accuracy"),
            "ci95": seen.get("accuracy_ci95"),
            "before_adaptation": seen.get("accuracy_before_adaptation"),
            "before_adaptation_ci95": seen.get("accuracy_before_adaptation_ci95"),
            "tasks": seen.get("tasks", 0),
        },
        "loss": {
            "mean": seen.get("loss"),
            "ci95": seen.get("loss_ci95"),
            "before_adaptation": seen.get("loss_before_adaptation"),
            "before_adaptation_ci95": seen.get("loss_before_adaptation_ci95"),
        },
        "metrics": seen.get("metrics", {}),
        "diverged": trainer.divergence,
        "unknown": trainer.unknown,
        "resumed_elsewhere": resumed_elsewhere,
        "trial": trial,
        "out_of_memory": trainer.shortage,
        "stopped": trainer.stopped if status == "stopped" else None,
        "seconds": {
            "train": totals.seconds,
            "first_iteration": totals.first_iteration,
            "features": totals.phases.get("features"),
            "inner_gradient": totals.phases.get("inner_gradient"),
            "outer_gradient": totals.phases.get("outer_gradient"),
            "second_order": totals.phases.get("second_order"),
            "outer_update": totals.phases.get("outer_update"),
            "wall": totals.wall,
        },
        "flops_per_iteration": trainer.flops_per_iteration() if trainer.stationarity and status in FINISHED else None,
        "peak_memory_bytes": totals.peak_memory_bytes,
    }
