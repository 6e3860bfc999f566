"""The engine on TorchOpt (Ren et al. 2023), used as in its ``examples/few-shot/maml_omniglot.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.engines.engine import Problem
from harness.engines.peer import TaskByTask
from harness.errors import NotSupported

if TYPE_CHECKING:
    from torch import Tensor


class TorchOpt(TaskByTask):
    """``torchopt.MetaSGD`` on the tail itself, whose state is recovered after each task.

    TorchOpt has no first-order switch: ``step`` always records the graph of its gradient. For FOMAML
    ``torchopt.stop_gradient`` drops that graph after every step.
    """

    name = "torchopt"
    summary = "metaopt/torchopt: differentiable meta-optimizers on stateful modules"
    requires = ("torchopt", "pip install torchopt")

    def __init__(self, problem: Problem, strategy: str = "auto") -> None:
        super().__init__(problem, strategy)
        names = [name for name, _ in self.tail.named_parameters(remove_duplicate=False)]
        if len(names) > len(self.initial):
            raise NotSupported(
                f"engine {self.name} unties tied parameters (among {', '.join(names)}); try --engine native"
            )

    @cached_property
    def optimizer(self) -> Any:
        """The inner optimizer; its weight decay is the gradient of (l2 / 2) |w|^2."""
        import torchopt

        inner = self.problem.inner
        return torchopt.MetaSGD(self.tail, lr=inner.inner_lr, weight_decay=inner.l2)

    @contextmanager
    def adapted(self, support: Tensor, support_y: Tensor) -> Iterator[Callable[[Tensor], Tensor]]:
        """See :meth:`TaskByTask.adapted`."""
        import torchopt

        tail_state = torchopt.extract_state_dict(self.tail, by="reference", detach_buffers=True)
        optimizer_state = torchopt.extract_state_dict(self.optimizer, by="reference")
        try:
            for _ in range(self.problem.inner.inner_steps):
                self.optimizer.step(self.loss(self.tail(support), support_y))
                if self.first_order:
                    torchopt.stop_gradient(self.tail)
            yield self.tail
            if self.first_order and self.problem.inner.inner_steps:
                self.add_gradients(self.tail.parameters())
        finally:
            torchopt.recover_state_dict(self.tail, tail_state)
            torchopt.recover_state_dict(self.optimizer, optimizer_state)
