"""Held-out tasks: loss and accuracy before and after adaptation, with intervals over tasks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.draw import draw
from harness.engines.engine import blamed

if TYPE_CHECKING:
    from harness.config import RunConfig
    from harness.engines.chunks import TaskChunks
    from harness.engines.native import Native
    from harness.problem.benchmark import Benchmark


def evaluate(
    engine: Native,
    w: Tensor,
    phi: Tensor,
    benchmark: Benchmark,
    config: RunConfig,
    split: str,
    chunks: TaskChunks,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Adapt to ``config.eval_tasks`` tasks of ``split`` and measure on their query sets.

    In ``chunks`` of about a meta-batch, so that memory stays below that of training. Always by the native oracle,
    whatever engine trained. Numbers that are not finite are None.
    """

    def outcomes(first: int, stop: int) -> Tensor:
        """Loss and accuracy, before and after, of each task: ``[4, stop - first]``."""
        oracle = engine.oracle(w, phi, draw(benchmark, config, split, first, stop - first, w.device, w.dtype))
        before = oracle.evaluate(oracle.initial().detach())
        with blamed(engine.problem.algorithm):
            adapted = engine.problem.algorithm.adapt(oracle, config.inner_steps, config.inner_lr)
        after = oracle.evaluate(adapted.detach())
        return torch.stack([part.double() for part in (before.loss, before.accuracy, after.loss, after.accuracy)])

    found, done = [], 0
    for tasks, part in chunks.over(config.eval_tasks, outcomes):
        found.append(part)
        done += tasks
        on_progress(done, config.eval_tasks)
    loss_before, accuracy_before, loss_after, accuracy_after = torch.cat(found, 1).cpu()
    result: dict[str, Any] = {"split": split, "tasks": config.eval_tasks}
    for name, values in (
        ("loss", loss_after),
        ("loss_before_adaptation", loss_before),
        ("accuracy", accuracy_after),
        ("accuracy_before_adaptation", accuracy_before),
    ):
        result[name], result[f"{name}_ci95"] = mean_ci95(values)
    return result


def mean_ci95(values: Tensor) -> tuple[float | None, float | None]:
    """Mean of ``values`` ``[n]`` and half the width of its normal 95 % interval; None where not finite."""
    mean = float(values.mean())
    half = 1.96 * float(values.std()) / math.sqrt(len(values))
    return finite(mean), finite(half)


def finite(value: float) -> float | None:
    """``value``, or None where it is no number that JSON can hold."""
    return value if math.isfinite(value) else None
