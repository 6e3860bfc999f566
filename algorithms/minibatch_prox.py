"""Meta-MinibatchProx (Zhou, Yuan, Xu, Yan, Feng 2019): the outer step goes towards a proximal point of each task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from harness.problem.algorithm import Algorithm, Choice, Geometry, MetaGradient, Oracle, Range

if TYPE_CHECKING:
    from torch import Tensor


class ProximalOptions(BaseModel):
    """Options of the proximal inner problem."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    strength: float = Field(0.1, gt=0, le=1e38, description="of the proximal term, lambda in (lambda/2)|w - w_0|^2")
    tolerance: float = Field(1e-2, ge=0, lt=1, description="of the inner gradient, relative to the first")


class MinibatchProx(Algorithm):
    """lambda (w_0 - w*), w* = argmin L_S(w) + (lambda/2) |w - w_0|^2: the gradient of that minimum in w_0; no L_D."""

    name = "minibatch_prox"
    summary = "the way to a proximal point of the support's loss, taken for the meta-gradient"
    geometries = {"nonconvex": Geometry("all", "the whole network, held near w_0")}
    Options = ProximalOptions
    defaults = {"inner_steps": 20}

    @property
    def search_space(self) -> Mapping[str, Range | Choice]:
        """See :attr:`Algorithm.search_space`; N is only where the loop ends at last."""
        space = dict(super().search_space) | {"algo_options.strength": Range(1e-2, 3.0, log=True)}
        return {name: space[name] for name in space if name != "inner_steps"}

    def adapt(self, oracle: Oracle, inner_steps: int, inner_lr: float) -> Tensor:
        """w* ``[B, n_w]`` by gradient descent to a tolerance, at most N steps, each task by itself."""
        start = w = oracle.initial()
        asked = enough = None
        for _ in range(inner_steps):
            gradient = oracle.inner_gradient(w, asked=asked) + self.options.strength * (w - start)
            size = gradient.norm(dim=1)
            enough = self.options.tolerance * size if enough is None else enough
            left = ~(size <= enough)  # a number that is none goes on, to be seen
            asked = left if asked is None else asked & left
            if not asked.any():
                break
            w = (w - inner_lr * gradient).where(asked[:, None], w)
        return w

    def meta_gradient(self, oracle: Oracle, inner_steps: int, inner_lr: float) -> MetaGradient:
        """The mean of lambda (w_0 - w*) over tasks."""
        way = oracle.pseudo_gradient(self.adapt(oracle, inner_steps, inner_lr))
        return MetaGradient(self.options.strength * way.mean(0), way.new_zeros(oracle.n_phi))
