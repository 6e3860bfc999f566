"""Reptile (Nichol, Achiam, Schulman 2018): the outer step goes towards the adapted parameters."""

from collections.abc import Mapping

from algorithms.maml import MAML
from harness.problem.algorithm import Choice, MetaGradient, Oracle, Range


class Reptile(MAML):
    """MAML that takes w_0 - w_N, the way of the inner loop, for the meta-gradient; L_D is not asked.

    A meta-batch of one task is the paper's algorithm 1, the serial one; of several, its parallel one. Its inner loop
    is N steps on all of the support, where the paper draws minibatches of it.
    """

    name = "reptile"
    summary = "the way that the inner loop went, taken for the meta-gradient"
    derivative = None
    #: the step towards the adapted parameters, as in the paper
    defaults = {"outer_optimizer": "sgd", "outer_lr_w": 0.5}

    @property
    def search_space(self) -> Mapping[str, Range | Choice]:
        """See :attr:`Algorithm.search_space`; the outer step is a part of the way to w_N."""
        return {**super().search_space, "outer_lr_w": Range(0.05, 1.0, log=True)}

    def meta_gradient(self, oracle: Oracle, inner_steps: int, inner_lr: float) -> MetaGradient:
        """The mean of w_0 - w_N over tasks."""
        w = oracle.initial()
        for _ in range(inner_steps):
            w = w - inner_lr * oracle.inner_gradient(w)
        way = oracle.pseudo_gradient(w)
        return MetaGradient(way.mean(0), way.new_zeros(oracle.n_phi))
