"""The small float64 problems that engines are verified on: CNN, MLP and quadratic, with random tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from harness.problem.losses import Loss
from harness.problem.models import build
from harness.problem.nets import cnn, coupled, mlp
from harness.problem.tasks import TaskBatch


@dataclass(frozen=True)
class SmallProblem:
    """A model and a batch of tasks for it in float64; ``adapt`` is the geometry's where it is None."""

    name: str
    loss: Loss | str
    module: nn.Module
    batch: TaskBatch
    inner_steps: tuple[int, ...] = (0, 1, 3)
    inner_lr: float = 0.05
    adapt: str | None = None
    #: how a run would go about it, see :mod:`harness.engines.agreement`
    cut: str = "layers"
    distrust: str = ""
    #: whether central differences say something: they do not where every step meets a kink
    differences: bool = True


def small_problems(seed: int, inputs: int = 8) -> list[SmallProblem]:
    """A CNN that classifies, an MLP that regresses, a linear model whose tasks are quadratics, and an MLP whose layers
    are frozen, tied, scaled by one number, and used twice.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    def made(factory: Any, shape: tuple[int, ...], outputs: int, **options: Any) -> nn.Module:
        module = build(factory, shape, outputs, options, seed=seed, device=torch.device("cpu"), dtype=torch.float64)
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.dim() == 1:  # scales and shifts start at 1 and 0, where some faults do not show
                    parameter.copy_(normal(*parameter.shape))
        return module

    def regression(*shape: int) -> TaskBatch:
        tasks, examples = shape[:2]
        targets = (normal(tasks, examples, 1) for _ in range(2))
        return TaskBatch(normal(*shape), next(targets), normal(*shape), next(targets))

    labels = torch.arange(3).repeat_interleave(2).expand(2, -1)
    examples = TaskBatch(normal(2, 6, 3), labels, normal(2, 6, 3), labels)
    images = TaskBatch(normal(2, 6, 3, 18, 18), labels, normal(2, 6, 3, 18, 18), labels)
    return [
        SmallProblem("cnn", "cross_entropy", made(cnn, (3, 18, 18), 3, filters=3), images),
        SmallProblem("mlp", "mse", made(mlp, (2,), 1, hidden=(5, 4)), regression(3, 7, 2)),
        SmallProblem("reused", "cross_entropy", made(reused, (3,), 3), examples),
        SmallProblem("quadratic", "mse", made(coupled, (inputs,), 1, dim_phi=3), regression(3, 6, inputs)),
    ]


class Temperature(nn.Module):
    """A learned scale of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` times one number."""
        return x * self.scale


def reused(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """What programs that walk through a model's layers get wrong."""
    frozen, tied, act = nn.Linear(input_shape[0], 4), nn.Linear(4, 4), nn.Tanh()
    frozen.requires_grad_(False)
    first = nn.Linear(4, 4)
    tied.weight = first.weight
    return nn.Sequential(frozen, act, first, act, tied, act, Temperature(), nn.Linear(4, 4), act, nn.Linear(4, outputs))
