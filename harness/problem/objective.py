"""Losses: a mean over the examples of one task, once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.errors import InputError


def task_loss(kind: str, prediction: Tensor, target: Tensor) -> Tensor:
    """L(w, phi) of one task: ``prediction`` ``[S, out]``, ``target`` ``[S]`` classes or ``[S, out]``.

    ``kind`` is one of :data:`harness.problem.oracle.LOSSES`, as every :class:`~harness.problem.oracle.Inner` has it.
    """
    if kind == "cross_entropy":
        return F.cross_entropy(prediction, target)
    if prediction.shape != target.shape:  # broadcast, every prediction would meet every target
        raise InputError(f"predictions {list(prediction.shape)} and targets {list(target.shape)}: not of one shape")
    return (prediction - target).square().mean()


def accuracy(kind: str, prediction: Tensor, target: Tensor) -> Tensor:
    """Share of examples classified correctly along the last axis; NaN where nothing is classified, or by NaN."""
    if kind == "cross_entropy":
        right = (prediction.argmax(-1) == target).double()
        return right.where(~prediction.isnan().any(-1), torch.nan).mean(-1)
    return torch.full(prediction.shape[:-2], torch.nan, dtype=torch.float64, device=prediction.device)
