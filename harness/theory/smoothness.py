"""How smooth L_meta is at a point: norms of its Hessian's blocks, by finite differences of exact meta-gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.errors import InputError
from harness.problem.lanczos import lanczos, random_like
from harness.problem.oracle import MetaGradient

#: the exact meta-gradient at flat ``w`` ``[n_w]`` and ``phi`` ``[n_phi]``
MetaGradientAt = Callable[[Tensor, Tensor], MetaGradient]
Pair = tuple[Tensor, Tensor]
#: parameters up to which the Hessian of L_meta is formed, column by column
FORMED = 64


@dataclass(frozen=True)
class Smoothness:
    """Local Lipschitz constants of the partial meta-gradients: ``a_b`` is that of the gradient in a, along b.

    ``w`` and ``phi`` are along both blocks together. Propositions 2 and 3 bound them over all points.
    """

    w_w: float
    w_phi: float
    phi_w: float
    phi_phi: float
    w: float
    phi: float
    #: whether Lanczos met its tolerance in every block
    converged: bool


def smoothness(
    gradient: MetaGradientAt,
    w: Tensor,
    phi: Tensor,
    *,
    generator: torch.Generator,
    steps: int = 24,
    tolerance: float = 1e-3,
) -> Smoothness:
    """Operator norms of the blocks of the Hessian of L_meta at ``w`` ``[n_w]``, ``phi`` ``[n_phi]``.

    The norm of a block A is the root of the largest eigenvalue of A A^T, or where A is symmetric the eigenvalue of
    largest magnitude, by at most ``steps`` of Lanczos (:func:`block_norms`); central differences, so to be used in
    float64. With up to :data:`FORMED` parameters the Hessian is formed once instead. ``w_phi`` and ``phi_w`` are
    transposes of each other and measured once. NaN where a meta-gradient is not finite.
    """
    if not w.numel():
        raise InputError("smoothness of L_meta with n_w 0; allowed: at least one adapted parameter")
    norm = block_norms(gradient, w, phi, generator=generator, steps=steps, tolerance=tolerance)
    blocks = [norm(0, (0,)), norm(0, (1,)), norm(1, (1,)), norm(0, (0, 1)), norm(1, (0, 1))]
    w_w, w_phi, phi_phi, row_w, row_phi = (value for value, _ in blocks)
    return Smoothness(w_w, w_phi, w_phi, phi_phi, row_w, row_phi, all(converged for _, converged in blocks))


def block_norms(
    gradient: MetaGradientAt, w: Tensor, phi: Tensor, *, generator: torch.Generator, steps: int, tolerance: float
) -> Callable[[int, tuple[int, ...]], tuple[float, bool]]:
    """The norm of a block of the Hessian of L_meta, and whether it converged: row and columns are 0 for w, 1 for phi.

    Each by at most ``steps`` of Lanczos, of four meta-gradients each, two for a block on the diagonal.
    """
    product = _differences(gradient, w, phi)
    if w.numel() + phi.numel() <= FORMED:
        product = _formed(product, w, phi)

    def norm(row: int, columns: tuple[int, ...]) -> tuple[float, bool]:
        own = (w, phi)[row]
        if not own.numel() or not any((w, phi)[column].numel() for column in columns):
            return 0.0, True
        on_diagonal = columns == (row,)

        def once(u: Tensor) -> Tensor:
            return product((u[0], torch.zeros_like(phi)) if row == 0 else (torch.zeros_like(w), u[0]))[row][None]

        def twice(u: Tensor) -> Tensor:
            entered = product((u[0], torch.zeros_like(phi)) if row == 0 else (torch.zeros_like(w), u[0]))
            kept = [part if block in columns else torch.zeros_like(part) for block, part in enumerate(entered)]
            return product((kept[0], kept[1]))[row][None]

        start = random_like(own[None], generator)
        of = once if on_diagonal else twice
        found = lanczos(of, start, steps=steps, tolerance=tolerance, generator=generator, both=False)
        if on_diagonal:  # symmetric itself: its norm is the end of larger magnitude
            return float(found.norm), found.converged
        # Rounding may leave the eigenvalue of a vanishing block below zero.
        return math.sqrt(max(float(found.largest), 0.0)) if found.largest.isfinite() else math.nan, found.converged

    return norm


def _differences(gradient: MetaGradientAt, w: Tensor, phi: Tensor) -> Callable[[Pair], Pair]:
    """u -> [Hessian of L_meta] u by a central difference along u, of a length that balances truncation and rounding."""
    size = math.hypot(float(w.norm()), float(phi.norm()))
    step = torch.finfo(w.dtype).eps ** (1 / 3) * max(1.0, size)

    def product(u: Pair) -> Pair:
        length = math.hypot(float(u[0].norm()), float(u[1].norm()))
        if length == 0:
            return u
        h = step / length
        ahead = gradient(w + h * u[0], phi + h * u[1])
        behind = gradient(w - h * u[0], phi - h * u[1])
        return (ahead.w - behind.w) / (2 * h), (ahead.phi - behind.phi) / (2 * h)

    return product


def _formed(product: Callable[[Pair], Pair], w: Tensor, phi: Tensor) -> Callable[[Pair], Pair]:
    """The same product by a matrix whose columns ``product`` gives."""
    n_w = w.numel()
    units = torch.eye(n_w + phi.numel(), dtype=w.dtype, device=w.device)
    matrix = torch.stack([torch.cat(product((unit[:n_w], unit[n_w:]))) for unit in units], 1)

    def formed(u: Pair) -> Pair:
        image = matrix @ torch.cat(u)
        return image[:n_w], image[n_w:]

    return formed
