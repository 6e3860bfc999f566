"""From a trainer that has ended to the run's summary: ``summary.json`` and what ``harness run --json`` prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.problem.meta_loss import adapts_plainly
from harness.store.directory import digests
from harness.store.records import FINISHED, PHASES, SCHEMA, Status, Summary

if TYPE_CHECKING:
    from harness.experiment.setup import Setup
    from harness.experiment.train import Trainer


def summarise(
    status: Status,
    path: Path,
    setup: Setup,
    trainer: Trainer,
    evaluation: dict[str, Any] | None,
    resumed_elsewhere: list[str],
    trial: bool = False,
) -> dict[str, Any]:
    """What ``trainer`` did, which ended with ``status``; ``evaluation`` on test tasks, see :class:`.Summary`."""
    trainer.count_wall()
    config, totals = setup.config, trainer.totals
    seen = evaluation or {}
    tasks = totals.iteration * config.meta_batch
    document = {
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
        "plain_inner_loop": adapts_plainly(setup.problem.algorithm),
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
        "ranks": trainer.ranks.size,
        "dtype": config.dtype,
        "n_w": setup.problem.network.n_w,
        "n_phi": setup.problem.network.n_phi,
        "w": [slot.name for slot in setup.problem.network.w_slots],
        "counts": totals.counts,
        "counts_per_task": {
            name: None if count is None else count // tasks if tasks else 0 for name, count in totals.counts.items()
        },
        "train_loss": totals.train_loss,
        "accuracy": {**_held_out(seen, "accuracy"), "tasks": seen.get("tasks", 0)},
        "loss": _held_out(seen, "loss"),
        "metrics": seen.get("metrics", {}),
        "diverged": trainer.divergence,
        "unknown": trainer.unknown,
        "resumed_elsewhere": resumed_elsewhere,
        "trial": trial,
        "out_of_memory": trainer.shortage,
        "stopped": trainer.stopped if status == Status.STOPPED else None,
        "seconds": {
            "train": totals.seconds,
            "first_iteration": totals.first_iteration,
            **{phase: totals.phases.get(phase) for phase in PHASES},
            "wall": totals.wall,
        },
        "flops_per_iteration": trainer.flops_per_iteration() if trainer.stationarity and status in FINISHED else None,
        "peak_memory_bytes": totals.peak_memory_bytes,
    }
    return Summary(**document).document()


def _held_out(seen: dict[str, Any], name: str) -> dict[str, Any]:
    mean = {"mean": seen.get(name), "ci95": seen.get(f"{name}_ci95")}
    return mean | {part: seen.get(f"{name}_{part}") for part in ("before_adaptation", "before_adaptation_ci95")}
