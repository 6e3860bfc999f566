"""Theorems 1 and 2 and Tables 1 and 2 of Ji et al. 2020 as functions, with the paper's symbols. Free of torch.

Orders are stated up to constants that depend on L, M, rho and tau alone; those constants are the arguments ``c_*``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.errors import InputError, unknown
from harness.theory.formulas import TABLE_1, TABLE_2, THEOREMS, Formula

__all__ = [
    "TABLE_1",
    "TABLE_2",
    "THEOREMS",
    "Complexity",
    "Evaluations",
    "Factor",
    "Formula",
    "Rate",
    "decay",
    "evaluations",
    "predicted_factor",
    "require",
    "theorem_1_complexity",
    "theorem_1_rate",
    "theorem_2_complexity",
    "theorem_2_rate",
    "xi",
]


@dataclass(frozen=True)
class Evaluations:
    """Entries per task and meta-iteration: a gradient in w counts n_w, a Hessian n_w^2 (Table 2's unit)."""

    gradient: int
    second_order: int


@dataclass(frozen=True)
class Factor:
    """By how many times ANIL needs fewer entries to epsilon than MAML; infinite where ANIL needs none.

    NaN where neither evaluates any. The paper says "by a factor of O(.)": a quotient of two upper bounds, with every
    constant 1. It is no lower bound of what a measurement has to give.
    """

    gradient: float
    second_order: float


@dataclass(frozen=True)
class Rate:
    """Bounds on the expected squared norms of the partial meta-gradients in w and in phi."""

    w: float
    phi: float


@dataclass(frozen=True)
class Complexity:
    """Evaluations until both squared norms are below epsilon: gradients in w, in phi, and of second order."""

    gradient_w: float
    gradient_phi: float
    second_order: float


def evaluations(algorithm: str, n_w: int, n_phi: int, inner_steps: int) -> Evaluations:
    """Exact entries of one task's meta-gradient with ``inner_steps`` = N; ``anil`` in either geometry.

    For ``maml`` and ``fomaml`` only n = n_w + n_phi matters. Raises :class:`InputError` for other names.
    """
    _check_sizes(n_w, n_phi, inner_steps)
    n = n_w + n_phi
    if algorithm == "maml":
        return Evaluations(inner_steps * n + n, inner_steps * n**2)
    if algorithm == "fomaml":
        return Evaluations(inner_steps * n + n, 0)
    if algorithm == "anil":
        return Evaluations(inner_steps * n_w + n, inner_steps * n_w * n)
    raise unknown("algorithm", algorithm, ("maml", "fomaml", "anil"))


def predicted_factor(geometry: str, n_w: int, n_phi: int, inner_steps: int, kappa_L: float) -> Factor:
    """Section 3.3's factor: MAML with inner step size kappa over ANIL, ``kappa_L`` = kappa L.

    Convex: (N n_w + N n_phi)/(N n_w + n_phi) (1 + kappa L)^N in gradient entries, and (n_w + n_phi)/n_w (1 + kappa L)^N
    in second-order entries: the quotient of Table 2's rows, with ANIL's own (1 - xi)^{N/2} + c_epsilon taken as 1.
    Nonconvex: the same without (1 + kappa L)^N, as the text has it for kappa <= 1/N, when both need equally many
    meta-iterations (:func:`harness.theory.conditions.factor_condition`). The quotient of the rows themselves would
    have (1 + kappa L)^N / N in its place: ANIL's row has N, MAML's at most e^L.

    With N = 0 the two algorithms are one: factor 1, and no second order to compare (NaN). With n_w = 0 ANIL has no
    second order: infinite. What overflows is infinite.
    """
    _check_sizes(n_w, n_phi, inner_steps)
    if geometry not in ("convex", "nonconvex"):
        raise unknown("geometry", geometry, ("convex", "nonconvex"))
    if math.isnan(kappa_L) or kappa_L < 0:
        raise InputError(f"kappa L {kappa_L}: allowed: a number >= 0")
    if inner_steps == 0:
        return Factor(1.0, math.nan)
    n = n_w + n_phi
    growth = _power(1 + kappa_L, inner_steps) if geometry == "convex" else 1.0
    per_gradient = inner_steps * n / (inner_steps * n_w + n_phi)
    return Factor(per_gradient * growth, n / n_w * growth if n_w else math.inf)


def xi(mu: float, L: float) -> float:
    """xi = mu^2 / L^2 of Table 1, in (0, 1]; raises :class:`InputError` unless 0 < mu <= L."""
    require(mu=mu, L=L)
    if mu > L:
        raise InputError(f"mu {mu} is larger than L {L}; allowed: 0 < mu <= L")
    return (mu / L) ** 2


def theorem_1_rate(
    inner_steps: int, K: float, B: float, mu: float, L: float, *, c_K: float = 1.0, c_B: float = 1.0
) -> Rate:
    """Theorem 1, strongly convex inner loop: after K meta-iterations of B tasks, for the best iterate.

    With alpha = mu/L^2, beta_w of order mu^2 (1 - xi)^{-N/2} and beta_phi of order mu^3,

        in w:    c_K mu^-2 (1-xi)^{N/2} / K             + c_B mu^-1 (1-xi)^{N/2} / B
        in phi:  c_K (mu^-2 (1-xi)^{N/2} + mu^-3) / K   + c_B (mu^-1 (1-xi)^{3N/2} + mu^-2) / B.

    An order: ``c_K`` and ``c_B`` are polynomials in L, M, rho and tau that the theorem does not spell out.
    """
    require(K=K, B=B, c_K=c_K, c_B=c_B)
    half = decay(inner_steps, mu, L)
    return Rate(
        c_K * _over(half, mu, 2) / K + c_B * _over(half, mu, 1) / B,
        c_K * (_over(half, mu, 2) + _over(1, mu, 3)) / K + c_B * (_over(half**3, mu, 1) + _over(1, mu, 2)) / B,
    )


def theorem_1_complexity(inner_steps: int, epsilon: float, mu: float, L: float, *, c: float = 1.0) -> Complexity:
    """Theorem 1: c (mu^-4 (1-xi)^{N/2} + mu^-5) epsilon^-2 gradients in phi, N times that in w and of second order.

    An order: ``c`` is a polynomial in L, M, rho and tau that the theorem does not spell out.
    """
    require(epsilon=epsilon, c=c)
    tasks = c * _over(_over(decay(inner_steps, mu, L), mu, 4) + _over(1, mu, 5), epsilon, 2)
    return Complexity(inner_steps * tasks, tasks, inner_steps * tasks)


def theorem_2_rate(inner_steps: int, K: float, B: float, *, c_K: float = 1.0, c_B: float = 1.0) -> Rate:
    """Theorem 2, nonconvex inner loop: c_K N/K + c_B N/B in both blocks.

    With alpha, beta_w and beta_phi of order 1/N. An order: ``c_K`` and ``c_B`` as in :func:`theorem_1_rate`. Stated
    as printed; the theorem's own complexity needs c_B/B (:func:`theorem_2_complexity`).
    """
    require(inner_steps=inner_steps, K=K, B=B, c_K=c_K, c_B=c_B)
    bound = c_K * inner_steps / K + c_B * inner_steps / B
    return Rate(bound, bound)


def theorem_2_complexity(inner_steps: int, epsilon: float, *, c: float = 1.0) -> Complexity:
    """Theorem 2: c N epsilon^-2 gradients in phi, N times that in w and of second order. An order, as above.

    That is K = N/epsilon meta-iterations of B = 1/epsilon tasks. With the rate's N/B, B would be N/epsilon and all
    three N times as many.
    """
    require(inner_steps=inner_steps, epsilon=epsilon, c=c)
    tasks = c * _over(inner_steps, epsilon, 2)
    return Complexity(inner_steps * tasks, tasks, inner_steps * tasks)


def require(**values: float) -> None:
    """Raise :class:`InputError` unless every one of ``values`` is finite and positive."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} {value}: allowed: a finite number > 0")


def _check_sizes(n_w: int, n_phi: int, inner_steps: int) -> None:
    for name, value in (("n_w", n_w), ("n_phi", n_phi), ("N", inner_steps)):
        if value < 0:
            raise InputError(f"{name} {value}: allowed: an integer >= 0")
    if n_w + n_phi == 0:
        raise InputError("n_w and n_phi are both 0; allowed: at least one parameter")


def decay(inner_steps: int, mu: float, L: float) -> float:
    """(1 - xi)^{N/2} of Theorem 1, xi = mu^2 / L^2."""
    if inner_steps < 0:
        raise InputError(f"N {inner_steps}: allowed: an integer >= 0")
    return float((1 - xi(mu, L)) ** (inner_steps / 2))


def _over(numerator: float, base: float, exponent: int) -> float:
    """numerator / base^exponent, infinite where that overflows."""
    return numerator * _power(base, -exponent) if numerator else 0.0


def _power(base: float, exponent: int) -> float:
    try:
        return float(base**exponent)
    except OverflowError:
        return math.inf
