"""Whether a run, or a series of runs over N, is one that Theorem 1 or 2 of Ji et al. 2020 speaks of. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.errors import InputError
from harness.theory.bounds import decay, xi

#: how far a step size may be from the theorem's, relative: its constants are measured
TOLERANCE = 0.1
#: from here on (1-xi)^(N/2) is called 1: no run tells the difference
NO_DECAY = 0.99


@dataclass(frozen=True)
class Steps:
    """N and the step sizes of one run: alpha, beta_w and beta_phi."""

    inner_steps: int
    inner_lr: float
    outer_lr_w: float
    outer_lr_phi: float


@dataclass(frozen=True)
class Conditions:
    """What :func:`conditions` found."""

    #: the theorem that is about this algorithm and geometry; None: none of the paper's is
    theorem: Literal[1, 2] | None
    #: whether optimizer and step sizes are the theorem's; Assumptions 1 and 2 are nobody's to check on a finite run
    holds: bool
    #: one sentence: that they are, or why not
    sentence: str
    #: one more sentence where the theorem, even if it held, predicts no effect of N; else empty
    effect: str = ""
    #: the theorem's largest alpha over the N: mu/L^2, or 1/(N L) in Theorem 2; NaN where it is not known
    alpha: float = math.nan
    #: the largest alpha of the runs over the theorem's for the same N
    alpha_ratio: float = math.nan
    #: mu^2/L^2 and L/mu; NaN in Theorem 2
    xi: float = math.nan
    condition_number: float = math.nan


def conditions(
    algorithm: str, geometry: str, outer_optimizer: str, steps: Sequence[Steps], *, L: float, mu: float
) -> Conditions:
    """Whether Theorem 1 (``anil`` ``convex``) or Theorem 2 (``anil`` ``nonconvex``) is about these runs.

    ``steps``: one run, or runs that differ in N (and in step sizes that follow it), in any order. ``L`` and ``mu``: of
    the inner objective in w, as measured; ``mu`` may be lambda, which bounds it from below, and counts for Theorem 1
    only. NaN: not known, and then nothing holds.

    Theorem 1 asks for SGD, alpha = mu/L^2, beta_w = poly mu^2 (1-xi)^(-N/2), beta_phi = poly mu^3; Theorem 2 for SGD,
    alpha < O(1/N), beta_w and beta_phi = poly/N. The polynomials in L, M, rho and tau are not checked, so of one run
    the betas are not; of several, how they change with N. alpha N L <= 1 counts as O(1/N): N steps then expand by
    (1 + alpha L)^N < e at most. Never checked: Assumptions 1 and 2, which a squared error (not Lipschitz) or a ReLU
    (not smooth) breaks.

    Raises :class:`InputError` for no ``steps`` at all.
    """
    if not steps:
        raise InputError("no step sizes; allowed: those of at least one run")
    if algorithm != "anil":
        return Conditions(None, False, f"the theorems of the paper are about ANIL, not about {algorithm}")
    if geometry == "convex":
        return _theorem_1(outer_optimizer, steps, L, mu)
    if geometry == "nonconvex":
        return _theorem_2(outer_optimizer, steps, L)
    return Conditions(None, False, f"the theorems of the paper know convex and nonconvex inner loops, not {geometry}")


def outer_loop(settings: Mapping[str, object]) -> str:
    """The optimizer of a configuration, as :func:`conditions` takes it: one with falling steps is another."""
    schedule = settings.get("outer_schedule", "constant")
    return f"{settings.get('outer_optimizer')}{'' if schedule == 'constant' else f' with {schedule} steps'}"


def factor_condition(geometry: str, inner_steps: int, kappa: float) -> str:
    """Why section 3.3's factor is not about MAML with the inner step size ``kappa``; empty where it is.

    The nonconvex factor sets kappa <= 1/N, which bounds the (1 + kappa L)^N that it leaves out. The convex one keeps
    that power, and asks nothing.
    """
    if geometry != "nonconvex" or inner_steps * kappa <= 1 + 1e-9:
        return ""
    return f"the nonconvex factor sets κ ≤ 1/N = {number(1 / inner_steps)}, and MAML's κ is {number(kappa)}"


def advice(L: float, mu: float) -> str:
    """What section 3.1 says about N for this condition number."""
    return (
        f"condition number L/mu = {number(L / mu)}: where it is large the paper takes a small N, such as 2; where not "
        "very large, as it says of its experiments, a moderate one, such as 7. It draws no line between them"
    )


def number(value: float) -> str:
    """``value`` for a sentence: three digits, thousands in full."""
    return f"{value:,.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"


def _theorem_1(optimizer: str, steps: Sequence[Steps], L: float, mu: float) -> Conditions:
    if not (math.isfinite(L) and 0 < mu <= L):
        return Conditions(1, False, f"Theorem 1 needs 0 < mu <= L, and here mu is {number(mu)} and L {number(L)}")
    alpha = mu / L**2
    ratio = max((each.inner_lr / alpha for each in steps), key=lambda one: abs(math.log(one)))
    faults = _optimizer(optimizer)
    if not _near(ratio, 1):
        faults.append(f"alpha is {number(ratio)} times mu/L^2 = {number(alpha)}")
    growth = [decay(each.inner_steps, mu, L) ** -1 for each in steps]
    if not _constant([each.outer_lr_w / by for each, by in zip(steps, growth, strict=True)]):
        faults.append("beta_w does not grow with N like (1-xi)^(-N/2)")
    if not _constant([each.outer_lr_phi for each in steps]):
        faults.append("beta_phi is not the same for every N")
    most = max(each.inner_steps for each in steps)
    left = decay(most, mu, L)
    effect = ""
    if most and left > NO_DECAY:
        effect = (
            f"With xi = {number(xi(mu, L))}, (1-xi)^(N/2) is within {number(1 - left)} of 1 up to N = {most}: "
            "Theorem 1 predicts no effect of N to be seen"
        )
    sentence = _sentence(1, faults)
    return Conditions(1, not faults, sentence, effect, alpha, ratio, xi(mu, L), L / mu)


def _theorem_2(optimizer: str, steps: Sequence[Steps], L: float) -> Conditions:
    if not (math.isfinite(L) and L > 0):
        return Conditions(2, False, f"Theorem 2 needs a finite L > 0, and here L is {number(L)}")
    worst = max(steps, key=lambda each: each.inner_steps * each.inner_lr)
    ratio = worst.inner_steps * worst.inner_lr * L
    alpha = 1 / (worst.inner_steps * L) if worst.inner_steps else math.inf
    faults = _optimizer(optimizer)
    if ratio > 1 + TOLERANCE:
        faults.append(f"alpha is {number(ratio)} times 1/(N L) = {number(alpha)} at N = {worst.inner_steps}")
    some = [each for each in steps if each.inner_steps]
    for name, betas in (
        ("beta_w", [each.outer_lr_w for each in some]),
        ("beta_phi", [each.outer_lr_phi for each in some]),
    ):
        if not _constant([beta * each.inner_steps for beta, each in zip(betas, some, strict=True)]):
            faults.append(f"{name} does not fall with N like 1/N")
    return Conditions(2, not faults, _sentence(2, faults), "", alpha, ratio)


def _optimizer(name: str) -> list[str]:
    return [] if name == "sgd" else [f"{name.capitalize()} instead of SGD"]


def _sentence(theorem: int, faults: Sequence[str]) -> str:
    if faults:
        return f"Theorem {theorem}'s conditions do not hold: {'; '.join(faults)}"
    return f"Theorem {theorem}'s optimizer and step sizes; its Assumptions 1 and 2 are not checked"


def _near(value: float, to: float) -> bool:
    return abs(math.log(value / to)) <= math.log1p(TOLERANCE)


def _constant(values: Sequence[float]) -> bool:
    return all(_near(value, values[0]) for value in values)
