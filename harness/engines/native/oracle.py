"""The oracle over written-out layers: no autograd graph, features once, linearisations kept or computed again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.engines.native.layers import State, channels_last
from harness.engines.native.losses import LossGradient
from harness.engines.native.stack import Part, Stack
from harness.problem.objective import accuracy, metrics, task_loss
from harness.problem.oracle import Clock, Counts, Inner, Oracle, Outcome
from harness.problem.partition import Network
from harness.problem.tasks import TaskBatch

#: entries of the widest activation of the tasks that pass through a part of the network together, or of their weights
MOST = 2**24


@dataclass
class Linearisation:
    """The gradient of some tasks' loss, evaluated at one point so that its derivative can be applied."""

    tasks: slice
    states: list[State]
    loss: LossGradient


class LayerOracle(Oracle):
    """Evaluates a :class:`Stack` on a batch of tasks; see :class:`Oracle` for the interface.

    A body that is not written out is differentiated by autograd, once a batch, as ``network`` has it.

    On the CPU a limited number of tasks pass together through convolutional layers, each chunk about as large;
    linear layers, and other devices, take all tasks at once.
    """

    def __init__(
        self,
        stack: Stack,
        network: Network,
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
        super().__init__(counts, clock)
        self.differentiation = differentiation
        self.stack, self.network, self.inner, self.batch, self.keep = stack, network, inner, batch, keep
        self.n_w, self.n_phi, self.tasks = stack.n_w, stack.n_phi, batch.tasks
        self.w, self.phi = w.detach(), phi.detach()
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
            if inner.norm_statistics == "joint" or (stack.body is None and network.together):
                both = self._through_body(torch.cat([support, query], 1))
                self.support, self.query = both.split([support.shape[1], query.shape[1]], 1)
            else:
                self.support, self.query = self._through_body(support), self._through_body(query)
        # Without shared parameters there is nothing to pull back to, and s is empty.
        self.n_s = (self.support[0].numel(), self.query[0].numel()) if self.n_phi else (0, 0)

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
        """Gradients in w ``[B, n_w]`` and in the features ``[B, -1]``, linearisations, predictions."""
        h = self.query if query else self.support
        targets = self.batch.query_y if query else self.batch.support_y
        tail = self.stack.tail
        gradient = tail.empty(w)
        kept, through, predictions = [], [], []
        for tasks in self._chunks(tail, h):
            prediction, states = tail.forward(_enter(tail, h[tasks]), w[tasks], tasks.stop - tasks.start)
            loss = LossGradient(self.inner.loss, prediction, targets[tasks])
            gh = tail.backward(states, loss.gradient, gradient[tasks], query and self.n_phi > 0, add=False)
            kept.append(Linearisation(tasks, states, loss))
            predictions.append(prediction)
            if gh is not None and self.n_phi:
                through.append(gh.reshape(tasks.stop - tasks.start, -1))
        return gradient, torch.cat(through) if through else w[:, :0], kept, torch.cat(predictions)

    def _initial(self) -> Tensor:
        return self.w.expand(self.tasks, -1).clone()

    @torch.no_grad()
    def _inner_gradient(self, w: Tensor, linearise: bool) -> Tensor:
        gradient, _, kept, _ = self._linearise(w, query=False)
        if linearise and self.keep:
            self.kept[id(w)] = (w, w._version, kept)
        return gradient.add_(w, alpha=self.inner.l2) if self.inner.l2 else gradient

    @torch.no_grad()
    def _outer_gradient(self, w: Tensor) -> tuple[Tensor, Tensor]:
        v, g_query, _, prediction = self._linearise(w, query=True)
        self.outcome = self._outcome(prediction)
        return v, torch.cat([g_query.new_zeros(self.tasks, self.n_s[0]), g_query], 1)

    @torch.no_grad()
    def _second_order_products(self, w: Tensor, u: Tensor, mixed: bool) -> tuple[Tensor, Tensor]:
        kept_w, version, linearisations = self.kept.get(id(w), (None, 0, []))
        if kept_w is not w or version != w._version:
            linearisations = self._linearise(w, query=False)[2]
        l2, tail = self.inner.l2, self.stack.tail
        hessian_u = u * l2 if l2 else tail.empty(u)
        mixed_u = u.new_zeros(self.tasks, sum(self.n_s))
        need_input = mixed and self.n_phi > 0
        for at in linearisations:
            own_u, into = u[at.tasks], hessian_u[at.tasks]
            prediction_dot, inputs_dot = tail.tangent(at.states, own_u)
            loss_dot = at.loss.tangent(prediction_dot)
            gh_dot = tail.backward_tangent(at.states, inputs_dot, own_u, loss_dot, into, need_input, add=l2 != 0)
            if need_input and gh_dot is not None:
                mixed_u[at.tasks, : self.n_s[0]] = gh_dot.reshape(-1, self.n_s[0])
        return hessian_u, mixed_u

    @torch.no_grad()
    def _phi_gradient(self, g: Tensor) -> Tensor:
        result = torch.zeros_like(self.phi)
        if not self.n_phi:
            return result
        support = g[:, : self.n_s[0]].view(self.support.shape)
        query = g[:, self.n_s[0] :].view(self.query.shape)
        once = len(self.graphs or self.body_passes) == 1
        cotangents = [torch.cat([support, query], 1)] if once else [support, query]
        if self.stack.body is None:
            pulled = torch.autograd.grad(self.graphs, self.leaf, cotangents, materialize_grads=True)
            return pulled[0] / self.tasks
        for cotangent, chunks in zip(cotangents, self.body_passes, strict=True):
            for tasks, states in chunks:
                part = cotangent[tasks]
                part = channels_last(part.flatten(0, 1)) if self.stack.body.gives_images else part
                self.stack.body.backward(states, part, result[None], need_input=False)
        return result / self.tasks

    @torch.no_grad()
    def evaluate(self, w: Tensor) -> Outcome:
        """See :meth:`Oracle.evaluate`."""
        tail = self.stack.tail
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
