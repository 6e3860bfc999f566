"""Constants of the inner objective by Hessian-vector products: L, mu, xi, and kappa L, estimated through the oracle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.errors import InputError
from harness.problem.oracle import Counts, NoClock, Oracle
from harness.theory.lanczos import Extremes, Product, lanczos, random_like


@dataclass(frozen=True)
class Estimate:
    """A number, a bound on its distance to an eigenvalue, and whether that is within 1 % of it."""

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
    objective is not convex; ``xi`` = mu^2/L^2 of Table 1, None unless mu is certainly positive.
    """

    L: Estimate
    mu: Estimate
    xi: float | None


def largest_eigenvalue(oracle: Oracle, w: Tensor, *, generator: torch.Generator, iterations: int = 16) -> Tensor:
    """Largest eigenvalue of each task's inner Hessian at ``w`` ``[B, n_w]``, as ``[B]`` in float64.

    At most ``iterations`` Hessian-vector products, uncounted and untimed; a lower bound that is usually within 1 %
    after 10 to 20. NaN where a product is not finite.
    """
    with uncounted(oracle):
        product = hessian(oracle, w)
        start = random_like(w, generator)
        found = lanczos(product, start, steps=iterations, tolerance=1e-4, generator=generator, smallest=False)
    return found.largest


def curvature(
    oracle: Oracle, w: Tensor, *, generator: torch.Generator, steps: int = 64, tolerance: float = 1e-3
) -> Extremes:
    """Both ends of the spectrum of each task's inner Hessian at ``w`` ``[B, n_w]``, by Lanczos.

    Uncounted and untimed. ``tolerance`` is relative to each eigenvalue; :attr:`Extremes.converged` says whether
    ``steps`` products sufficed, which for an eigenvalue near zero among many they may not.
    """
    with uncounted(oracle):
        start = random_like(w, generator)
        return lanczos(hessian(oracle, w), start, steps=steps, tolerance=tolerance, generator=generator)


def inner_constants(seen: Sequence[Extremes]) -> InnerConstants:
    """L, mu and xi over everything in ``seen``: tasks and points; NaN where one of them is."""
    tops, lows = torch.cat([e.largest for e in seen]), torch.cat([e.smallest for e in seen])
    top_error = float(torch.cat([e.largest_error for e in seen]).max())
    low_error = float(torch.cat([e.smallest_error for e in seen]).max())
    norm = float(torch.maximum(tops, lows.abs()).max())
    L = Estimate.of(norm, top_error if norm == float(tops.max()) else low_error)
    mu = Estimate.of(float(lows.min()), low_error)
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
