"""Is the inner loss convex in w? Looked at where it can be seen, and not read off the name of a geometry."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.problem.lanczos import random_like
from harness.problem.losses import Loss
from harness.problem.partition import Network

#: by how much a prediction may miss the straight line between two others, of its own size, in float32
_STRAIGHT = 1e-4


def not_convex(loss: Loss, network: Network, w: Tensor, phi: Tensor, x: Tensor, generator: torch.Generator) -> str:
    """Why L_S, and with lambda the inner objective, is not known to be convex in w; empty where it is.

    A loss that is convex in the prediction is so in w where the prediction is affine in it: seen on the examples ``x``
    ``[S, ...]`` of a task, between two random points.
    """
    if not loss.convex:
        return f"whether {loss.name!r} is convex in the prediction, and L_S with it in w"
    with torch.no_grad():
        h, tail_phi = network.features(phi, x), network.tail_phi(phi)
        a, b = (w + 10 * random_like(w, generator) for _ in range(2))
        middle = network.predict((a + b) / 2, tail_phi, h)
        straight = (network.predict(a, tail_phi, h) + network.predict(b, tail_phi, h)) / 2
        affine = (middle - straight).norm() <= _STRAIGHT * straight.norm()
    return "" if affine else "whether L_S is convex in w, in which the prediction is not linear"
