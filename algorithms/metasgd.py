"""Meta-SGD (Li, Zhou, Chen, Li 2017): the step sizes of the inner loop are learned, one for every parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from algorithms.maml import MAML
from harness.problem.algorithm import Choice, Inner, MetaGradient, Oracle, Range, Slot, by_rates

if TYPE_CHECKING:
    from torch import Tensor


class MetaSGD(MAML):
    """MAML whose alpha is a vector ``[n_w]`` that begins at ``inner_lr`` and is trained with phi."""

    name = "metasgd"
    summary = "MAML with learned inner step sizes, one for every parameter"
    derivative = "exact"

    @property
    def search_space(self) -> Mapping[str, Range | Choice]:
        """See :attr:`Algorithm.search_space`; alpha is trained with phi."""
        return {**super().search_space, "outer_lr_phi": Range(1e-4, 1e-1, log=True)}

    def parameters(self, w: Sequence[Slot], inner: Inner) -> Mapping[str, Tensor]:
        """See :meth:`Algorithm.parameters`."""
        import torch

        return {"alpha": torch.full((w[-1].stop,), inner.inner_lr)}

    def adapt(self, oracle: Oracle, inner_steps: int, inner_lr: float) -> Tensor:
        """See :meth:`Algorithm.adapt`; ``inner_lr`` is where alpha began."""
        w = oracle.initial()
        for alpha in self.rates(oracle, inner_steps):
            w = w - alpha * oracle.inner_gradient(w)
        return w

    def rates(self, oracle: Oracle, inner_steps: int) -> Sequence[Tensor]:
        """alpha ``[n_w]`` of every step."""
        return [oracle.own["alpha"]] * inner_steps

    def meta_gradient(self, oracle: Oracle, inner_steps: int, inner_lr: float) -> MetaGradient:
        """The exact gradient in (w, phi) and alpha."""
        v, g, slopes = by_rates(oracle, self.rates(oracle, inner_steps))
        return MetaGradient(v.mean(0), oracle.phi_gradient(g + oracle.cotangent(alpha=slopes.sum(1))))
