"""The engine on learn2learn (Arnold et al. 2020), used as in its ``examples/vision/{maml_omniglot,anil_fc100}.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.engines.peer import TaskByTask

if TYPE_CHECKING:
    from torch import Tensor


class Learn2Learn(TaskByTask):
    """``l2l.algorithms.MAML`` around the tail: cloned per task, adapted in place."""

    name = "learn2learn"
    summary = "learnables/learn2learn: MAML wrapper with clone() and adapt()"
    # Its source archive needs its C files generated anew: docs/learn2learn.md says why.
    requires = (
        "learn2learn",
        "pip install cython==3.3.1 setuptools wheel gym==0.26.2 requests scipy tqdm && "
        "pip install --use-pep517 --no-build-isolation --no-deps --config-settings=--global-option=build_ext "
        "qpth==0.0.18 learn2learn==0.2.0",
    )

    @cached_property
    def maml(self) -> Any:
        """The wrapped tail. Parameters that the loss does not use are allowed, as they are everywhere else."""
        import learn2learn

        return learn2learn.algorithms.MAML(
            self.tail, lr=self.problem.inner.inner_lr, first_order=self.first_order, allow_unused=True
        )

    @contextmanager
    def adapted(self, support: Tensor, support_y: Tensor) -> Iterator[Callable[[Tensor], Tensor]]:
        """See :meth:`TaskByTask.adapted`."""
        l2 = self.problem.inner.l2
        learner = self.maml.clone()
        for _ in range(self.problem.inner.inner_steps):
            loss = self.loss(learner(support), support_y)
            if l2:
                loss = loss + l2 / 2 * sum(parameter.square().sum() for parameter in learner.parameters())
            learner.adapt(loss)
        yield learner
