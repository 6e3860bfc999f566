"""Inner problems that are solved from features, and an algorithm's own parameters: what all oracles have alike."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.errors import NotSupported
from harness.problem.losses import Loss
from harness.problem.oracle import Clock, Counts, Inner, Oracle
from harness.problem.partition import Network
from harness.problem.tasks import TaskBatch

if TYPE_CHECKING:
    from harness.problem.oracle import Head


class SolvingOracle(Oracle):
    """An oracle on ``batch`` at flat ``w`` ``[n_w]`` and ``phi`` ``[n_phi]``. Subclasses say what features are."""

    def __init__(
        self,
        network: Network,
        inner: Inner,
        w: Tensor,
        phi: Tensor,
        batch: TaskBatch,
        differentiation: str,
        counts: Counts | None,
        clock: Clock | None,
    ) -> None:
        super().__init__(counts, clock)
        self.network, self.inner, self.batch = network, inner, batch
        self.n_w, self.n_phi, self.n_own, self.tasks = network.n_w, network.n_phi, network.n_own, batch.tasks
        self.w_slots = network.w_slots
        self.differentiation = differentiation
        self.w, self.phi = w.detach(), phi.detach()
        self.own = network.own_of(phi.detach())
        self._recorded: tuple[Tensor, tuple[Tensor, ...]] | None = None

    @property
    @abstractmethod
    def split(self) -> tuple[int, int]:
        """Entries of s that are features of the support and of the query."""

    @property
    def classes(self) -> bool:
        """See :class:`Oracle`."""
        return not self.batch.support_y.is_floating_point() or Loss.of(self.inner.loss).name == "cross_entropy"

    @property
    def targets(self) -> Tensor:
        """Targets of the support ``[B, S, out]``, ones and zeros where they are classes."""
        y, outputs = self.batch.support_y, self.network.linear_head().out_features
        if y.is_floating_point() and y.shape[2:] == (outputs,):
            return y
        if y.is_floating_point() or y.dim() != 2:
            raise NotSupported("an inner problem in closed form knows no targets of a loss of one's own")
        ignored = Loss.of(self.inner.loss).options.get("ignore_index")
        counted = torch.ones_like(y) if ignored is None else (y != ignored).to(y.dtype)
        return (F.one_hot(y * counted, outputs) * counted[..., None]).to(self.w.dtype)

    def cotangent(self, **own: Tensor) -> Tensor:
        """See :meth:`Oracle.cotangent`."""
        before = self.w.new_zeros(self.tasks, sum(self.split) + self.network.n_tail_phi)
        parts = [own[slot.name].reshape(self.tasks, -1) for slot in self.network.own_slots]
        return torch.cat([before, *parts], 1)

    def _initial(self) -> Tensor:
        return self.w.expand(self.tasks, -1).clone()

    @torch.enable_grad()
    def _solve(self, head: Head) -> Tensor:
        layer, features = self.network.linear_head(), self._support().detach().flatten(2).requires_grad_()
        if features.shape[2] != layer.in_features:
            raise NotSupported("an inner problem in closed form needs features that enter a linear layer as they are")
        start = self._initial().requires_grad_()
        own = {name: part.expand(self.tasks, *part.shape).requires_grad_() for name, part in self.own.items()}
        w = head(features, self.targets, start, **own)
        if w.shape != start.shape:
            raise ValueError(f"a solution of shape {list(w.shape)} instead of {list(start.shape)}")
        self._recorded = w, (start, features, *own.values())
        return w.detach()

    def _solve_back(self, v: Tensor) -> tuple[Tensor, Tensor]:
        assert self._recorded is not None, "solve_back needs a solve before it, and one of its own"
        (w, inputs), self._recorded = self._recorded, None
        start, features, *own = torch.autograd.grad(w, inputs, v, allow_unused=True, materialize_grads=True)
        g = self.cotangent(**dict(zip(self.own, own, strict=True)))
        if self.split[0]:
            g[:, : self.split[0]] = features.flatten(1)
        return start, g

    def _support(self) -> Tensor:
        """Features of the support sets ``[B, S, ...]``."""
        raise NotImplementedError
