"""Where inner loops overshoot: alpha L along training, with the L that runs record."""

from __future__ import annotations

from collections.abc import Iterable

from harness.report.findings.factors import largest_L
from harness.report.findings.groups import Group
from harness.report.findings.names import group_name
from harness.report.tables.cells import shown

#: beyond it a step of gradient descent moves away along the top eigenvector of the inner Hessian
_OVERSHOOTS = 2.0


def alpha_L(group: Group) -> float:
    """Largest along each run, the median over runs: at w_0, so a lower bound; NaN where not measured."""
    return float(group.same("inner_lr")) * largest_L(list(group.by_seed.values()))


def overshoots(groups: Iterable[Group]) -> list[str]:
    """A line for each group whose inner step is too long for its curvature, at some measurement of its median run."""
    return [
        f"{group_name(group)}: the inner loop overshoots, alpha L reaches {shown(value)} along training; above 2 a "
        f"step moves away (alpha up to {shown(2 * group.same('inner_lr') / value)} would not)"
        for group in groups
        if (value := alpha_L(group)) > _OVERSHOOTS
    ]
