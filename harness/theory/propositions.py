"""Propositions 2 and 3 of Ji et al. 2020: how smooth L_meta is in each block, as N grows. Free of torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.errors import InputError
from harness.theory.bounds import require


@dataclass(frozen=True)
class SmoothnessBound:
    """Upper bounds on the Lipschitz constants of the partial meta-gradients, ``a_b``: of that in a, along b.

    ``phi_w`` is ``w_phi``: second derivatives are symmetric.
    """

    w_w: float
    w_phi: float
    phi_phi: float


def proposition_2(
    inner_steps: int, alpha: float, mu: float, L: float, *, M: float, rho: float, tau: float
) -> SmoothnessBound:
    """Strongly convex inner loop with alpha <= 1/L, so that a step contracts by q = 1 - alpha mu.

    The paper has alpha = mu/L^2 and, with polynomials in L, M, rho and tau that its appendix C.2 spells out, the orders
    on the left; those on the right are of the bounds returned, which are derived anew from Assumptions 1 and 2
    (:func:`_bound`).

        w along w       (1/mu) q^N               w_w      =  L q^{2N} + (rho M / mu) q^{N-1} (1 - q^N)
        w along phi     (1/mu + 1) N q^N         w_phi       (1/mu) (1 + alpha N) q^{N-1}
        phi along w     (1/mu) q^{N/2}           w_phi       the same, since second derivatives are symmetric: sharper
        phi along phi   mu^-3                    phi_phi     mu^-3, whatever N is

    Raises :class:`InputError` unless 0 < mu <= L and alpha <= 1/L.
    """
    require(alpha=alpha, mu=mu, L=L)
    if mu > L or alpha > 1 / L:
        raise InputError(f"mu {mu}, L {L}, alpha {alpha}: allowed: 0 < mu <= L and alpha <= 1/L")
    return _bound(1 - alpha * mu, inner_steps, alpha, L, M, rho, tau)


def proposition_3(inner_steps: int, alpha: float, L: float, *, M: float, rho: float, tau: float) -> SmoothnessBound:
    """Nonconvex inner loop: a step expands by at most q = 1 + alpha L, so every bound is of order q^{2N}.

    The paper, with alpha < O(1/N), has poly N for every block. These bounds are sharper there: with alpha = 1/N they
    stay below a constant, such as (L + M rho) e^{2L} for w_w, for every N. Then beta need not shrink like 1/N, and
    Theorem 2's K ~ N no longer follows. With an alpha that does not fall with N they grow exponentially. Infinite where
    they overflow.
    """
    require(alpha=alpha, L=L)
    return _bound(1 + alpha * L, inner_steps, alpha, L, M, rho, tau)


def _bound(q: float, N: int, alpha: float, L: float, M: float, rho: float, tau: float) -> SmoothnessBound:
    """The chain rule on Proposition 1 where every factor I - alpha H_m has norm at most q.

    Assumption 1: on the joint variable (w, phi), L_S and L_D are L-smooth, L_D is M-Lipschitz, and the Hessian in w
    and the mixed derivative of L_S are rho- and tau-Lipschitz. Iterates of two starting points that differ by (dw,
    dphi) are then at most q^m |dw| + d_m |dphi| apart, d_m = alpha L (1 + q + .. + q^{m-1}). A derivative in w of
    prod_m (I - alpha H_m) grad_w L_D(w_N, phi) meets L_D's gradient once and each of the N factors once; the
    derivative in phi of Proposition 1's sum likewise.
    """
    for name, value in (("N", N), ("M", M), ("rho", rho), ("tau", tau)):
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{name} {value}: allowed: a finite number >= 0")
    try:
        powers = [q**m for m in range(2 * N + 1)]
    except OverflowError:
        return SmoothnessBound(math.inf, math.inf, math.inf)
    apart = [0.0]  # d_0 .. d_N
    for m in range(N):
        apart.append(apart[-1] + alpha * L * powers[m])
    last = powers[N - 1] if N else 0.0
    w_w = L * powers[2 * N] + M * alpha * rho * last * math.fsum(powers[:N])
    w_phi = powers[N] * L * (1 + apart[N]) + M * alpha * rho * last * math.fsum(1 + d for d in apart[:N])
    phi_phi = L * (1 + apart[N])
    after = 0.0  # sum of 1 + d_j over the factors j = m+1 .. N-1
    for m in reversed(range(N)):
        phi_phi += alpha * powers[N - 1 - m] * (tau * (1 + apart[m]) * M + L**2 * (1 + apart[N]))
        if after:
            phi_phi += alpha**2 * L * M * rho * powers[N - 2 - m] * after
        after += 1 + apart[m]
    bounds = (w_w, w_phi, phi_phi)
    return SmoothnessBound(*(bound if math.isfinite(bound) else math.inf for bound in bounds))
