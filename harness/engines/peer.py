"""What the engines on other people's libraries share: all but the inner loop, which each library runs its own way."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from harness.engines.engine import Engine, Problem
from harness.errors import NotSupported

if TYPE_CHECKING:
    from torch import Tensor

    from harness.problem.oracle import Clock, Counts, MetaGradient, Outcome, Slot
    from harness.problem.tasks import TaskBatch


class PeerEngine(Engine):
    """An engine on another library, which computes what an algorithm declares instead of its rule.

    The phases of ``clock`` stay untouched: it cannot see into another library.
    """

    def __init__(self, problem: Problem, strategy: str = "auto") -> None:
        from harness.problem.meta_loss import adapts_plainly

        super().__init__(problem, strategy)
        algorithm = problem.algorithm
        if algorithm.derivative is None or not adapts_plainly(algorithm):
            raise NotSupported(
                f"algorithm {algorithm.name!r} has a rule of its own, engine {self.name} knows exact and first_order "
                f"meta-gradients of gradient descent; try --engine native"
            )
        self.require()
        self.first_order = algorithm.derivative == "first_order"

    def count(self, counts: Counts | None, tasks: int) -> None:
        """Add the entries of Table 2 by formula: another library's evaluations cannot be observed."""
        if counts is None:
            return
        n_w, n_phi, steps = self.problem.network.n_w, self.problem.network.n_phi, self.problem.inner.inner_steps
        counts.gradient_entries += tasks * (steps * n_w + n_w + n_phi)
        counts.query_gradients += tasks
        if not self.first_order:
            counts.second_order_entries += tasks * steps * (n_w**2 + n_w * n_phi)
            counts.hessian_vector_products += tasks * steps
            counts.mixed_products += tasks * steps * (n_phi > 0)


class TaskByTask(PeerEngine):
    """A peer on torch's modules. A subclass says how its library adapts the tail of the network to one task.

    Around that is the loop that these libraries' own examples write: a task at a time, features of the shared body
    once per task, and a backward pass per task, so that only one task's graph is alive.
    """

    def __init__(self, problem: Problem, strategy: str = "auto") -> None:
        super().__init__(problem, strategy)
        network = problem.network
        if network.tail_slots:
            raise NotSupported(
                f"engine {self.name} adapts whole modules, but {network.tail_slots[0].name!r} is shared and lies "
                f"behind adapted parameters; allowed: all or last:k of a Sequential model, or --engine native"
            )
        self.tail = network.tail
        #: the parameters that w is loaded into; a library may put its own tensors into the tail for a while
        self.initial = list(self.tail.parameters())

    @abstractmethod
    def adapted(self, support: Tensor, support_y: Tensor) -> AbstractContextManager[Callable[[Tensor], Tensor]]:
        """The tail after N inner steps on one task's features ``support`` ``[S, ...]`` and ``support_y``.

        On leaving the context, after the backward pass of the query loss, the meta-gradient of the task
        has been added to ``.grad`` of :attr:`initial` and the tail holds those parameters again.
        """

    def meta_gradient(
        self, w: Tensor, phi: Tensor, batch: TaskBatch, counts: Counts | None = None, clock: Clock | None = None
    ) -> tuple[MetaGradient, Outcome]:
        """See :meth:`Engine.meta_gradient`; ``w`` and ``phi`` are written into the network's own module."""
        import torch

        from harness.problem.objective import accuracy
        from harness.problem.oracle import MetaGradient, Outcome

        network, kind = self.problem.network, self.problem.inner.loss
        network.load(w, phi).zero_grad()
        losses, predictions = [], []
        for task in range(batch.tasks):
            support, query = self.features(batch.support_x[task], batch.query_x[task])
            with self.adapted(support, batch.support_y[task]) as model:
                prediction = model(query)
                loss = self.loss(prediction, batch.query_y[task])
                loss.backward()
            losses.append(loss.detach())
            predictions.append(prediction.detach())
        self.count(counts, batch.tasks)
        gradient = MetaGradient(
            self.read_gradient(network.w_slots, w) / batch.tasks,
            self.read_gradient(network.phi_slots, phi) / batch.tasks,
        )
        return gradient, Outcome(torch.stack(losses), accuracy(kind, torch.stack(predictions), batch.query_y))

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss of one task, without the inner regulariser."""
        from harness.problem.objective import task_loss

        return task_loss(self.problem.inner.loss, prediction, target)

    def features(self, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """Body outputs for one task's examples (the examples themselves where there is no body)."""
        import torch

        body = self.problem.network.body
        if body is None:
            return support, query
        if self.problem.inner.norm_statistics == "joint":
            both = body(torch.cat([support, query]))
            return both[: len(support)], both[len(support) :]
        with torch.set_grad_enabled(not self.first_order):  # phi meets L_S in second-order terms only
            features = body(support)
        return features, body(query)

    def add_gradients(self, last: Iterable[Tensor]) -> None:
        """Add ``.grad`` at w_N to that of :attr:`initial`: FOMAML where a library cuts the graph between them."""
        for parameter, adapted in zip(self.initial, last, strict=True):
            if adapted.grad is not None:
                parameter.grad = adapted.grad if parameter.grad is None else parameter.grad + adapted.grad

    def read_gradient(self, slots: tuple[Slot, ...], like: Tensor) -> Tensor:
        """``.grad`` of the module's parameters as a flat vector in the order of ``slots``."""
        import torch

        result = torch.zeros_like(like)
        parameters = dict(self.problem.network.module.named_parameters())
        for slot in slots:
            gradient = parameters[slot.name].grad
            if gradient is not None:
                result[slot.start : slot.stop] = gradient.reshape(-1)
        return result
