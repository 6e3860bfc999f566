"""M, rho and tau of Assumption 1, sampled: lower bounds, since a Lipschitz constant is a supremum over all points."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.errors import InputError
from harness.problem.curvature import hessian
from harness.problem.lanczos import lanczos, random_like
from harness.problem.oracle import Oracle

#: the oracle of one task at flat ``w`` ``[n_w]`` and ``phi`` ``[n_phi]``
OracleAt = Callable[[Tensor, Tensor], Oracle]


@dataclass(frozen=True)
class Point:
    """A place in parameter space: ``w`` ``[n_w]``, ``phi`` ``[n_phi]``."""

    w: Tensor
    phi: Tensor

    def distance(self, other: Point) -> float:
        """Euclidean, in (w, phi)."""
        return math.hypot(float((self.w - other.w).norm()), float((self.phi - other.phi).norm()))

    def moved(self, by: float, generator: torch.Generator) -> Point:
        """A point at distance ``by`` in a random direction of (w, phi)."""
        w, phi = random_like(self.w, generator), random_like(self.phi, generator)
        length = math.hypot(float(w.norm()), float(phi.norm()))
        return Point(self.w + by / length * w, self.phi + by / length * phi)


@dataclass(frozen=True)
class Lipschitz:
    """Sampled lower bounds: M of |grad L_D| in (w, phi), rho of the Hessian in w, tau of the mixed derivative."""

    M: float
    rho: float
    tau: float

    def joined(self, other: Lipschitz) -> Lipschitz:
        """The larger of each constant, NaN where one is NaN."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Lipschitz(*(math.nan if math.isnan(a) or math.isnan(b) else max(a, b) for a, b in pairs))


def sampled_lipschitz(
    at: OracleAt, pairs: Sequence[tuple[Point, Point]], *, generator: torch.Generator, steps: int = 8, probes: int = 4
) -> Lipschitz:
    """Of one task, over ``pairs`` of distinct points.

    M is the largest gradient norm met. rho is the largest |H(a) - H(b)| / |a - b| in the operator norm, by ``steps``
    of Lanczos on the difference; tau likewise for the mixed derivative, whose norm is taken on a random subspace of
    ``probes`` directions of w (all of it where n_w is no larger). Where kinks (ReLU, max-pooling) make second
    derivatives jump, rho and tau do not exist, and these grow as the pairs move together.
    """
    found = Lipschitz(0.0, 0.0, 0.0)
    for a, b in pairs:
        distance = a.distance(b)
        if not distance > 0:
            raise InputError(f"two points {distance} apart; allowed: pairs of distinct, finite points")
        M = torch.tensor([gradient_norm(at, a), gradient_norm(at, b)]).max()  # unlike Python's, NaN if one is
        rho = _hessian_change(at, a, b, generator, steps) / distance
        tau = _mixed_change(at, a, b, generator, probes) / distance
        found = found.joined(Lipschitz(float(M), rho, tau))
    return found


def gradient_norm(at: OracleAt, point: Point) -> float:
    """|grad L_D(w, phi)| of one task."""
    oracle = at(point.w, point.phi)
    in_w, in_s = oracle.outer_gradient(point.w[None])
    in_phi = oracle.phi_gradient(in_s)
    return math.hypot(float(in_w.norm()), float(in_phi.norm()))


def _hessian_change(at: OracleAt, a: Point, b: Point, generator: torch.Generator, steps: int) -> float:
    at_a, at_b = (hessian(at(point.w, point.phi), point.w[None]) for point in (a, b))
    start = random_like(a.w[None], generator)
    found = lanczos(lambda u: at_a(u) - at_b(u), start, steps=steps, tolerance=1e-3, generator=generator)
    return float(found.norm)


def _mixed_change(at: OracleAt, a: Point, b: Point, generator: torch.Generator, probes: int) -> float:
    if not a.phi.numel():
        return 0.0
    n_w = a.w.numel()
    directions = torch.linalg.qr(random_like(a.w.new_zeros(n_w, min(probes, n_w)), generator))[0]
    change = torch.stack([_mixed(at, a, u) - _mixed(at, b, u) for u in directions.T], 1)
    return float(torch.linalg.matrix_norm(change, 2)) if torch.isfinite(change).all() else math.nan


def _mixed(at: OracleAt, point: Point, u: Tensor) -> Tensor:
    """[grad_phi grad_w L_S] u, ``[n_phi]``; an oracle's shared body is differentiated once only, so a fresh one."""
    oracle = at(point.w, point.phi)
    return oracle.phi_gradient(oracle.mixed_product(point.w[None], u[None]))
