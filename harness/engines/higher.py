"""The engine on higher (Grefenstette et al. 2019), used as in its ``examples/maml-omniglot.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from harness.engines.peer import TaskByTask

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Higher(TaskByTask):
    """A patched copy of the tail per task, adapted by a differentiable copy of ``torch.optim.SGD``."""

    name = "higher"
    summary = "facebookresearch/higher: monkey-patched modules and differentiable optimizers"
    requires = ("higher", "pip install higher")

    @cached_property
    def optimizer(self) -> torch.optim.SGD:
        """The inner optimizer that higher copies; its weight decay is the gradient of (l2 / 2) |w|^2."""
        import torch

        inner = self.problem.inner
        return torch.optim.SGD(self.tail.parameters(), lr=inner.inner_lr, weight_decay=inner.l2)

    @contextmanager
    def adapted(self, support: Tensor, support_y: Tensor) -> Iterator[Callable[[Tensor], Tensor]]:
        """See :meth:`TaskByTask.adapted`."""
        import higher

        with higher.innerloop_ctx(
            self.tail, self.optimizer, copy_initial_weights=False, track_higher_grads=not self.first_order
        ) as (model, optimizer):
            for _ in range(self.problem.inner.inner_steps):
                optimizer.step(self.loss(model(support), support_y))
            yield model
            # Without higher gradients every step detaches the fast weights from those before it
            # (https://github.com/facebookresearch/higher/issues/63); before the first one they are attached.
            if self.first_order and self.problem.inner.inner_steps:
                self.add_gradients(model.fast_params)
