"""The plain oracle: any model, one task after the other, by autograd. The yardstick for every faster one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from harness.problem.objective import accuracy, metrics, task_loss
from harness.problem.oracle import Clock, Counts, Inner, Outcome
from harness.problem.partition import Network
from harness.problem.solving import SolvingOracle
from harness.problem.tasks import TaskBatch


class AutogradOracle(SolvingOracle):
    """Evaluates the losses task by task with ``functional_call`` and differentiates with autograd.

    Differentiating inside each task, never through ``vmap``, keeps clear of the second-derivative
    fault of ``vmap`` over ``F.batch_norm`` in torch 2.14 and 2.15.
    """

    def __init__(
        self,
        network: Network,
        inner: Inner,
        w: Tensor,
        phi: Tensor,
        batch: TaskBatch,
        *,
        differentiation: str = "recursion",
        counts: Counts | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(network, inner, w, phi, batch, differentiation, counts, clock)
        self.phi.requires_grad_()
        self._encode()

    def _encode(self) -> None:
        with self.clock.phase("features"):
            self._encoded  # noqa: B018 - computed here, and once

    @cached_property
    def _encoded(self) -> tuple[Tensor, Tensor]:
        support, query = self.batch.support_x, self.batch.query_x
        if self.network.body is None:
            return support, query
        with torch.enable_grad():  # whoever asks first, phi_gradient will need the graph
            if self.inner.norm_statistics == "joint" or self.network.together:
                both = self.network.encode(self.phi, torch.cat([support, query], 1))
                return both[:, : support.shape[1]], both[:, support.shape[1] :]
            return self.network.encode(self.phi, support), self.network.encode(self.phi, query)

    @property
    def support(self) -> Tensor:
        """Features of the support sets ``[B, n, ...]``; the examples themselves where there is no body."""
        return self._encoded[0]

    @property
    def query(self) -> Tensor:
        """Features of the query sets."""
        return self._encoded[1]

    @cached_property
    def split(self) -> tuple[int, int]:
        """See :attr:`SolvingOracle.split`."""
        return (self.support[0].numel(), self.query[0].numel()) if self.network.body else (0, 0)

    @cached_property
    def s(self) -> Tensor:
        """What the tasks share, ``[B, n_s]`` (see :mod:`harness.problem.oracle`)."""
        own = self.phi[self.n_phi - self.n_own :]
        shared = torch.cat([self.network.tail_phi(self.phi), own]).detach().expand(self.tasks, -1)
        if self.network.body is None:
            return shared.clone().requires_grad_()
        parts = (self.support.detach().flatten(1), self.query.detach().flatten(1), shared)
        return torch.cat(parts, 1).requires_grad_()

    def _loss_at(self, w: Tensor, tail_phi: Tensor, h: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (without the inner regulariser) and predictions ``[S, out]`` of one task for its features ``h``."""
        prediction = self.network.predict(w, tail_phi, h)
        return task_loss(self.inner.loss, prediction, target), prediction

    def _regularised(self, w: Tensor, tail_phi: Tensor, h: Tensor, target: Tensor) -> Tensor:
        """The inner objective of one task."""
        loss = self._loss_at(w, tail_phi, h, target)[0]
        return loss + self.inner.l2 / 2 * w.square().sum() if self.inner.l2 else loss

    def _at(self, task: int, s: Tensor, query: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Shared parameters of the tail, features and targets of one task, the first two out of ``s`` ``[n_s]``."""
        a, b = self.split
        h, target = (self.query, self.batch.query_y) if query else (self.support, self.batch.support_y)
        # By split, here and in the network: the derivative of a slice would be all the rest in zeros.
        of_support, of_query, tail_phi, _ = s.split([a, b, self.network.n_tail_phi, self.n_own])
        features = h[task]
        if self.network.body is not None:
            features = (of_query if query else of_support).view(features.shape)
        return tail_phi, features, target[task]

    def _loss(self, task: int, w: Tensor, s: Tensor, query: bool) -> tuple[Tensor, Tensor]:
        return self._loss_at(w, *self._at(task, s, query))

    def _objective(self, task: int, w: Tensor, s: Tensor) -> Tensor:
        return self._regularised(w, *self._at(task, s, query=False))

    def _leaves(self, w: Tensor, shared: bool) -> Iterator[tuple[int, Tensor, Tensor]]:
        """One task after the other, so that only its graph is alive: w ``[n_w]`` and s ``[n_s]`` as leaves."""
        for task in range(self.tasks):
            yield task, w[task].detach().requires_grad_(), self.s[task].detach().requires_grad_(shared)

    def _inner_gradient(self, w: Tensor, linearise: bool) -> Tensor:
        if not w.requires_grad:
            leaves = self._leaves(w, shared=False)
            return torch.stack([torch.autograd.grad(self._objective(task, w, s), w)[0] for task, w, s in leaves])
        tasks = enumerate(zip(w.unbind(), self.s.unbind(), strict=True))
        objective = torch.stack([self._objective(task, of_w, of_s) for task, (of_w, of_s) in tasks]).sum()
        gradient = torch.autograd.grad(objective, w, create_graph=True)[0]
        # The hook fires when the reverse pass differentiates this gradient: that is the second-order
        # product being executed, so it is counted there and nowhere else.
        if gradient.requires_grad:
            gradient.register_hook(lambda _: self._count_second_order())
        return gradient

    def _outer_gradient(self, w: Tensor) -> tuple[Tensor, Tensor]:
        rows = []
        for task, of_w, of_s in self._leaves(w, shared=True):
            loss, prediction = self._loss(task, of_w, of_s, query=True)
            gradients = torch.autograd.grad(loss, (of_w, of_s), allow_unused=True, materialize_grads=True)
            rows.append((loss.detach(), prediction.detach(), *gradients))
        losses, predictions, v, g = (torch.stack(parts) for parts in zip(*rows, strict=True))
        self.outcome = self._outcome(losses, predictions)
        return v, g

    def _second_order_products(self, w: Tensor, u: Tensor, mixed: bool) -> tuple[Tensor, Tensor]:
        rows = []
        for task, of_w, of_s in self._leaves(w, shared=mixed):
            gradient = torch.autograd.grad(self._objective(task, of_w, of_s), of_w, create_graph=True)[0]
            inputs = (of_w, of_s) if mixed else (of_w,)
            if gradient.requires_grad:
                rows.append(torch.autograd.grad(gradient, inputs, u[task], allow_unused=True, materialize_grads=True))
            else:  # an objective that is linear in w
                rows.append(tuple(torch.zeros_like(part) for part in inputs))
        hessian_u, *mixed_u = (torch.stack(parts) for parts in zip(*rows, strict=True))
        return hessian_u, mixed_u[0] if mixed else torch.zeros_like(self.s)

    def _pull_back(self, w: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        assert self.recorded_from is not None, "pull_back needs an inner loop from initial(record=True)"
        inputs = (self.recorded_from, self.s)
        v, g = torch.autograd.grad(w, inputs, v, allow_unused=True, materialize_grads=True)
        return v, g

    def _support(self) -> Tensor:
        return self.support

    def _phi_gradient(self, g: Tensor) -> Tensor:
        a, b = self.split
        result = torch.zeros_like(self.phi)
        if self.network.body_slots:
            features = (self.support, self.query)
            cotangents = (g[:, :a].view(self.support.shape), g[:, a : a + b].view(self.query.shape))
            result = torch.autograd.grad(features, self.phi, cotangents)[0] / self.tasks
        start = a + b
        for slot in (*self.network.tail_slots, *self.network.own_slots):
            size = slot.shape.numel()
            result[slot.start : slot.stop] = g[:, start : start + size].mean(0)
            start += size
        return result.detach()

    def evaluate(self, w: Tensor) -> Outcome:
        """See :meth:`Oracle.evaluate`."""
        with torch.no_grad():
            pairs = [self._loss(task, w[task], self.s[task], query=True) for task in range(self.tasks)]
            losses, predictions = (torch.stack(parts) for parts in zip(*pairs, strict=True))
            return self._outcome(losses, predictions)

    def _outcome(self, losses: Tensor, predictions: Tensor) -> Outcome:
        found = self.inner.loss, predictions.detach(), self.batch.query_y
        return Outcome(losses.detach(), accuracy(*found), metrics(*found))
