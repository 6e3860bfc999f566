"""The engine on JAX (Bradbury et al. 2018): the meta-gradient as one function of arrays, compiled once a shape."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.engines.engine import Problem
from harness.engines.peer import PeerEngine

if TYPE_CHECKING:
    from torch import Tensor

    from harness.problem.oracle import Clock, Counts, MetaGradient, Outcome, Slot
    from harness.problem.tasks import TaskBatch

Array = Any


class Jax(PeerEngine):
    """``jit(grad(mean of vmap(task)))``, the inner loop written out; arrays go there and come back by dlpack.

    JAX has float64 during a call only. The first call with a shape compiles, in a run the first meta-iteration. Its
    threads are its own: it takes every core that the process may use.
    """

    name = "jax"
    summary = "google/jax: jitted and vmapped, for chains of layers that have a translation"
    requires = ("jax", "pip install 'jax>=0.9'")

    def __init__(self, problem: Problem, strategy: str = "auto") -> None:
        from harness.problem.losses import Loss

        super().__init__(problem, strategy)
        from harness.engines.jax_layers import loss_of, program

        network = problem.network
        names = {id(part): name for name, part in network.module.named_parameters()}
        self.loss = loss_of(Loss.of(problem.inner.loss))
        self.body = program(network.body, names) if network.body is not None else None
        self.tail = program(network.tail, names)

    def meta_gradient(
        self, w: Tensor, phi: Tensor, batch: TaskBatch, counts: Counts | None = None, clock: Clock | None = None
    ) -> tuple[MetaGradient, Outcome]:
        """See :meth:`Engine.meta_gradient`."""
        import jax
        from torch.utils.dlpack import from_dlpack

        from harness.problem.objective import accuracy
        from harness.problem.oracle import MetaGradient, Outcome

        module = self.problem.network.module
        frozen = {name: part for name, part in module.named_parameters() if not part.requires_grad}
        tensors = (w, phi, frozen, *vars(batch).values())
        with jax.enable_x64(True):
            arrays = jax.tree.map(lambda tensor: jax.dlpack.from_dlpack(tensor.detach().contiguous()), tensors)
            # JAX goes on by itself, and the memory is others' again when this returns.
            found = jax.block_until_ready(self.compiled(*arrays))
        (g_w, g_phi), (losses, predictions) = jax.tree.map(from_dlpack, found)
        self.count(counts, batch.tasks)
        return MetaGradient(g_w, g_phi), Outcome(losses, accuracy(self.problem.inner.loss, predictions, batch.query_y))

    @cached_property
    def compiled(self) -> Callable[..., Any]:
        """The gradient in flat (w, phi) of the mean of L_D, with each task's loss and predictions."""
        import jax

        network = self.problem.network

        def mean_loss(w: Array, phi: Array, frozen: dict[str, Array], *batch: Array) -> tuple[Array, Any]:
            start, shared = _unflatten(w, network.w_slots), {**frozen, **_unflatten(phi, network.phi_slots)}
            losses, predictions = jax.vmap(lambda *task: self._task(start, shared, *task))(*batch)
            return losses.mean(), (losses, predictions)

        compiled: Callable[..., Any] = jax.jit(jax.grad(mean_loss, (0, 1), has_aux=True))
        return compiled

    def _task(
        self, w: dict[str, Array], shared: dict[str, Array], x: Array, y: Array, query: Array, query_y: Array
    ) -> tuple[Array, Array]:
        """L_D and predictions at w_N of one task."""
        import jax

        inner = self.problem.inner
        if self.body is not None and inner.norm_statistics == "joint":
            both = self.body(shared, jax.numpy.concatenate([x, query]))
            x, query = both[: len(x)], both[len(x) :]
        elif self.body is not None:
            x, query = self.body(shared, x), self.body(shared, query)

        def inner_loss(w: dict[str, Array]) -> Array:
            value = self.loss(self.tail({**shared, **w}, x), y)
            return value + inner.l2 / 2 * sum((part**2).sum() for part in w.values())

        for _ in range(inner.inner_steps):
            gradient = jax.grad(inner_loss)(w)
            if self.first_order:
                gradient = jax.lax.stop_gradient(gradient)
            w = {name: part - inner.inner_lr * gradient[name] for name, part in w.items()}
        prediction = self.tail({**shared, **w}, query)
        return self.loss(prediction, query_y), prediction


def _unflatten(vector: Array, slots: tuple[Slot, ...]) -> dict[str, Array]:
    return {slot.name: vector[slot.start : slot.stop].reshape(slot.shape) for slot in slots}
