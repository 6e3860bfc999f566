"""Held-out tasks: loss and accuracy before and after adaptation, with intervals over tasks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.engines.engine import blamed
from harness.experiment.ranks import ALONE, Alone
from harness.problem.tasks import draw

if TYPE_CHECKING:
    from harness.engines.chunks import TaskChunks
    from harness.engines.native import Native
    from harness.problem.benchmark import Benchmark
    from harness.problem.tasks import TaskBatch
    from harness.settings.config import RunConfig


def evaluate(
    engine: Native,
    w: Tensor,
    phi: Tensor,
    benchmark: Benchmark,
    config: RunConfig,
    split: str,
    chunks: TaskChunks,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    ranks: Alone = ALONE,
) -> dict[str, Any]:
    """Adapt to ``config.eval_tasks`` tasks of ``split`` and measure on their query sets.

    Their size and N are those of ``config.held_out``. In ``chunks`` of about a meta-batch, so that memory stays below
    that of training. Always by the native oracle, whatever engine trained. Numbers that are not finite are None. Of
    several ``ranks`` each adapts to its share.
    """

    shape = config.held_out

    def outcomes(first: int, stop: int) -> Tensor:
        """Loss, accuracy and other metrics, before and after, of each task: ``[2 (2 + metrics), stop - first]``."""
        batch = draw(benchmark, shape, split, first, stop - first, w.device, w.dtype)
        return batch.in_order([measured(group) for group in batch.groups])

    def measured(batch: TaskBatch) -> Tensor:
        oracle = engine.oracle(w, phi, batch)
        before = oracle.evaluate(oracle.initial().detach())
        with blamed(engine.problem.algorithm):
            adapted = engine.problem.algorithm.adapt(oracle, shape.inner_steps, shape.inner_lr)
        after = oracle.evaluate(adapted.detach())
        names[:] = after.metrics
        rows = [row for one in (before, after) for row in (one.loss, one.accuracy, *one.metrics.values())]
        return torch.stack([row.double() for row in rows])

    names: list[str] = []
    found, done = [], 0
    begin, end = ranks.share(config.eval_tasks)
    for tasks, part in chunks.over(end - begin, lambda first, stop: outcomes(begin + first, begin + stop)):
        found.append(part)
        done += tasks
        on_progress(done * config.eval_tasks // (end - begin), config.eval_tasks)
    before, after = ranks.joined(found, 1).cpu().chunk(2)
    names = ranks.first(names)
    result: dict[str, Any] = {"split": split, "tasks": config.eval_tasks}
    metrics: dict[str, dict[str, float | None]] = {}
    for name, was, values in zip(("loss", "accuracy", *names), before, after, strict=True):
        (mean, ci95), (mean_before, ci95_before) = mean_ci95(values), mean_ci95(was)
        if name in names:
            metrics[name] = {
                "mean": mean,
                "ci95": ci95,
                "before_adaptation": mean_before,
                "before_adaptation_ci95": ci95_before,
            }
        else:
            result[name], result[f"{name}_ci95"] = mean, ci95
            result[f"{name}_before_adaptation"], result[f"{name}_before_adaptation_ci95"] = mean_before, ci95_before
    return {**result, "metrics": metrics} if metrics else result


def mean_ci95(values: Tensor) -> tuple[float | None, float | None]:
    """Mean of ``values`` ``[n]`` and half the width of its normal 95 % interval; None where not finite."""
    mean = float(values.mean())
    half = 1.96 * float(values.std()) / math.sqrt(len(values))
    return finite(mean), finite(half)


def finite(value: float) -> float | None:
    """``value``, or None where it is no number that JSON can hold."""
    return value if math.isfinite(value) else None
