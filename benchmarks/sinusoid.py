"""Sinusoid regression (Finn, Abbeel and Levine 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.problem.benchmark import SPLITS, RegressionBenchmark

if TYPE_CHECKING:
    import torch

    from harness.problem.benchmark import TaskShape
    from harness.problem.tasks import TaskBatch


class Sinusoid(RegressionBenchmark):
    """y = A sin(x - b), with A uniform in [0.1, 5], b in [0, pi] and x in [-5, 5]; inputs and targets ``[B, S, 1]``."""

    name = "sinusoid"
    summary = "regression of sine waves of random amplitude and phase"
    version = "sinusoid-1"
    model = "mlp"
    defaults = {"ways": 1, "shots": 10, "queries": 10, "inner_lr": 0.01}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """See :attr:`Benchmark.input_shape`."""
        return (1,)

    def draw(
        self, split: str, first: int, tasks: int, shape: TaskShape, device: torch.device, dtype: torch.dtype
    ) -> TaskBatch:
        """See :meth:`Benchmark.draw`; made on the CPU in float64, so that every device gets the same bits."""
        import torch

        from harness.problem.tasks import TaskBatch, random_uniform

        stream = SPLITS.index(split)
        task = torch.arange(first, first + tasks)[:, None]
        amplitude = 0.1 + 4.9 * random_uniform(shape.seed, stream, 0, task)
        phase = torch.pi * random_uniform(shape.seed, stream, 1, task)

        def points(part: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
            x = -5.0 + 10.0 * random_uniform(shape.seed, stream, part, task, torch.arange(number))
            y = amplitude * torch.sin(x - phase)
            return x[:, :, None].to(device, dtype), y[:, :, None].to(device, dtype)

        return TaskBatch(*points(2, shape.shots), *points(3, shape.queries))
