"""The oracle: L_S and L_D, their gradients and second-order products on a batch of tasks, counted and timed.

Every algorithm is written against this interface and never calls autograd. Shapes: B tasks, flat
``w`` of ``n_w`` and ``phi`` of ``n_phi`` entries. phi reaches the losses through what the tasks share,

    s = (features of the support, features of the query, shared parameters in the adapted part, the algorithm's own),

so a gradient "with respect to phi" is kept as a cotangent ``[B, n_s]`` of s, which may be added and
scaled, and is pulled back through the shared body once, by :meth:`Oracle.phi_gradient`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.problem.quantities import Clock, Counts, Inner, MetaGradient, NoClock, Outcome, Slot

if TYPE_CHECKING:
    from torch import Tensor

    #: ``(features [B, S, d], targets [B, S, out], w_0 [B, n_w], **own) -> w [B, n_w]``, of differentiable functions
    Head = Callable[..., Tensor]

__all__ = ["Clock", "Counts", "Inner", "MetaGradient", "NoClock", "Oracle", "Outcome", "Slot"]


class Oracle(ABC):
    """Evaluations on one batch of tasks. Subclasses implement the underscored methods."""

    n_w: int
    n_phi: int
    tasks: int
    #: the parameters that w is made of, and where each lies in it
    w_slots: Sequence[Slot]
    #: entries of phi that are the algorithm's own, the last ones: L_S and L_D do not depend on them
    n_own: int = 0
    #: the algorithm's own parameters by name, each in its shape (see :meth:`Algorithm.parameters`)
    own: Mapping[str, Tensor] = {}

    def __init__(self, counts: Counts | None = None, clock: Clock | None = None) -> None:
        self.counts = counts if counts is not None else Counts()
        self.clock = clock or NoClock()
        #: how exact meta-gradients are computed: "unrolled", "recursion", "checkpointed" or "vmapped"
        self.differentiation = "recursion"
        self.outcome: Outcome | None = None
        #: the kinds of evaluation that were asked for, as ``harness time`` names them
        self.made: set[str] = set()
        #: w_0 of the inner loop that :meth:`pull_back` differentiates
        self.recorded_from: Tensor | None = None

    @property
    def classes(self) -> bool:
        """Whether the targets are classes, and not numbers."""
        raise NotImplementedError

    def initial(self, record: bool = False) -> Tensor:
        """w_0 for every task, ``[B, n_w]``.

        ``record``: inner gradients at it, and at what is computed from them, keep the graph that :meth:`pull_back`
        differentiates. It grows with every step, so only a rule that will pull back asks for it.
        """
        w = self._initial()
        if record:
            self.recorded_from = w.requires_grad_()
        return w

    def inner_gradient(self, w: Tensor, linearise: bool = False, asked: Tensor | None = None) -> Tensor:
        """The gradient in w of the inner objective on the support set, ``[B, n_w]``.

        ``asked`` ``[B]``: the tasks that a rule still wants it for; others come along, and are not counted.
        ``linearise`` announces that second-order products at this very ``w`` will follow, so that an
        implementation may keep what it would otherwise compute again.
        """
        self.made.add("inner_gradient")
        self.counts.gradient_entries += self._number(asked) * self.n_w
        with self.clock.phase("inner_gradient"):
            return self._inner_gradient(w, linearise)

    def inner_gradient_again(self, w: Tensor) -> Tensor:
        """:meth:`inner_gradient` where it was before, to save memory: not counted again, timed as second-order work."""
        with self.clock.phase("second_order"):
            return self._inner_gradient(w, linearise=False)

    def outer_gradient(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of L_D in w, ``[B, n_w]``, and in s, ``[B, n_s]``; sets :attr:`outcome`."""
        self._count_outer()
        with self.clock.phase("outer_gradient"):
            return self._outer_gradient(w)

    def pseudo_gradient(self, w: Tensor) -> Tensor:
        """w_0 - ``w``, ``[B, n_w]``: the way that an inner loop went, turned round; sets :attr:`outcome`.

        That asks for L_D without a gradient, which nobody follows, and is not counted.
        """
        self.made.add("pseudo_gradient")
        self.counts.pseudo_gradients += self.tasks
        self.outcome = self.evaluate(w)
        return self._initial() - w

    def second_order_products(self, w: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Hessian-vector and mixed product together: ``[B, n_w]`` and the cotangent ``[B, n_s]``."""
        self._count_second_order()
        with self.clock.phase("second_order"):
            return self._second_order_products(w, u, mixed=True)

    def hessian_product(self, w: Tensor, u: Tensor, asked: Tensor | None = None) -> Tensor:
        """The Hessian in w of the inner objective times ``u``, ``[B, n_w]``; ``asked`` as in :meth:`inner_gradient`."""
        self._count_second_order(mixed=False, tasks=self._number(asked))
        with self.clock.phase("second_order"):
            return self._second_order_products(w, u, mixed=False)[0]

    def mixed_product(self, w: Tensor, u: Tensor) -> Tensor:
        """The derivative in s of the inner product of the inner gradient with ``u``, ``[B, n_s]``."""
        self._count_second_order(hessian=False)
        with self.clock.phase("second_order"):
            return self._mixed_product(w, u)

    def solve(self, head: Head) -> Tensor:
        """w ``[B, n_w]`` as ``head`` finds it from the support's features, in closed form or step by step.

        ``head(features [B, S, d], targets [B, S, out], w_0 [B, n_w], **own)`` is any differentiable function of torch
        that treats tasks one by one; w is the weights ``[out, d]`` and, if it has them, biases ``[out]`` of one linear
        layer. Targets are numbers, classes as ones among zeros. Recorded for :meth:`solve_back`. Raises
        :class:`harness.errors.NotSupported` where w is no linear layer.
        """
        self.made.add("solve")
        self.counts.solves += self.tasks
        with self.clock.phase("inner_gradient"):
            return self._solve(head)

    def solve_back(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Differentiate the last :meth:`solve`, once: cotangents of w_0 ``[B, n_w]`` and of s ``[B, n_s]``."""
        with self.clock.phase("second_order"):
            return self._solve_back(v)

    def cotangent(self, **own: Tensor) -> Tensor:
        """The cotangent of s, ``[B, n_s]``, that is each task's ``[B, *shape]`` in the algorithm's own parameters."""
        raise NotImplementedError

    def pull_back(self, w: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Differentiate a recorded inner loop (see :meth:`initial`) that ended in ``w``: cotangents of w_0 and of s."""
        with self.clock.phase("second_order"):
            return self._pull_back(w, v)

    def descent_gradient(self, inner_steps: int, inner_lr: float) -> MetaGradient:
        """The exact meta-gradient of N steps of gradient descent in one evaluation; sets :attr:`outcome`.

        Counted as the steps that it is made of. Only the oracle of strategy ``vmapped`` has it.
        """
        raise NotImplementedError

    def phi_gradient(self, g: Tensor) -> Tensor:
        """The gradient in phi, averaged over tasks, ``[n_phi]``, of a cotangent ``g`` of s."""
        with self.clock.phase("outer_gradient"):
            return self._phi_gradient(g)

    def _count_descent(self, inner_steps: int) -> None:
        for _ in range(inner_steps):
            self.made.add("inner_gradient")
            self.counts.gradient_entries += self.tasks * self.n_w
            self._count_second_order()
        self._count_outer()

    def _count_outer(self) -> None:
        self.made.add("outer_gradient")
        self.counts.gradient_entries += self.tasks * (self.n_w + self.n_phi)
        self.counts.query_gradients += self.tasks

    def _number(self, asked: Tensor | None) -> int:
        return self.tasks if asked is None else int(asked.sum())

    def _count_second_order(self, hessian: bool = True, mixed: bool = True, tasks: int | None = None) -> None:
        if hessian:
            tasks = self.tasks if tasks is None else tasks
            self.made.add("hessian_vector_product")
            self.counts.hessian_vector_products += tasks
            self.counts.second_order_entries += tasks * self.n_w**2
        if mixed and self.n_phi > self.n_own:
            self.made.add("mixed_product")
            self.counts.mixed_products += self.tasks
            self.counts.second_order_entries += self.tasks * self.n_w * (self.n_phi - self.n_own)

    @abstractmethod
    def evaluate(self, w: Tensor) -> Outcome:
        """Loss and accuracy on the query sets under ``w``, without gradients; not counted."""

    @abstractmethod
    def _initial(self) -> Tensor: ...

    @abstractmethod
    def _inner_gradient(self, w: Tensor, linearise: bool) -> Tensor: ...

    @abstractmethod
    def _outer_gradient(self, w: Tensor) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def _second_order_products(self, w: Tensor, u: Tensor, mixed: bool) -> tuple[Tensor, Tensor]: ...

    def _mixed_product(self, w: Tensor, u: Tensor) -> Tensor:
        return self._second_order_products(w, u, mixed=True)[1]

    def _pull_back(self, w: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def _solve(self, head: Head) -> Tensor:
        raise NotImplementedError

    def _solve_back(self, v: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    @abstractmethod
    def _phi_gradient(self, g: Tensor) -> Tensor: ...
