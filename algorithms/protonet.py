"""ProtoNet (Snell, Swersky, Zemel 2017): the classifier is made of the mean feature of each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.problem.algorithm import ClosedForm, Geometry

if TYPE_CHECKING:
    from torch import Tensor


class ProtoNet(ClosedForm):
    """-|h - c_k|^2 is 2 <c_k, h> - |c_k|^2, linear in a feature h, up to -|h|^2, which softmax does not see."""

    name = "protonet"
    summary = "class means of the features instead of an inner loop"
    geometries = {"prototypes": Geometry("last:1", "the classifier is made of class means")}
    classes_only = True

    def head(self, features: Tensor, targets: Tensor, w: Tensor, **own: Tensor) -> Tensor:
        """w of the class means c ``[B, ways, d]``."""
        import torch

        c = targets.mT @ features / targets.sum(1)[..., None]
        return torch.cat([2 * c.flatten(1), -c.square().sum(-1)], 1)
