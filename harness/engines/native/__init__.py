"""The native engine: the algorithm's own rule, driven by the fastest oracle that knows the model's layers."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from harness.engines.engine import Engine, Problem, blamed
from harness.errors import NotSupported

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from harness.problem.oracle import Clock, Counts, MetaGradient, Oracle, Outcome
    from harness.problem.tasks import TaskBatch


#: tasks of a meta-batch, from which on strategy ``vmapped`` is the fastest for what autograd differentiates
MANY = 8


def vmap_pays(problem: Problem, tasks: int) -> bool:
    """Whether all ``tasks`` at once are faster than one after the other: many, and no convolution with weights of each,
    nor an LSTM, whose fused kernel vmap has not, without second derivatives, which that kernel has not.

    A rule that was fitted to measurements (docs/decisions.md), and no clock of this run, so that it stays the same run.
    """
    from torch import nn

    slow: tuple[type[nn.Module], ...] = (nn.modules.conv._ConvNd,)
    if problem.algorithm.derivative == "first_order":
        slow += (nn.LSTM,)
    return tasks >= MANY and not any(isinstance(layer, slow) for layer in problem.network.module.modules())


class Native(Engine):
    """Exact meta-gradients by Proposition 1 or by the unrolled loop, with this project's oracles.

    - ``linearised``: the recursion of Proposition 1, keeping each step's linearisation (fastest)
    - ``recursion``: the same, keeping only the N iterates and linearising again
    - ``checkpointed``: the same, keeping about 2 sqrt(N) iterates and computing the others again (least memory)
    - ``unrolled``: the inner loop differentiated by autograd (any model, the plain oracle)
    - ``vmapped``: the same for all tasks at once, where ``torch.func.vmap`` knows the model (small ones, recurrence)

    ``auto`` takes ``linearised`` where every adapted layer is known, else ``vmapped`` where that is known to pay
    (:func:`vmap_pays`; :mod:`harness.engines.agreement` asks, and looks whether it is right), else ``unrolled``.
    """

    name = "native"
    summary = "this project's oracles: Proposition 1 by recursion, or the unrolled inner loop"
    strategies = ("linearised", "recursion", "checkpointed", "unrolled", "vmapped")

    def __init__(self, problem: Problem, strategy: str = "auto") -> None:
        from harness.engines.native.stack import Stack

        super().__init__(problem, strategy)
        self.stack: Stack | None = None
        #: why layers are differentiated by autograd; empty where all are written out
        self.why = problem.distrust or ("it was asked for" if strategy in ("unrolled", "vmapped") else "")
        if not self.why:
            try:
                self.stack = Stack.of(problem.network)
                self.why = self.stack.why
            except NotSupported as reason:
                self.why = str(reason)
        if self.stack is None:
            if strategy == "linearised":
                raise NotSupported(
                    f"strategy 'linearised' needs a model of convolution blocks, linear layers, norms, pools, "
                    f"activations, flatten and sums of these; "
                    f"{self.why}; allowed: recursion, checkpointed, unrolled, vmapped"
                )
            if strategy == "auto":
                self.strategy = "unrolled"

    @property
    def saves_memory(self) -> bool:
        """Whether the strategy is there to need little memory, at the price of time."""
        return self.strategy in ("recursion", "checkpointed")

    def tasks_at_once(self, tasks: int, device: torch.device) -> int:
        """One where memory is to stay flat: the N iterates of all tasks would be what grows with N; one where autograd
        records a task's inner loop, since the graphs of all would be alive together.
        """
        if self.stack is None:
            one_by_one = self.strategy == "unrolled" and not self.problem.network.together
        else:
            one_by_one = self.saves_memory and self.stack.tail.convolves
        return 1 if one_by_one and device.type == "cpu" else tasks

    def oracle(
        self, w: Tensor, phi: Tensor, batch: TaskBatch, counts: Counts | None = None, clock: Clock | None = None
    ) -> Oracle:
        """The oracle on ``batch`` at flat ``w`` ``[n_w]`` and ``phi`` ``[n_phi]``."""
        network, inner = self.problem.network, self.problem.inner
        common: dict[str, Any] = {
            "differentiation": "recursion" if self.strategy == "linearised" else self.strategy,
            "counts": counts,
            "clock": clock,
        }
        if self.stack is not None:
            from harness.engines.native.oracle import LayerOracle

            return LayerOracle(self.stack, inner, w, phi, batch, keep=self.strategy == "linearised", **common)
        if self.strategy == "vmapped":
            from harness.engines.native.vmapped import VmappedOracle

            return VmappedOracle(network, inner, w, phi, batch, **common | {"clock": None})
        from harness.problem.autograd_oracle import AutogradOracle

        return AutogradOracle(network, inner, w, phi, batch, **common)

    def meta_gradient(
        self, w: Tensor, phi: Tensor, batch: TaskBatch, counts: Counts | None = None, clock: Clock | None = None
    ) -> tuple[MetaGradient, Outcome]:
        """See :meth:`Engine.meta_gradient`."""
        from harness.measure.memory import freed_memory_returned

        algorithm, inner = self.problem.algorithm, self.problem.inner
        with freed_memory_returned() if self.saves_memory else nullcontext():
            oracle = self.oracle(w, phi, batch, counts, clock)
            with blamed(algorithm):
                gradient = algorithm.meta_gradient(oracle, inner.inner_steps, inner.inner_lr)
        outcome = oracle.outcome
        if outcome is None:
            raise NotSupported(
                f"algorithm {algorithm.name!r} never said how w_N did; allowed: oracle.outer_gradient(w), "
                f"oracle.pseudo_gradient(w), or oracle.outcome = oracle.evaluate(w) in a rule that needs neither"
            )
        if counts is not None and not oracle.made & {"outer_gradient", "pseudo_gradient"} and gradient.moves:
            counts.lose(
                f"algorithm {algorithm.name!r} never asked the oracle for the gradient of L_D, "
                f"and what its rule did instead cannot be seen"
            )
        return gradient, outcome
