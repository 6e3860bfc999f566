"""What the module itself says: its own forward, one inner step and the meta-gradient through it, by nobody else.

The witness that every route is held to before a run. Parameters are put into the module and the module is called, as
its user would; nothing is cut, called as a function of other parameters, or written out. With N = 1

    w_1 = w_0 - alpha grad_w L_S(w_0),    v = grad_w L_D(w_1),
    dL/dw = v - alpha [grad_w^2 L_S(w_0)] v,    dL/dphi = grad_phi L_D(w_1) - alpha [grad_phi grad_w L_S(w_0)] v.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.errors import InputError
from harness.problem.losses import Loss
from harness.problem.oracle import Inner
from harness.problem.partition import Network
from harness.problem.tasks import TaskBatch

#: by how much alpha is made smaller, one after the other, until w_1 is finite: the formulas stay the same
_SMALLER = (1.0, 1e-2, 1e-4, 1e-8, 1e-16, 1e-32)


@dataclass(frozen=True)
class OwnForward:
    """Of B tasks: w_1 ``[B, n_w]`` after a step of ``inner_lr``, and predictions ``[B, n, out]`` and query losses
    ``[B]``, at w_0 and at w_1. The gradients in (w, phi) are means over the tasks; ``exact`` is None where not asked.
    """

    inner_lr: float
    w_1: Tensor
    support: tuple[Tensor, Tensor]
    query: tuple[Tensor, Tensor]
    losses: tuple[Tensor, Tensor]
    first_order: tuple[Tensor, Tensor]
    exact: tuple[Tensor, Tensor] | None


def own_forward(network: Network, inner: Inner, batch: TaskBatch, second_order: bool) -> OwnForward:
    """Everything from the module's own forward at its present parameters, which it has again afterwards.

    Raises :class:`InputError` for a module that cannot be differentiated as often as is needed.
    """
    w, phi = network.initial()
    try:
        for smaller in _SMALLER:
            found = _tasks(network, inner, inner.inner_lr * smaller, w, phi, batch, second_order)
            parts = (*found.support, *found.query, *found.losses, *found.first_order, *(found.exact or ()))
            if all(bool(part.isfinite().all()) for part in parts):
                break
        return found
    finally:
        network.load(w, phi)


def own_loss(loss: Loss | str, prediction: Tensor, target: Tensor) -> Tensor:
    """The loss of one task in torch's own words."""
    loss = Loss.of(loss)
    if loss.function is not None:
        value: Tensor = loss.function(prediction, target, **loss.options)
        return value
    if loss.name == "cross_entropy":
        weights, ignored = loss.options["class_weights"], loss.options["ignore_index"]
        return nn.functional.cross_entropy(
            prediction,
            target,
            weight=None if weights is None else torch.tensor(weights, dtype=prediction.dtype, device=prediction.device),
            ignore_index=-100 if ignored is None else ignored,
            label_smoothing=loss.options["label_smoothing"],
        )
    if loss.name == "huber":
        return nn.functional.huber_loss(prediction, target, delta=loss.options["delta"])
    words: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "mse": nn.functional.mse_loss,
        "l1": nn.functional.l1_loss,
        "bce": nn.functional.binary_cross_entropy_with_logits,
    }
    return words[loss.name](prediction, target)


def _tasks(
    network: Network, inner: Inner, inner_lr: float, w: Tensor, phi: Tensor, batch: TaskBatch, second_order: bool
) -> OwnForward:
    module = network.module
    named = network.parameters()
    of_w, of_phi = ([named[slot.name] for slot in slots] for slots in (network.w_slots, network.phi_slots))
    rows = []
    for task in range(batch.tasks):
        x, y, query, query_y = (part[task] for part in vars(batch).values())

        def objective(x: Tensor = x, y: Tensor = y) -> tuple[Tensor, Tensor]:
            prediction = module(x)
            penalty = inner.l2 / 2 * sum(part.square().sum() for part in of_w)
            return prediction, own_loss(inner.loss, prediction, y) + penalty

        network.load(w, phi)
        with torch.no_grad():
            query_0 = module(query)
        support_0, loss = objective()
        w_1 = w - inner_lr * _flat(_gradients(loss, of_w), w)
        network.load(w_1, phi)
        with torch.no_grad():
            support_1 = module(x)
        query_1 = module(query)
        loss_1 = own_loss(inner.loss, query_1, query_y)
        outer = _gradients(loss_1, of_w + of_phi)
        v, g_phi = _flat(outer[: len(of_w)], w), _flat(outer[len(of_w) :], phi)
        row = [w_1, support_0, support_1, query_0, query_1, own_loss(inner.loss, query_0, query_y), loss_1, v, g_phi]
        if second_order:
            network.load(w, phi)
            products = _second_order(objective()[1], of_w, of_w + of_phi, outer)
            row += [
                v - inner_lr * _flat(products[: len(of_w)], w),
                g_phi - inner_lr * _flat(products[len(of_w) :], phi),
            ]
        rows.append([part.detach() for part in row])
    w_1, *at, loss_0, loss_1, v, g_phi = (torch.stack(parts) for parts in list(zip(*rows, strict=True))[:9])
    exact = tuple(torch.stack(parts).mean(0) for parts in list(zip(*rows, strict=True))[9:])
    return OwnForward(
        inner_lr,
        w_1,
        (at[0], at[1]),
        (at[2], at[3]),
        (loss_0, loss_1),
        (v.mean(0), g_phi.mean(0)),
        (exact[0], exact[1]) if exact else None,
    )


def _gradients(loss: Tensor, inputs: Sequence[Tensor], create_graph: bool = False) -> list[Tensor]:
    if not loss.requires_grad:
        raise InputError(
            "gives a loss that no trained parameter enters (was the prediction detached?); allowed: one that does"
        )
    gradients = torch.autograd.grad(loss, inputs, create_graph=create_graph, allow_unused=True, materialize_grads=True)
    return list(gradients)


def _second_order(
    loss: Tensor, of_w: Sequence[Tensor], inputs: Sequence[Tensor], outer: Sequence[Tensor]
) -> list[Tensor]:
    """The derivatives in (w, phi) of <grad_w L_S, v>, ``outer`` beginning with v: both products of Proposition 1."""
    try:
        gradients = _gradients(loss, of_w, create_graph=True)
        against = sum((g * v).sum() for g, v in zip(gradients, outer, strict=False))
        if not (isinstance(against, Tensor) and against.requires_grad):
            return [torch.zeros_like(part) for part in inputs]
        return _gradients(against, inputs)
    except (NotImplementedError, RuntimeError) as error:
        if "derivative for" not in str(error) and "double backward" not in str(error):
            raise
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"has no second derivative ({reason}); try --algo fomaml, or another layer or loss (attention has one "
            f"under torch.nn.attention.sdpa_kernel(SDPBackend.MATH))"
        ) from error


def _flat(parts: list[Tensor], like: Tensor) -> Tensor:
    return torch.cat([like.new_zeros(0), *(part.reshape(-1) for part in parts)])
