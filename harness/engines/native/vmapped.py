"""The oracle that evaluates all tasks at once by ``torch.func.vmap``: any model that vmap knows, small ones fastest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, vmap

from harness.problem.autograd_oracle import AutogradOracle
from harness.problem.oracle import MetaGradient


class VmappedOracle(AutogradOracle):
    """What :class:`AutogradOracle` does a task at a time, over all tasks in one call of every layer.

    Differentiation is inside, ``vmap(grad(f))``: through it, ``grad(vmap(f))`` twice over ``F.batch_norm`` is wrong in
    torch 2.14 and 2.15. An exact meta-gradient is the gradient of one function of (w, phi), the whole inner loop and
    the features in it; its phases are not apart, so no ``clock`` sees them. Rules that ask step by step are answered
    step by step.
    """

    def _encode(self) -> None:
        """Features only when something asks for them: an exact meta-gradient has them in its own function."""

    def descent_gradient(self, inner_steps: int, inner_lr: float) -> MetaGradient:
        """See :meth:`Oracle.descent_gradient`."""
        self._count_descent(inner_steps)
        batch = self.batch

        def meta_loss(w: Tensor, phi: Tensor, *task: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            support_x, support_y, query_x, query_y = task
            support, query = self._features(phi, support_x, query_x)
            tail_phi = self.network.tail_phi(phi)
            for _ in range(inner_steps):
                w = w - inner_lr * grad(self._regularised)(w, tail_phi, support, support_y)
            loss, prediction = self._loss_at(w, tail_phi, query, query_y)
            return loss, (loss, prediction)

        # Parameters of all tasks, though they are alike: recurrent layers of examples alone fail under vmap.
        at = (self._initial(), self.phi.detach().expand(self.tasks, -1))
        tasks = (batch.support_x, batch.support_y, batch.query_x, batch.query_y)
        (v, g_phi), outcome = vmap(grad(meta_loss, argnums=(0, 1), has_aux=True))(*at, *tasks)
        self.outcome = self._outcome(*outcome)
        return MetaGradient(v.mean(0), g_phi.mean(0))

    def _features(self, phi: Tensor, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """Of one task's examples."""
        if self.network.body is None:
            return support, query
        if self.inner.norm_statistics == "joint":
            both = self.network.features(phi, torch.cat([support, query]))
            return both[: len(support)], both[len(support) :]
        return self.network.features(phi, support), self.network.features(phi, query)

    def _over_tasks(self, function: Callable[..., Any], w: Tensor, query: bool, *more: Tensor) -> Any:
        """``function(w, s, h, target, *more)`` of every task; h is the examples where there is no body."""
        h, target = (self.query, self.batch.query_y) if query else (self.support, self.batch.support_y)
        return vmap(function)(w.detach(), self.s.detach(), h.detach(), target, *more)

    def _parts(self, s: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """Features of support and query, None where there is no body, and the tail's phi."""
        of_support, of_query, tail_phi, _ = s.split([*self.split, self.network.n_tail_phi, self.n_own])
        return (None, None, tail_phi) if self.network.body is None else (of_support, of_query, tail_phi)

    def _inner_objective(self, w: Tensor, s: Tensor, h: Tensor, target: Tensor) -> Tensor:
        of_support, _, tail_phi = self._parts(s)
        return self._regularised(w, tail_phi, h if of_support is None else of_support.view(h.shape), target)

    def _inner_gradient(self, w: Tensor, linearise: bool) -> Tensor:
        if w.requires_grad:  # recorded, to be differentiated from outside
            return super()._inner_gradient(w, linearise)
        return self._over_tasks(grad(self._inner_objective), w, False)  # type: ignore[no-any-return]

    def _outer_gradient(self, w: Tensor) -> tuple[Tensor, Tensor]:
        def loss_of(w: Tensor, s: Tensor, h: Tensor, target: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            _, of_query, tail_phi = self._parts(s)
            loss, prediction = self._loss_at(w, tail_phi, h if of_query is None else of_query.view(h.shape), target)
            return loss, (loss, prediction)

        (v, g), outcome = self._over_tasks(grad(loss_of, argnums=(0, 1), has_aux=True), w, True)
        self.outcome = self._outcome(*outcome)
        return v, g

    def _second_order_products(self, w: Tensor, u: Tensor, mixed: bool) -> tuple[Tensor, Tensor]:
        def slope(w: Tensor, s: Tensor, h: Tensor, target: Tensor, u: Tensor) -> Tensor:
            along: Tensor = grad(self._inner_objective)(w, s, h, target) * u
            return along.sum()

        hessian_u, *mixed_u = self._over_tasks(grad(slope, argnums=(0, 1) if mixed else (0,)), w, False, u)
        return hessian_u, mixed_u[0] if mixed else torch.zeros_like(self.s)
