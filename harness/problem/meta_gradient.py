"""Proposition 1: the exact meta-gradient, by recursion and by differentiating the inner loop; the first-order one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.problem.oracle import MetaGradient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from harness.problem.oracle import Head, Oracle


def inner_loop(
    oracle: Oracle, inner_steps: int, inner_lr: float, linearise: bool = False, record: bool = False
) -> list[Tensor]:
    """w_{m+1} = w_m - alpha grad_w L_S(w_m, phi) (equation 2): the iterates w_0 .. w_N, each ``[B, n_w]``."""
    w = [oracle.initial(record)]
    for _ in range(inner_steps):
        w.append(w[-1] - inner_lr * oracle.inner_gradient(w[-1], linearise))
    return w


def step_back(oracle: Oracle, w: Tensor, u: Tensor, g_phi: Tensor, inner_lr: float) -> tuple[Tensor, Tensor]:
    """v_m = u - alpha hess_w L_S(w_m, phi) u and g_phi - alpha grad_phi grad_w L_S(w_m, phi) u, where u = v_{m+1}."""
    hessian_u, mixed_u = oracle.second_order_products(w, u)
    return u - inner_lr * hessian_u, g_phi - inner_lr * mixed_u


def proposition_1(oracle: Oracle, inner_steps: int, inner_lr: float) -> MetaGradient:
    """The exact meta-gradient by the explicit recursion of Proposition 1; keeps only the N iterates."""
    w = inner_loop(oracle, inner_steps, inner_lr, linearise=True)
    v, g_phi = oracle.outer_gradient(w[-1])
    for m in reversed(range(inner_steps)):
        v, g_phi = step_back(oracle, w[m], v, g_phi, inner_lr)
    return MetaGradient(v.mean(0), oracle.phi_gradient(g_phi))


def checkpointed(oracle: Oracle, inner_steps: int, inner_lr: float) -> MetaGradient:
    """The same recursion in the memory of 2 sqrt(N) iterates: every sqrt(N)-th is kept, those between come again."""
    length = math.isqrt(max(inner_steps - 1, 0)) + 1
    starts: list[Tensor] = []
    between: list[Tensor] = []
    w = oracle.initial()
    for m in range(inner_steps):
        if m % length == 0:
            starts.append(w)
            between = []
        between.append(w)
        w = w - inner_lr * oracle.inner_gradient(w)
    v, g_phi = oracle.outer_gradient(w)
    del w, starts[-1:]
    for _ in range(inner_steps):
        if not between:
            between.append(starts.pop())
            while len(between) < length:
                between.append(between[-1] - inner_lr * oracle.inner_gradient_again(between[-1]))
        v, g_phi = step_back(oracle, between.pop(), v, g_phi, inner_lr)
    return MetaGradient(v.mean(0), oracle.phi_gradient(g_phi))


def unrolled(oracle: Oracle, inner_steps: int, inner_lr: float) -> MetaGradient:
    """The same gradient by differentiating the recorded inner loop; keeps the graph of all N steps."""
    w = inner_loop(oracle, inner_steps, inner_lr, record=True)
    v, g_phi = oracle.outer_gradient(w[-1])
    v, through_loop = oracle.pull_back(w[-1], v)
    return MetaGradient(v.mean(0), oracle.phi_gradient(g_phi + through_loop))


def vmapped(oracle: Oracle, inner_steps: int, inner_lr: float) -> MetaGradient:
    """The same gradient, the inner loops of all tasks differentiated in one evaluation."""
    return oracle.descent_gradient(inner_steps, inner_lr)


def exact(oracle: Oracle, inner_steps: int, inner_lr: float) -> MetaGradient:
    """The exact meta-gradient in the way that the oracle was built for."""
    methods = {
        "unrolled": unrolled,
        "recursion": proposition_1,
        "checkpointed": checkpointed,
        "vmapped": vmapped,
    }
    return methods[oracle.differentiation](oracle, inner_steps, inner_lr)


def first_order(oracle: Oracle, inner_steps: int, inner_lr: float) -> MetaGradient:
    """The gradient of L_D at w_N with every second-order term dropped (Finn et al. 2017, section 5.2)."""
    w = oracle.initial()
    for _ in range(inner_steps):
        w = w - inner_lr * oracle.inner_gradient(w)
    v, g_phi = oracle.outer_gradient(w)
    return MetaGradient(v.mean(0), oracle.phi_gradient(g_phi))


def solved(oracle: Oracle, head: Head) -> MetaGradient:
    """The exact gradient of L_D at the w that :meth:`Oracle.solve` finds by ``head``, which is differentiated."""
    v, g_phi = oracle.outer_gradient(oracle.solve(head))
    v, through_solve = oracle.solve_back(v)
    return MetaGradient(v.mean(0), oracle.phi_gradient(g_phi + through_solve))


def by_rates(
    oracle: Oracle, rates: Sequence[Tensor], early: float = 0.0, second_order: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Proposition 1 with a step size for every step and entry of w: ``rates``, N of ``[n_w]``.

    Of early (L_D(w_1) + .. + L_D(w_{N-1})) + (1 - early (N - 1)) L_D(w_N); without ``second_order`` terms that is
    a first-order gradient. Cotangents of w_0 ``[B, n_w]`` and of s, and the slopes in the rates ``[B, N, n_w]``.
    """
    N = len(rates)
    w, slopes, before = [oracle.initial()], [], []
    for m in range(N):
        slopes.append(-oracle.inner_gradient(w[m], linearise=second_order))
        before.append(oracle.outer_gradient(w[m]) if early and m else None)
        w.append(w[m] + rates[m] * slopes[m])
    last = 1 - early * max(0, N - 1)
    v, g = (last * part for part in oracle.outer_gradient(w[N]))
    for m in reversed(range(N)):
        slopes[m] = slopes[m] * v
        if second_order:
            hessian_u, mixed_u = oracle.second_order_products(w[m], rates[m] * v)
            v, g = v - hessian_u, g - mixed_u
        if at := before[m]:
            v, g = v + early * at[0], g + early * at[1]
    in_rates = v.new_empty(len(v), N, v.shape[1])
    for m, part in enumerate(slopes):
        in_rates[:, m] = part
    return v, g, in_rates
