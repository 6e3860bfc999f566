"""Losses: a mean over the examples of one task, once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def task_loss(kind: str, prediction: Tensor, target: Tensor) -> Tensor:
    """L(w, phi) of one task: ``prediction`` ``[S, out]``, ``target`` ``[S]`` classes or ``[S, out]``.

    ``kind`` is one of :data:`harness.problem.oracle.LOSSES`, as every :class:`~harness.problem.oracle.Inner` has it.
    """
    if kind == "cross_entropy":
        return F.cross_entropy(prediction, target)
    return (prediction - target).square().mean()


def accuracy(kind: str, prediction: Tensor, target: Tensor) -> Tensor:
    """Share of examples classified correctly along the last axis; NaN where nothing is classified."""
    if kind == "cross_entropy":
        return (prediction.argmax(-1) == target).double().mean(-1)
    return torch.full(prediction.shape[:-2], torch.nan, dtype=torch.float64, device=prediction.device)
