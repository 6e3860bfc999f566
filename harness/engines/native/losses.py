"""The losses' gradient in the predictions, and that gradient's directional derivative, in closed form."""

from __future__ import annotations

import torch
from torch import Tensor


class LossGradient:
    """The gradient of every group's mean loss at ``prediction`` ``[G, n, out]``."""

    def __init__(self, kind: str, prediction: Tensor, target: Tensor) -> None:
        """``target`` is ``[G, n]`` classes for "cross_entropy", ``[G, n, out]`` values for "mse"."""
        self.probability = None
        if kind == "cross_entropy":
            self.weight = 1.0 / prediction.shape[1]
            self.probability = torch.softmax(prediction, -1)
            one_hot = torch.nn.functional.one_hot(target, prediction.shape[-1])
            self.gradient = (self.probability - one_hot) * self.weight
        else:
            self.weight = 2.0 / (prediction.shape[1] * prediction.shape[2])
            self.gradient = (prediction - target) * self.weight

    def tangent(self, prediction_dot: Tensor) -> Tensor:
        """Derivative of the gradient along ``prediction_dot``: the loss's Hessian applied to it."""
        if self.probability is None:
            return prediction_dot * self.weight
        weighted = self.probability * prediction_dot
        return (weighted - self.probability * weighted.sum(-1, keepdim=True)) * self.weight
