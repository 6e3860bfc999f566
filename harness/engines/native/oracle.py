"""The oracle over written-out layers: no autograd graph, features once, linearisations kept or computed again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from harness.engines.native.layers import State, channels_last
from harness.engines.native.losses import LossGradient
from harness.engines.native.stack import Part, Stack
from harness.problem.objective import accuracy, metrics, task_loss
from harness.problem.oracle import Clock, Counts, Inner, Outcome
from harness.problem.solving import SolvingOracle
from harness.problem.tasks import TaskBatch

#: entries of the widest activation of the tasks that pass through a part of the network together, or of their weights
MOST = 2**24


@dataclass
class Linearisation:
    """The gradient of some tasks' loss, evaluated at one point so that its derivative can be applied."""

    tasks: slice
    states: list[State]
    loss: LossGradient


class LayerOracle(SolvingOracle):
    """Evaluates a :class:`Stack` on a batch of tasks; see :class:`Oracle` for the interface.

    A body that is not written out is differentiated by autograd, once a batch, as ``network`` has it.

    On the CPU a limited number of tasks pass together through convolutional layers, each chunk about as large;
    linear layers, and other devices, take all tasks at once.
    """

    def __init__(
        self,
        stack: Stack,
        inner: Inner,
        w: Tensor,
        phi: Tensor,
        batch: TaskBatch,
        *,
        keep: bool = True,
        differentiation: str = "recursion",
        counts: Counts | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(stack.network, inner, w, phi, batch, differentiation, counts, clock)
        self.stack, self.keep = stack, keep
        self.tail_phi = self.network.tail_phi(self.phi)
        #: linearisations by the identity of w; the version tells whether w was changed in place since
        self.kept: dict[int, tuple[Tensor, int, list[Linearisation]]] = {}
        #: for each pass through the body, the states of every chunk of tasks
        self.body_passes: list[list[tuple[slice, list[State]]]] = []
        #: of a body by autograd: phi, and features with their graph
        self.leaf, self.graphs = self.phi.clone().requires_grad_(), list[Tensor]()
        support, query = batch.support_x, batch.query_x
        if stack.body is not None:
            support, query = _images(support), _images(query)
        with torch.no_grad(), self.clock.phase("features"):
            if inner.norm_statistics == "joint" or (stack.body is None and self.network.together):
                both = self._through_body(torch.cat([support, query], 1))
                self.support, self.query = both.split([support.shape[1], query.shape[1]], 1)
            else:
                self.support, self.query = self._through_body(support), self._through_body(query)

    @cached_property
    def split(self) -> tuple[int, int]:
        """See :attr:`SolvingOracle.split`; without a body that is trained there is nothing to pull features back to."""
        return (self.support[0].numel(), self.query[0].numel()) if self.network.body_slots else (0, 0)

    def _beside(self, w: Tensor, shared: Tensor) -> Tensor:
        """``w`` ``[B, n_w]`` and, of what the tail shares, ``[n_tail_phi]``, as the tail takes its parameters."""
        return torch.cat([w, shared.expand(len(w), -1)], 1) if len(shared) else w

    def _in_s(self, at: int, features: Tensor, tail: Tensor) -> Tensor:
        """The cotangent of s that is ``features`` ``[B, -1]`` from entry ``at`` on, and then what the tail shares."""
        g = features.new_zeros(self.tasks, sum(self.split) + self.network.n_tail_phi + self.n_own)
        g[:, at : at + features.shape[1]] = features
        g[:, sum(self.split) : g.shape[1] - self.n_own] = tail[:, self.n_w :]
        return g

    def _chunks(self, part: Part, x: Tensor) -> list[slice]:
        """Tasks that go through ``part`` together, given its input ``x`` ``[B, n, ...]``."""
        chunks, entries = 1, part.widest(x)
        if self.w.device.type == "cpu" and entries:
            entries = max(entries, self.n_w if part is self.stack.tail else 0)
            chunks = -(-self.tasks // max(1, MOST // entries))
        size = -(-self.tasks // chunks)
        return [slice(start, min(start + size, self.tasks)) for start in range(0, self.tasks, size)]

    def _through_body(self, x: Tensor) -> Tensor:
        """Features ``[B, n, ...]`` of ``x`` ``[B, n, ...]``; keeps the states for the way back."""
        body = self.stack.body
        if body is None:
            with torch.enable_grad():
                self.graphs.append(self.network.encode(self.leaf, x))
            return self.graphs[-1].detach()
        if not body.layers:
            return x
        features: list[Tensor] = []
        self.body_passes.append([])
        for tasks in self._chunks(body, x):
            groups = tasks.stop - tasks.start
            y, states = body.forward(_enter(body, x[tasks]), self.phi[None], groups)
            self.body_passes[-1].append((tasks, states))
            features.append(y.unflatten(0, (groups, -1)) if body.gives_images else y)
        return torch.cat(features)

    def _linearise(self, w: Tensor, query: bool) -> tuple[Tensor, Tensor, list[Linearisation], Tensor]:
        """Gradients in the tail's parameters and in its features ``[B, -1]``, linearisations, predictions."""
        h = self.query if query else self.support
        targets = self.batch.query_y if query else self.batch.support_y
        tail, at = self.stack.tail, self._beside(w, self.tail_phi)
        gradient = tail.empty(at)
        kept, through, predictions = [], [], []
        need_input = query and self.split[1] > 0
        for tasks in self._chunks(tail, h):
            prediction, states = tail.forward(_enter(tail, h[tasks]), at[tasks], tasks.stop - tasks.start)
            loss = LossGradient(self.inner.loss, prediction, targets[tasks])
            gh = tail.backward(states, loss.gradient, gradient[tasks], need_input, add=False)
            kept.append(Linearisation(tasks, states, loss))
            predictions.append(prediction)
            if gh is not None and need_input:
                through.append(gh.reshape(tasks.stop - tasks.start, -1))
        return gradient, torch.cat(through) if through else w[:, :0], kept, torch.cat(predictions)

    @torch.no_grad()
    def _inner_gradient(self, w: Tensor, linearise: bool) -> Tensor:
        gradient, _, kept, _ = self._linearise(w, query=False)
        if linearise and self.keep:
            self.kept[id(w)] = (w, w._version, kept)
        gradient = gradient[:, : self.n_w]
        return gradient.add_(w, alpha=self.inner.l2) if self.inner.l2 else gradient

    @torch.no_grad()
    def _outer_gradient(self, w: Tensor) -> tuple[Tensor, Tensor]:
        v, g_query, _, prediction = self._linearise(w, query=True)
        self.outcome = self._outcome(prediction)
        return v[:, : self.n_w], self._in_s(self.split[0], g_query, v)

    @torch.no_grad()
    def _second_order_products(self, w: Tensor, u: Tensor, mixed: bool) -> tuple[Tensor, Tensor]:
        kept_w, version, linearisations = self.kept.get(id(w), (None, 0, []))
        if kept_w is not w or version != w._version:
            linearisations = self._linearise(w, query=False)[2]
        l2, tail = self.inner.l2, self.stack.tail
        along = self._beside(u, torch.zeros_like(self.tail_phi))
        product = along * l2 if l2 else tail.empty(along)
        through = u.new_zeros(self.tasks, self.split[0])
        need_input = mixed and self.split[0] > 0
        for at in linearisations:
            own_u, into = along[at.tasks], product[at.tasks]
            prediction_dot, inputs_dot = tail.tangent(at.states, own_u)
            loss_dot = at.loss.tangent(prediction_dot)
            gh_dot = tail.backward_tangent(at.states, inputs_dot, own_u, loss_dot, into, need_input, add=l2 != 0)
            if need_input and gh_dot is not None:
                through[at.tasks] = gh_dot.reshape(-1, self.split[0])
        return product[:, : self.n_w], self._in_s(0, through, product)

    @torch.no_grad()
    def _phi_gradient(self, g: Tensor) -> Tensor:
        result = torch.zeros_like(self.phi)
        *features, behind = g.split([*self.split, self.network.n_tail_phi + self.n_own], 1)
        behind = behind.sum(0)
        for slot in (*self.network.tail_slots, *self.network.own_slots):
            size = slot.shape.numel()
            result[slot.start : slot.stop], behind = behind[:size], behind[size:]
        if not self.split[0]:
            return result / self.tasks
        cotangents = [part.view(h.shape) for part, h in zip(features, (self.support, self.query), strict=True)]
        if len(self.graphs or self.body_passes) == 1:
            cotangents = [torch.cat(cotangents, 1)]
        if self.stack.body is None:
            pulled = torch.autograd.grad(self.graphs, self.leaf, cotangents, materialize_grads=True)
            return (result + pulled[0]) / self.tasks
        for cotangent, chunks in zip(cotangents, self.body_passes, strict=True):
            for tasks, states in chunks:
                part = cotangent[tasks]
                part = channels_last(part.flatten(0, 1)) if self.stack.body.gives_images else part
                self.stack.body.backward(states, part, result[None], need_input=False)
        return result / self.tasks

    def _support(self) -> Tensor:
        return self.support  # type: ignore[no-any-return]

    @torch.no_grad()
    def evaluate(self, w: Tensor) -> Outcome:
        """See :meth:`Oracle.evaluate`."""
        tail, w = self.stack.tail, self._beside(w, self.tail_phi)
        predictions = [
            tail.forward(_enter(tail, self.query[tasks]), w[tasks], tasks.stop - tasks.start)[0]
            for tasks in self._chunks(tail, self.query)
        ]
        return self._outcome(torch.cat(predictions))

    def _outcome(self, prediction: Tensor) -> Outcome:
        targets = self.batch.query_y
        pairs = zip(prediction, targets, strict=True)
        losses = torch.stack([task_loss(self.inner.loss, one, target) for one, target in pairs])
        loss = self.inner.loss
        return Outcome(losses, accuracy(loss, prediction, targets), metrics(loss, prediction, targets))


def _enter(part: Part, x: Tensor) -> Tensor:
    """``[G, n, ...]`` in the layout that the first layer of ``part`` takes."""
    return channels_last(x.flatten(0, 1)) if part.layers[0].merged_input else x


def _images(x: Tensor) -> Tensor:
    """``[B, n, C, H, W]`` with every image in channels-last memory; other inputs as they are."""
    return channels_last(x.flatten(0, 1)).unflatten(0, x.shape[:2]) if x.dim() == 5 else x
