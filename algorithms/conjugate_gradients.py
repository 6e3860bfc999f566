"""Conjugate gradients on the inner Hessian (Hestenes and Stiefel 1952), all tasks at once, each to its own end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.problem.algorithm import Oracle

if TYPE_CHECKING:
    from torch import Tensor


def conjugate_gradients(oracle: Oracle, w: Tensor, v: Tensor, strength: float, steps: int, tolerance: float) -> Tensor:
    """x ``[B, n_w]`` with (H + strength I) x = ``v``, H the inner Hessian at ``w``; begins with v / strength.

    A task ends after ``steps``, when its residual is ``tolerance`` of v, or where its curvature is not positive, as it
    may be where w is no minimum yet.
    """
    x = v / strength
    p = r = -oracle.hessian_product(w, x)
    squared, enough = r.square().sum(1), tolerance**2 * v.square().sum(1)
    asked = squared > enough
    for _ in range(steps):
        if not asked.any():
            break
        ap = oracle.hessian_product(w, p, asked) + strength * p
        curvature = (p * ap).sum(1)
        asked = asked & (curvature > 0)
        step = (squared / curvature).where(asked, 0)[:, None]
        x, r = x + step * p, r - step * ap
        before, squared = squared, r.square().sum(1)
        asked = asked & (squared > enough)
        p = r + (squared / before).where(asked, 0)[:, None] * p
    return x
