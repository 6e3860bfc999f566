"""The losses' gradient in the predictions, and that gradient's directional derivative, in closed form.

A loss of a person's own is differentiated by autograd, itself alone: the layers stay written out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.problem.losses import Loss
from harness.problem.objective import label_weights, task_loss


class LossGradient:
    """The gradient of every group's loss at ``prediction`` ``[G, n, out]``."""

    def __init__(self, loss: Loss | str, prediction: Tensor, target: Tensor) -> None:
        """``target``: of every group as :func:`harness.problem.objective.task_loss` takes it."""
        self.loss = loss = Loss.of(loss)
        self.prediction, self.target = prediction, target
        #: of cross-entropy
        self.probability: Tensor | None = None
        #: what a tangent is multiplied by: of each example in cross-entropy, else of each output
        self.weight: float | Tensor
        mean = 1.0 / (prediction.shape[1] * prediction.shape[2])
        if loss.own:
            self.gradient = self._of_own(create_graph=False)[1]
        elif loss.name == "cross_entropy":
            self.probability = torch.softmax(prediction, -1)
            if loss.plain and not target.is_floating_point():
                self.weight = 1.0 / prediction.shape[1]
                one_hot = torch.nn.functional.one_hot(target, prediction.shape[-1])
                self.gradient = (self.probability - one_hot) * self.weight
            else:
                labels = label_weights(loss, target, prediction)
                self.weight = labels.sum(-1, keepdim=True)
                self.gradient = self.probability * self.weight - labels
        elif loss.name == "bce":
            probability = torch.sigmoid(prediction)
            self.weight = probability * (1 - probability) * mean
            self.gradient = (probability - target) * mean
        elif loss.name == "mse":
            self.weight = 2.0 * mean
            self.gradient = (prediction - target) * self.weight
        elif loss.name == "l1":
            self.weight = 0.0
            self.gradient = (prediction - target).sign() * mean
        else:
            error, delta = prediction - target, loss.options["delta"]
            self.weight = (error.abs() <= delta).to(error.dtype) * mean
            self.gradient = error.clamp(-delta, delta) * mean

    def tangent(self, prediction_dot: Tensor) -> Tensor:
        """Derivative of the gradient along ``prediction_dot``: the loss's Hessian applied to it."""
        if self.loss.own:
            prediction, gradient = self._of_own(create_graph=True)
            if not gradient.requires_grad:  # linear
                return torch.zeros_like(prediction_dot)
            return torch.autograd.grad(gradient, prediction, prediction_dot, materialize_grads=True)[0]
        if self.probability is None:
            return prediction_dot * self.weight
        weighted = self.probability * prediction_dot
        return (weighted - self.probability * weighted.sum(-1, keepdim=True)) * self.weight

    def _of_own(self, create_graph: bool) -> tuple[Tensor, Tensor]:
        """The predictions as a leaf, and the gradient at them: no group's loss depends on another's."""
        with torch.enable_grad():
            prediction = self.prediction.detach().requires_grad_()
            pairs = zip(prediction, self.target, strict=True)
            total = torch.stack([task_loss(self.loss, one, target) for one, target in pairs]).sum()
            return prediction, torch.autograd.grad(total, prediction, create_graph=create_graph)[0]
