"""The witnesses: the meta-gradient by three programs that share nothing with the engines but the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.engines.engine import blamed
from harness.problem.algorithm import Algorithm
from harness.problem.autograd_oracle import AutogradOracle
from harness.problem.meta_loss import adapts_plainly, central_difference
from harness.problem.oracle import Inner
from harness.problem.own_forward import own_loss
from harness.problem.partition import Network
from harness.problem.tasks import TaskBatch

Gradient = tuple[Tensor, Tensor]


def _adapted(
    module: nn.Module, inner: Inner, w: dict[str, Tensor], phi: dict[str, Tensor], x: Tensor, y: Tensor, graph: bool
) -> dict[str, Tensor]:
    """w_N of one task: N gradient steps on the whole model."""
    for _ in range(inner.inner_steps):
        prediction = torch.func.functional_call(module, {**phi, **w}, (x,))
        objective = own_loss(inner.loss, prediction, y)
        objective = objective + inner.l2 / 2 * sum(part.pow(2).sum() for part in w.values())
        gradients = torch.autograd.grad(objective, list(w.values()), create_graph=graph)
        w = {name: part - inner.inner_lr * g for (name, part), g in zip(w.items(), gradients, strict=True)}
    return w


def by_autograd(module: nn.Module, w_names: list[str], inner: Inner, batch: TaskBatch, first_order: bool) -> Gradient:
    """(a) One task after the other: adapt the whole model, take the query loss, call autograd. Flat (w, phi)."""
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    parameters = {name: p.detach().clone().requires_grad_() for name, p in trained.items()}
    w = {name: parameters[name] for name in parameters if name in w_names}
    phi = {name: parameters[name] for name in parameters if name not in w_names}
    totals = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for task in range(batch.tasks):
        adapted = _adapted(module, inner, w, phi, batch.support_x[task], batch.support_y[task], not first_order)
        if first_order:
            adapted = {name: p.detach().requires_grad_() for name, p in adapted.items()}
        prediction = torch.func.functional_call(module, {**phi, **adapted}, (batch.query_x[task],))
        loss = own_loss(inner.loss, prediction, batch.query_y[task])
        at = {**phi, **(adapted if first_order else w)}
        gradients = torch.autograd.grad(loss, list(at.values()))
        for name, gradient in zip(at, gradients, strict=True):
            totals[name] += gradient / batch.tasks
    return _flat(totals, list(w)), _flat(totals, list(phi))


def by_plain_oracle(algorithm: Algorithm, network: Network, inner: Inner, batch: TaskBatch) -> Tensor:
    """The algorithm's own rule on the plain oracle, for a rule that nobody else knows. Flat (w, phi)."""
    oracle = AutogradOracle(network, inner, *network.initial(), batch)
    with blamed(algorithm):
        gradient = algorithm.meta_gradient(oracle, inner.inner_steps, inner.inner_lr)
    return torch.cat([gradient.w, gradient.phi]).detach()


def plain(algorithm: Algorithm, network: Network, inner: Inner, batch: TaskBatch) -> tuple[str, Tensor]:
    """Name and flat gradient of the witness that knows the algorithm: plain autograd, or its own rule's."""
    if algorithm.derivative is None or not adapts_plainly(algorithm):
        return "plain_oracle", by_plain_oracle(algorithm, network, inner, batch)
    names, first_order = [slot.name for slot in network.w_slots], algorithm.derivative == "first_order"
    return "autograd", torch.cat(by_autograd(network.module, names, inner, batch, first_order))


def by_finite_differences(
    module: nn.Module,
    w_names: list[str],
    inner: Inner,
    batch: TaskBatch,
    first_order: bool,
    directions: list[Tensor],
    step: float,
) -> Tensor:
    """(b) Derivatives of the meta-loss along flat ``directions`` in (w, phi) by central differences, 4th order.

    A first-order gradient is the derivative of the query loss at a w_N that is held fixed.
    """
    start = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
    order = [*w_names, *(name for name in start if name not in w_names)]

    def adapted(at: dict[str, Tensor], task: int) -> dict[str, Tensor]:
        w = {name: at[name].detach().requires_grad_() for name in w_names}
        phi = {name: at[name] for name in at if name not in w_names}
        return _adapted(module, inner, w, phi, batch.support_x[task], batch.support_y[task], False)

    fixed = [adapted(start, task) for task in range(batch.tasks)] if first_order else None

    def meta_loss(shift: dict[str, Tensor]) -> Tensor:
        at = {name: start[name] + shift[name] for name in start}
        total = torch.zeros((), dtype=torch.float64)
        for task in range(batch.tasks):
            w_n = adapted(at, task) if fixed is None else {name: fixed[task][name] + shift[name] for name in w_names}
            prediction = torch.func.functional_call(module, {**at, **w_n}, (batch.query_x[task],))
            total = total + own_loss(inner.loss, prediction, batch.query_y[task]).detach()
        return total / batch.tasks

    slopes = []
    for direction in directions:
        sizes = [start[name].numel() for name in order]
        parts = {name: d.view_as(start[name]) for name, d in zip(order, direction.split(sizes), strict=True)}

        def along(distance: float, parts: dict[str, Tensor] = parts) -> Tensor:
            return meta_loss({name: distance * part for name, part in parts.items()})

        slopes.append(central_difference(along, step))
    return torch.stack(slopes)


def by_closed_form(
    w: Tensor, phi: Tensor, inner: Inner, batch: TaskBatch, columns: tuple[list[int], list[int]], first_order: bool
) -> Gradient:
    """(c) The meta-gradient of linear models under squared loss, whose N steps have a closed form.

    prediction = x[:, columns of phi] phi + x[:, columns of w] w, so grad_w L_S = A w + C phi - b with
    A = (2/n) X_w^T X_w + lambda I; with P = (I - alpha A)^N and S = sum_{k<N} alpha (I - alpha A)^k,
    w_N = P w + S (b - C phi), dL/dw = P v and dL/dphi = grad_phi L_D - C^T S v, v = grad_w L_D(w_N).
    """
    of_w, of_phi = columns
    g_w, g_phi = torch.zeros_like(w), torch.zeros_like(phi)
    for task in range(batch.tasks):
        x_w, x_phi, y = batch.support_x[task][:, of_w], batch.support_x[task][:, of_phi], batch.support_y[task][:, 0]
        scale = 2.0 / len(y)
        a = scale * x_w.T @ x_w + inner.l2 * torch.eye(len(w), dtype=w.dtype)
        c, b = scale * x_w.T @ x_phi, scale * x_w.T @ y
        values, vectors = torch.linalg.eigh(a)
        decay = 1 - inner.inner_lr * values
        p = vectors @ torch.diag(decay**inner.inner_steps) @ vectors.T
        series = torch.stack([decay**k for k in range(inner.inner_steps)] or [torch.zeros_like(decay)]).sum(0)
        s = vectors @ torch.diag(inner.inner_lr * series) @ vectors.T
        w_n = p @ w + s @ (b - c @ phi)
        x_w, x_phi, y = batch.query_x[task][:, of_w], batch.query_x[task][:, of_phi], batch.query_y[task][:, 0]
        residual = (2.0 / len(y)) * (x_w @ w_n + x_phi @ phi - y)
        v = x_w.T @ residual
        g_w += (v if first_order else p @ v) / batch.tasks
        g_phi += (x_phi.T @ residual - (0 if first_order else c.T @ s @ v)) / batch.tasks
    return g_w, g_phi


def _flat(named: dict[str, Tensor], names: list[str]) -> Tensor:
    like = next(iter(named.values()))
    return torch.cat([like.new_zeros(0), *(named[name].reshape(-1) for name in names)])
