"""R2D2 (Bertinetto, Henriques, Torr, Vedaldi 2019): the classifier is the solution of a ridge regression."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from algorithms.ridge import of_examples, ridge
from harness.problem.algorithm import Choice, ClosedForm, Geometry, Inner, Range, Slot

if TYPE_CHECKING:
    from torch import Tensor


class R2D2Options(BaseModel):
    """Where the two learned numbers start."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    strength: float = Field(1.0, gt=0, le=1e6, description="of the ridge regression, lambda, at the start")
    scale: float = Field(10.0, gt=0, le=1e6, description="of the regression's outputs as logits, at the start")


class R2D2(ClosedForm):
    """Regression on ones and zeros; its strength and the scale of its outputs are learned, by their logarithms.

    The offset of the outputs that the paper learns too moves all classes alike, which softmax does not see.
    """

    name = "r2d2"
    summary = "a ridge regression on the features instead of an inner loop, its strength and scale learned"
    geometries = {"ridge": Geometry("last:1", "the classifier is the solution of a ridge regression")}
    Options = R2D2Options

    @property
    def search_space(self) -> Mapping[str, Range | Choice]:
        """See :attr:`Algorithm.search_space`."""
        strength, scale = Range(1e-2, 1e2, log=True), Range(1.0, 100.0, log=True)
        return {**super().search_space, "algo_options.strength": strength, "algo_options.scale": scale}

    def parameters(self, w: Sequence[Slot], inner: Inner) -> Mapping[str, Tensor]:
        """See :meth:`Algorithm.parameters`."""
        import torch

        return {f"log_{name}": torch.tensor([math.log(getattr(self.options, name))]) for name in ("strength", "scale")}

    def head(self, features: Tensor, targets: Tensor, w: Tensor, **own: Tensor) -> Tensor:
        """w ``[B, n_w]``."""
        dual = ridge(features, targets, own["log_strength"].exp())
        return own["log_scale"].exp() * of_examples(dual, features, w)
