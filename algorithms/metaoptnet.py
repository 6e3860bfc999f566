"""MetaOptNet (Lee, Maji, Ravichandran, Soatto 2019): the classifier is a convex problem's solution, SVM or ridge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from algorithms.ridge import of_examples, ridge
from algorithms.svm import svm
from harness.problem.algorithm import Choice, ClosedForm, Geometry, Inner, Range, Slot

if TYPE_CHECKING:
    from torch import Tensor


class MetaOptNetOptions(BaseModel):
    """Of the two convex problems, with what the authors' program sets."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    strength: float = Field(50.0, gt=0, le=1e6, description="of the ridge regression, lambda")
    slack: float = Field(0.1, gt=0, le=1e6, description="price of an example on the wrong side of the SVM, C")
    scale: float = Field(1.0, gt=0, le=1e6, description="of the logits, at the start; it is learned")


class MetaOptNet(ClosedForm):
    """The multi-class SVM of Crammer and Singer by its dual, or a ridge regression; the scale of the logits learned."""

    name = "metaoptnet"
    summary = "a support vector machine or ridge regression on the features instead of an inner loop"
    geometries = {
        "svm": Geometry("last:1", "the classifier is a multi-class support vector machine"),
        "ridge": Geometry("last:1", "the classifier is the solution of a ridge regression"),
    }
    classes_only = True
    Options = MetaOptNetOptions

    @property
    def search_space(self) -> Mapping[str, Range | Choice]:
        """See :attr:`Algorithm.search_space`; with the one number of its convex problem."""
        own = {"svm": ("slack", Range(1e-2, 1e1, log=True)), "ridge": ("strength", Range(1e-2, 1e2, log=True))}
        name, number = own[self.geometry]
        return {**super().search_space, f"algo_options.{name}": number, "algo_options.scale": Range(1.0, 1e2, log=True)}

    def parameters(self, w: Sequence[Slot], inner: Inner) -> Mapping[str, Tensor]:
        """See :meth:`Algorithm.parameters`."""
        import torch

        return {"log_scale": torch.tensor([math.log(self.options.scale)])}

    def head(self, features: Tensor, targets: Tensor, w: Tensor, **own: Tensor) -> Tensor:
        """w ``[B, n_w]``."""
        if self.geometry == "svm":
            dual = svm(features, targets, self.options.slack)
        else:
            dual = ridge(features, targets, features.new_tensor(self.options.strength))
        return own["log_scale"].exp() * of_examples(dual, features, w)
