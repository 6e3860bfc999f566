"""Both ends of the spectrum of symmetric operators, one a task, by the Lanczos method, and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]

#: probability, for one end of one task, that its eigenvalue lies further out than the error says
DOUBT = 1e-4
_NEWTON_STEPS = 20


@dataclass(frozen=True)
class Extremes:
    """Extreme Ritz values of each task's operator, ``[B]``, and how far beyond them the spectrum may reach.

    No Ritz value lies outside the spectrum, so ``largest`` is a lower and ``smallest`` an upper bound, for certain.
    The end of the spectrum itself lies within the error beyond it, but for a chance of :data:`DOUBT` in the random
    start; once all of the space is spanned, for certain. NaN where a product was not finite.
    """

    largest: Tensor
    largest_error: Tensor
    smallest: Tensor
    smallest_error: Tensor
    #: whether every wanted end met the tolerance
    converged: bool

    @property
    def norm(self) -> Tensor:
        """max |eigenvalue|, the operator norm, ``[B]``: a lower bound."""
        return torch.maximum(self.largest.abs(), self.smallest.abs())

    @property
    def norm_error(self) -> Tensor:
        """How much larger than :attr:`norm` the operator norm may be, ``[B]``."""
        ends = (self.largest + self.largest_error).abs(), (self.smallest - self.smallest_error).abs()
        return torch.maximum(*ends) - self.norm


def lanczos(
    product: Product,
    start: Tensor,
    *,
    steps: int,
    tolerance: float,
    generator: torch.Generator,
    both: bool = True,
) -> Extremes:
    """At most ``steps`` products with ``[B, n]`` vectors, with full reorthogonalisation.

    ``start`` ``[B, n]`` has to be random and without a preferred direction, see :func:`random_like`: what the errors
    promise rests on it. Ends as soon as the error of both ends, or without ``both`` that of the end of larger
    magnitude, is at most ``tolerance`` times that end's magnitude, but not before the second product. Where the Krylov
    space is exhausted it goes on with a fresh random vector from ``generator``.

    The error (Van Dorsselaer, Hochstenbach and Van der Vorst 2000): the k-th Lanczos polynomial is the product of
    t - theta_i over the Ritz values and maps the start x to a vector of length beta_1 .. beta_k. An eigenvalue t with
    eigenvector v therefore has prod |t - theta_i| |<v, x>| <= beta_1 .. beta_k, and |<v, x>| is smaller than
    DOUBT sqrt(pi / 2n) with a probability of at most DOUBT. Residuals would not do: they tell how far *an* eigenvalue
    is, and a single smaller one beside a cluster goes unseen by them.
    """
    tasks, n = start.shape
    last = min(steps, n)
    basis = start.new_empty(tasks, last, n)
    basis[:, 0] = _normalised(start)
    diagonal: list[Tensor] = []
    off_diagonal: list[Tensor] = []
    scale = start.new_zeros(tasks)
    polynomial = start.new_zeros(tasks, dtype=torch.float64)  # log of beta_1 .. beta_k
    reach = Reach(start)
    due = 1
    for step in range(1, last + 1):
        vector = basis[:, step - 1]
        image = product(vector)
        diagonal.append((vector * image).sum(1))
        rest = _orthogonalised(image, basis[:, :step])
        beta = rest.norm(dim=1)
        scale = torch.maximum(scale, torch.maximum(diagonal[-1].abs(), beta))
        rounding = 100 * torch.finfo(beta.dtype).eps * scale
        exhausted = beta <= rounding
        polynomial = polynomial + torch.maximum(beta, rounding).double().clamp(min=1e-300).log()
        if step >= due or step == last:
            values = _ritz_values(diagonal, off_diagonal, beta)
            # An eigenvector as start spans nothing else and tells nothing about the ends of the spectrum.
            told = ~exhausted if step == 1 < n else torch.ones_like(exhausted)
            reach.narrow(values, polynomial, rounding.double(), told, complete=step == n)
            extremes = reach.extremes(values, tolerance, both)
            if (extremes.converged and step > 1) or step == last:
                break
            due = step + 1 + step // 16
        off_diagonal.append(torch.where(exhausted, 0.0, beta))
        if exhausted.any():
            fresh = _orthogonalised(random_like(start, generator), basis[:, :step])
            rest = torch.where(exhausted[:, None], fresh, rest)
            # The argument begins anew for the fresh vector; the Ritz values so far count as factors that are too large.
            polynomial = torch.where(exhausted, step * (2 * scale.double()).clamp(min=1e-300).log(), polynomial)
        basis[:, step] = _normalised(rest)
    return extremes


def random_like(vector: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers in the shape, type and place of ``vector``, whatever device ``generator`` lives on."""
    drawn = torch.randn(vector.shape, dtype=torch.float64, device=generator.device, generator=generator)
    return drawn.to(vector)


class Reach:
    """How far out each task's spectrum may reach: the tightest that any step has shown."""

    def __init__(self, start: Tensor) -> None:
        tasks, self.n = start.shape
        self.high = start.new_full((tasks,), math.inf, dtype=torch.float64)
        self.low = -self.high

    def narrow(self, values: Tensor, polynomial: Tensor, rounding: Tensor, told: Tensor, complete: bool) -> None:
        """By the Ritz values ``[B, k]`` of a step, and the length of its Lanczos polynomial at the start."""
        missed = math.log(DOUBT * math.sqrt(math.pi / (2 * self.n)))
        for end in (0, -1):
            distances = (values - values[:, [end]]).abs()
            beyond = rounding if complete else rounding + _beyond(distances, polynomial - missed)
            beyond = torch.where(told, beyond, math.inf)
            if end:
                self.high = torch.minimum(self.high, values[:, -1] + beyond)
            else:
                self.low = torch.maximum(self.low, values[:, 0] - beyond)

    def extremes(self, values: Tensor, tolerance: float, both: bool) -> Extremes:
        """The outermost of ``values`` ``[B, k]``, and what is known beyond them."""
        largest, smallest = values[:, -1], values[:, 0]
        above, below = (self.high - largest).clamp(min=0), (smallest - self.low).clamp(min=0)
        met_above, met_below = above <= tolerance * largest.abs(), below <= tolerance * smallest.abs()
        found = Extremes(largest, above, smallest, below, False)
        met = met_above & met_below if both else found.norm_error <= tolerance * found.norm
        return Extremes(largest, above, smallest, below, bool(met.all()))


def _beyond(distances: Tensor, target: Tensor) -> Tensor:
    """The e > 0 at which the product of ``distances`` + e, ``[B, k]``, is exp(``target``), or a little more."""
    t = (target / distances.shape[1]).clamp(max=600)
    for _ in range(_NEWTON_STEPS):  # in t = log e the sum of logarithms is convex: Newton comes down from above
        e = t.exp()[:, None]
        t = t - ((distances + e).log().sum(1) - target) / (e / (distances + e)).sum(1)
    return t.exp()


def _ritz_values(diagonal: list[Tensor], off_diagonal: list[Tensor], beta: Tensor) -> Tensor:
    """In ascending order, ``[B, k]`` in float64; NaN for tasks of which something is not finite."""
    matrix = torch.diag_embed(torch.stack(diagonal, 1).double())
    if off_diagonal:
        beside = torch.stack(off_diagonal, 1).double()
        matrix = matrix + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
    broken = ~torch.isfinite(matrix).all(2).all(1) | ~torch.isfinite(beta)
    values = torch.linalg.eigvalsh(torch.where(broken[:, None, None], 0.0, matrix))
    return torch.where(broken[:, None], torch.nan, values)


def _orthogonalised(vector: Tensor, basis: Tensor) -> Tensor:
    """``vector`` ``[B, n]`` without its components in ``basis`` ``[B, k, n]``; twice is enough (Kahan, Parlett)."""
    for _ in range(2):
        vector = vector - torch.einsum("bkn,bk->bn", basis, torch.einsum("bkn,bn->bk", basis, vector))
    return vector


def _normalised(vector: Tensor) -> Tensor:
    normalised: Tensor = vector / vector.norm(dim=1, keepdim=True)
    return normalised
