"""The dual of a multi-class support vector machine (Crammer and Singer 2001), batched and differentiable."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def svm(features: Tensor, targets: Tensor, slack: float, steps: int = 40, least: float = 1e-11) -> Tensor:
    """argmin (1/2) <a, (H H^T + I) a> - <a, Y> subject to a <= C Y and rows that add up to 0: ``[B, S, ways]``.

    The I is that of MetaOptNet's program. By a primal-dual interior-point method in float64, each task with its own
    steps, to the point of the central path where products of multipliers and slacks are ``least``. The last of
    Newton's steps, from there to there, is the one that is differentiated: the implicit function theorem.
    """
    import torch

    h, y = features.double(), targets.double()
    examples, ways = y.shape[1:]
    eye, each = torch.eye(examples).to(h), torch.eye(ways).to(h)
    quadratic = torch.kron(h @ h.mT + eye, each[None])
    rows = eye.repeat_interleave(ways, 1).expand(len(h), -1, -1)
    linear, most = y.flatten(1), slack * y.flatten(1)

    def newton(a: Tensor, multipliers: Tensor, quadratic: Tensor) -> tuple[Tensor, Tensor]:
        """Steps in ``a`` and its multipliers towards a tenth of their products with the room that is left."""
        room = most - a
        target = (0.1 * (multipliers * room).mean(1, keepdim=True)).clamp_min(least)
        stiffness = multipliers / room
        upper = torch.cat([quadratic.detach() + torch.diag_embed(stiffness), rows.mT], 2)
        lower = torch.cat([rows, rows.new_zeros(len(h), examples, examples)], 2)
        slope = linear - (quadratic @ a[..., None])[..., 0] - target / room
        right = torch.cat([slope, slope.new_zeros(len(h), examples)], 1)
        step = torch.linalg.solve(torch.cat([upper, lower], 1), right)[:, : a.shape[1]]
        return step, target / room - multipliers + stiffness * step

    with torch.no_grad():
        a, multipliers = slack / 2 * (linear - 1 / ways), torch.ones_like(linear)
        for _ in range(steps):
            by_a, by_multipliers = newton(a, multipliers, quadratic)
            reach = torch.cat([by_a / (most - a), -by_multipliers / multipliers], 1).amax(1, keepdim=True)
            length = (0.99 / reach.clamp_min(0.99)).clamp_max(1)
            a, multipliers = a + length * by_a, multipliers + length * by_multipliers
    return (a + newton(a, multipliers, quadratic)[0]).view_as(y).to(features)
