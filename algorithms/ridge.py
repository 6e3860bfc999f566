"""Ridge regression on features, and the layer that sums of examples make."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def ridge(features: Tensor, targets: Tensor, strength: Tensor) -> Tensor:
    """(H H^T + lambda I)^-1 Y ``[B, S, out]``: weights of the examples, by a system no larger than the support.

    ``strength`` is lambda, one number or one for each task ``[B, 1]``.
    """
    import torch

    gram = features @ features.mT
    return torch.linalg.solve(gram + torch.diag_embed(strength.expand(gram.shape[:2])), targets)


def of_examples(dual: Tensor, features: Tensor, w: Tensor) -> Tensor:
    """The linear layer ``dual``^T H, without bias, as ``w`` ``[B, n_w]`` holds it."""
    import torch

    weight = (dual.mT @ features).flatten(1)
    return torch.nn.functional.pad(weight, (0, w.shape[1] - weight.shape[1]))
