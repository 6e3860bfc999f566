"""L_meta(w, phi) = mean L_D(adapt(w, phi), phi): its slopes by central differences, and whose gradient it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.problem.algorithm import Algorithm, MetaGradient, Oracle, exact

if TYPE_CHECKING:
    Rule = Callable[[Oracle, int, float], MetaGradient]
    #: the oracle of some tasks at flat ``w`` and ``phi``
    OracleAt = Callable[[Tensor, Tensor], Oracle]

#: a rule off by less than this from central differences is taken for the gradient of L_meta in a run
AGREES = 1e-2
#: of central differences in float64: a kink within reach disturbs a long one, rounding a short one
_STEPS, _ENOUGH = (1e-5, 1e-3, 1e-6), 1e-8
_RANDOM = 2


def adapts_plainly(algorithm: Algorithm) -> bool:
    """Whether ``adapt`` is N steps of gradient descent on L_S: then the gradient of L_meta is Proposition 1's."""
    return type(algorithm).adapt is Algorithm.adapt


def stationarity_rule(algorithm: Algorithm) -> Rule:
    """What computes the gradient of L_meta that Definition 1 asks about, whatever direction the algorithm follows.

    Proposition 1 where ``adapt`` is gradient descent (FOMAML, Reptile), else the algorithm's own rule, which has to
    be shown to be that gradient first, by :func:`not_the_gradient`.
    """
    return exact if adapts_plainly(algorithm) else algorithm.meta_gradient


def not_the_gradient(
    algorithm: Algorithm, oracle_at: OracleAt, w: Tensor, phi: Tensor, inner_steps: int, inner_lr: float
) -> str | None:
    """Why no rule is known to compute the gradient of L_meta at flat float64 ``w`` and ``phi``; None where one is."""
    if adapts_plainly(algorithm):
        return None
    error = disagreement(algorithm, oracle_at, w, phi, inner_steps, inner_lr)
    if error < AGREES:
        return None
    return (
        f"the rule of {algorithm.name!r} is no gradient of L_D(adapt(w, phi), phi): "
        f"off by {error:.2g} from central differences at the start"
    )


def disagreement(
    algorithm: Algorithm,
    oracle_at: OracleAt,
    w: Tensor,
    phi: Tensor,
    inner_steps: int,
    inner_lr: float,
    gradient: MetaGradient | None = None,
) -> float:
    """Relative error of ``gradient`` (the algorithm's own where not given) against the slopes of L_meta.

    Along the gradient itself, which sees a wrong length or sign, and along random directions, which see a wrong
    direction; the larger of both errors, infinite where a number is none. ``w`` and ``phi`` are float64.
    """
    if gradient is None:
        gradient = algorithm.meta_gradient(oracle_at(w, phi), inner_steps, inner_lr)
    found = torch.cat([gradient.w, gradient.phi]).detach()
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(_RANDOM, len(found), dtype=found.dtype, generator=generator).to(found.device)
    own = found[None] / found.norm().clamp_min(1e-30)
    errors = []
    for directions in (own, random / random.norm(dim=1, keepdim=True)):

        def along(distance: float, direction: Tensor) -> Tensor:
            by_w, by_phi = (distance * direction).split([len(w), len(phi)])
            oracle = oracle_at(w + by_w, phi + by_phi)
            return oracle.evaluate(algorithm.adapt(oracle, inner_steps, inner_lr).detach()).loss.mean()

        def slopes(step: float, directions: Tensor = directions) -> Tensor:
            return torch.stack([central_difference(lambda h, d=d: along(h, d), step) for d in directions])  # type: ignore[misc]

        errors.append(error_of(directions @ found, slopes))
    return max(errors)


def error_of(found: Tensor, slopes: Callable[[float], Tensor]) -> float:
    """Relative error of ``found`` against ``slopes(step)``, with the step that is disturbed least; infinite for NaN."""
    least = float("inf")
    for step in _STEPS:
        expected = slopes(step)
        error = float((found - expected).norm() / expected.norm().clamp_min(1e-30))
        least = min(least, error if error == error else least)
        if least <= _ENOUGH:
            break
    return least


def central_difference(along: Callable[[float], Tensor], step: float) -> Tensor:
    """The derivative at 0 of a function of a distance, of 4th order in ``step``; for float64."""
    near, far = along(step) - along(-step), along(2 * step) - along(-2 * step)
    return (8 * near - far) / (12 * step)
