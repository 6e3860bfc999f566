"""Constants of the inner objective by Hessian-vector products: L, mu, xi, and kappa L, estimated through the oracle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.errors import InputError
from harness.problem.lanczos import Extremes, Product, lanczos, random_like
from harness.problem.oracle import Counts, NoClock, Oracle

#: parameters up to which Lanczos may span the whole space, and so leave no doubt
COMPLETE = 512


@dataclass(frozen=True)
class Estimate:
    """A number that is certainly attained, how far beyond it the extreme may lie, and whether that is within 1 %.

    L may be larger by ``error``, mu smaller: see :class:`~harness.problem.lanczos.Extremes` for the chance that it is
    further still.
    """

    value: float
    error: float
    converged: bool

    @classmethod
    def of(cls, value: float, error: float) -> Estimate:
        """``converged`` as the two numbers have it."""
        return cls(value, error, error <= 0.01 * abs(value))


@dataclass(frozen=True)
class InnerConstants:
    """Smoothness and strong convexity of the inner objective L_S + (lambda/2)|w|^2 in w, where it was looked at.

    ``L`` is the largest |eigenvalue| of any task's Hessian, ``mu`` the smallest eigenvalue, negative where the
    objective is not convex; ``xi`` = mu^2/L^2 of Table 1, None unless mu is positive with its error subtracted.
    """

    L: Estimate
    mu: Estimate
    xi: float | None


def largest_eigenvalue(oracle: Oracle, w: Tensor, *, generator: torch.Generator, iterations: int = 16) -> Tensor:
    """Largest |eigenvalue| of each task's inner Hessian at ``w`` ``[B, n_w]``, its norm, as ``[B]`` in float64.

    Of either sign: where negative curvature dominates it is what L means. At most ``iterations`` Hessian-vector
    products, uncounted and untimed; a lower bound that is usually within 1 % after 10 to 20. NaN where a product is
    not finite.
    """
    with uncounted(oracle):
        product = hessian(oracle, w)
        start = random_like(w, generator)
        return lanczos(product, start, steps=iterations, tolerance=1e-4, generator=generator, both=False).norm


def curvature(
    oracle: Oracle, w: Tensor, *, generator: torch.Generator, steps: int = 64, tolerance: float = 1e-3
) -> Extremes:
    """Both ends of the spectrum of each task's inner Hessian at ``w`` ``[B, n_w]``, by Lanczos.

    Uncounted and untimed. ``tolerance`` is relative to each eigenvalue; :attr:`Extremes.converged` says whether
    ``steps`` products sufficed, which for an eigenvalue near zero among many they may not. With up to
    :data:`COMPLETE` parameters there may be as many products as parameters instead, and then nothing stays open.
    """
    with uncounted(oracle):
        start = random_like(w, generator)
        most = max(steps, oracle.n_w if oracle.n_w <= COMPLETE else 0)
        return lanczos(hessian(oracle, w), start, steps=most, tolerance=tolerance, generator=generator)


def inner_constants(seen: Sequence[Extremes], floor: float | None = None) -> InnerConstants:
    """L, mu and xi over everything in ``seen``: tasks and points; NaN where one of them is.

    ``floor``: what mu cannot be below, such as lambda where L_S is known to be convex in w.
    """
    norms, norm_errors = torch.cat([e.norm for e in seen]), torch.cat([e.norm_error for e in seen])
    lows, low_errors = torch.cat([e.smallest for e in seen]), torch.cat([e.smallest_error for e in seen])
    norm, low = float(norms.max()), float(lows.min())
    beyond = low - float((lows - low_errors).min())
    if floor is not None and floor <= low:
        beyond = min(beyond, low - floor)
    mu = Estimate.of(low, beyond)
    L = Estimate.of(norm, float((norms + norm_errors).max()) - norm)
    return InnerConstants(L, mu, (mu.value / L.value) ** 2 if mu.value - mu.error > 0 else None)


def hessian(oracle: Oracle, w: Tensor) -> Product:
    """u -> [grad_w^2 L_S(w, phi)] u, on ``[B, n_w]``; keeps the linearisation where the oracle can."""
    if not oracle.n_w:
        raise InputError("the Hessian in w of a partition with n_w 0; allowed: at least one adapted parameter")
    w = w.detach()
    if oracle.differentiation != "unrolled":
        oracle.inner_gradient(w, linearise=True)
    return lambda u: oracle.hessian_product(w, u)


@contextmanager
def uncounted(oracle: Oracle) -> Iterator[None]:
    """Nothing that ``oracle`` evaluates inside is counted or timed."""
    counts, clock = oracle.counts, oracle.clock
    oracle.counts, oracle.clock = Counts(), NoClock()
    try:
        yield
    finally:
        oracle.counts, oracle.clock = counts, clock
