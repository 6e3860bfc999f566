"""Both ends of the spectrum of symmetric operators, one a task, by the Lanczos method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Extremes:
    """Extreme Ritz values of each task's operator, ``[B]``, with their residuals.

    An eigenvalue lies within the residual |A x - theta x| of the Ritz value theta, and no Ritz value lies outside the
    spectrum. NaN where a product was not finite.
    """

    largest: Tensor
    largest_error: Tensor
    smallest: Tensor
    smallest_error: Tensor
    #: whether every wanted end met the tolerance
    converged: bool

    @property
    def norm(self) -> Tensor:
        """max |eigenvalue|, the operator norm, ``[B]``."""
        return torch.maximum(self.largest.abs(), self.smallest.abs())


def lanczos(
    product: Product,
    start: Tensor,
    *,
    steps: int,
    tolerance: float,
    generator: torch.Generator,
    smallest: bool = True,
) -> Extremes:
    """At most ``steps`` products with ``[B, n]`` vectors, with full reorthogonalisation.

    Ends as soon as the residual of the largest Ritz value, and with ``smallest`` that of the smallest, is at most
    ``tolerance`` times its magnitude, but not before the second product. Where the Krylov space of ``start`` ``[B, n]``
    is exhausted it goes on with a fresh random vector from ``generator``.
    """
    tasks, n = start.shape
    basis = [_normalised(start)]
    diagonal: list[Tensor] = []
    off_diagonal: list[Tensor] = []
    scale = start.new_zeros(tasks)
    for step in range(1, min(steps, n) + 1):
        image = product(basis[-1])
        diagonal.append((basis[-1] * image).sum(1))
        rest = _orthogonalised(image, basis)
        beta = rest.norm(dim=1)
        scale = torch.maximum(scale, torch.maximum(diagonal[-1].abs(), beta))
        exhausted = beta <= 100 * torch.finfo(beta.dtype).eps * scale
        beta = torch.where(exhausted, 0.0, beta) if step < n else torch.zeros_like(beta)
        extremes = _ritz(diagonal, off_diagonal, beta, tolerance, smallest)
        # An eigenvector as start has residual 0 and need not belong to an end of the spectrum.
        if (extremes.converged and step > 1) or step == min(steps, n):
            break
        off_diagonal.append(beta)
        if exhausted.any():
            fresh = _orthogonalised(random_like(start, generator), basis)
            rest = torch.where(exhausted[:, None], fresh, rest)
        basis.append(_normalised(rest))
    return extremes


def random_like(vector: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers in the shape, type and place of ``vector``, whatever device ``generator`` lives on."""
    drawn = torch.randn(vector.shape, dtype=torch.float64, device=generator.device, generator=generator)
    return drawn.to(vector)


def _ritz(
    diagonal: list[Tensor], off_diagonal: list[Tensor], beta: Tensor, tolerance: float, smallest: bool
) -> Extremes:
    matrix = torch.diag_embed(torch.stack(diagonal, 1).double())
    if off_diagonal:
        beside = torch.stack(off_diagonal, 1).double()
        matrix = matrix + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
    broken = ~torch.isfinite(matrix).all(2).all(1) | ~torch.isfinite(beta)
    values, vectors = torch.linalg.eigh(torch.where(broken[:, None, None], 0.0, matrix))
    values = torch.where(broken[:, None], torch.nan, values)
    residuals = torch.where(broken[:, None], torch.nan, beta.double()[:, None] * vectors[:, -1].abs())
    ends = [-1, 0] if smallest else [-1]
    met = residuals[:, ends] <= tolerance * values[:, ends].abs()
    return Extremes(values[:, -1], residuals[:, -1], values[:, 0], residuals[:, 0], bool(met.all()))


def _orthogonalised(vector: Tensor, basis: list[Tensor]) -> Tensor:
    """``vector`` without its components in ``basis``; twice is enough (Kahan, Parlett)."""
    for _ in range(2):
        for known in basis:
            vector = vector - (known * vector).sum(1, keepdim=True) * known
    return vector


def _normalised(vector: Tensor) -> Tensor:
    normalised: Tensor = vector / vector.norm(dim=1, keepdim=True)
    return normalised
