"""MAML++ (Antoniou, Edwards, Storkey 2019): MAML with learned step sizes, a loss at every step, and a gentle start."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from algorithms.metasgd import MetaSGD
from harness.problem.algorithm import Inner, MetaGradient, Oracle, Slot, by_rates

if TYPE_CHECKING:
    from torch import Tensor


class MAMLppOptions(BaseModel):
    """The schedules, in meta-iterations."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    multi_step: int = Field(100, ge=0, description="until the losses before the last step have lost their weight")
    first_order: int = Field(50, ge=0, description="without second-order terms at the start")


class MAMLpp(MetaSGD):
    """Meta-SGD whose alpha is one for each step and parameter tensor, ``[N, tensors]``, with a schedule for L_meta.

    Exact when both schedules have come to their end. Batch norm is MAML's, without statistics for each step.
    """

    name = "mamlpp"
    summary = "step sizes learned by tensor and step; a loss at every step and no second-order terms at the start"
    derivative = "exact"
    Options = MAMLppOptions

    def parameters(self, w: Sequence[Slot], inner: Inner) -> Mapping[str, Tensor]:
        """See :meth:`Algorithm.parameters`."""
        import torch

        return {"alpha": torch.full((inner.inner_steps, len(w)), inner.inner_lr)}

    def rates(self, oracle: Oracle, inner_steps: int) -> Sequence[Tensor]:
        """See :meth:`MetaSGD.rates`."""
        import torch

        each = zip(oracle.own["alpha"].unbind(1), oracle.w_slots, strict=True)
        return torch.cat([alpha[:, None].expand(-1, slot.stop - slot.start) for alpha, slot in each], 1).unbind()

    def meta_gradient(self, oracle: Oracle, inner_steps: int, inner_lr: float) -> MetaGradient:
        """The gradient of sum of c_m L_D(w_m): c_m = 1/N at the start, and at the end of the schedule c_N = 1."""
        import torch

        done = math.inf if self.iteration is None else self.iteration
        early = max(0.0, 1 - done / max(1, self.options.multi_step)) / max(1, inner_steps)
        v, g, slopes = by_rates(oracle, self.rates(oracle, inner_steps), early, done >= self.options.first_order)
        parts = [slopes[..., slot.start : slot.stop].sum(2, keepdim=True) for slot in oracle.w_slots]
        return MetaGradient(v.mean(0), oracle.phi_gradient(g + oracle.cotangent(alpha=torch.cat(parts, 2))))
