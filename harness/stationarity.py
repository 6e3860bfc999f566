"""Definition 1, measured: both partial meta-gradients of L_meta on a fixed set of tasks, off the clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.draw import draw
from harness.engines.chunks import TaskChunks
from harness.engines.native import Native
from harness.evaluate import finite
from harness.problem.meta_gradient import exact
from harness.theory.constants import largest_eigenvalue

if TYPE_CHECKING:
    from harness.config import RunConfig
    from harness.engines.engine import Problem
    from harness.problem.benchmark import Benchmark
    from harness.problem.oracle import MetaGradient, Oracle, Outcome

# The fixed tasks come from the training stream, far behind every task that is trained on.
_FIRST_FIXED_TASK = 2**40
_LANCZOS_STEPS = 8


class Stationarity:
    """Measures the partial meta-gradients of L_meta(w, phi) = mean over fixed tasks of L_D(w_N, phi).

    Always the exact meta-gradient of the algorithm's own inner loop: FOMAML follows another direction, but
    what Definition 1 asks about is L_meta. A rule of which only the oracle knows the derivative is
    measured by that rule.
    """

    def __init__(self, config: RunConfig, problem: Problem, benchmark: Benchmark) -> None:
        self.config, self.problem, self.benchmark = config, problem, benchmark
        self.engine = Native(problem)
        self.chunks = TaskChunks(config.task_chunk, config.meta_batch)
        #: ``w``, ``phi`` and their meta-gradients at the measurement before, for the smoothness along the way
        self.before: dict[str, Tensor] | None = None

    def measure(self, w: Tensor, phi: Tensor) -> dict[str, Any]:
        """Loss, accuracy and squared norms at ``w`` ``[n_w]``, ``phi`` ``[n_phi]``; None where not finite.

        ``squared_norms`` holds the squared norm of the gradient in each named parameter, so that the norm
        on any block is a sum: MAML's is reported on the (w, phi) of the ANIL it is compared with.
        ``smoothness_w`` and ``smoothness_phi`` are secants since the measurement before,
        |difference of the partial gradient| / |way in (w, phi)|: lower bounds of the Lipschitz constants
        in Propositions 2 and 3. ``L`` is the largest eigenvalue of the inner Hessian at w_0 that a few
        Lanczos steps find on the first of the tasks: a lower bound of the inner smoothness.
        """
        w, phi = w.detach(), phi.detach()
        at_w, at_phi = torch.zeros_like(w), torch.zeros_like(phi)
        losses, accuracies, eigenvalues = [], [], []
        total, size = self.config.stationarity_tasks, self.config.meta_batch
        for start in range(0, total, size):
            for tasks, (gradient, outcome, largest) in self._on_meta_batch(w, phi, start, min(size, total - start)):
                eigenvalues += largest
                at_w += gradient.w.detach() * (tasks / total)
                at_phi += gradient.phi.detach() * (tasks / total)
                losses.append(outcome.loss.detach())
                accuracies.append(outcome.accuracy.detach())
        network = self.problem.network
        norms = {
            slot.name: finite(float(vector[slot.start : slot.stop].double().square().sum()))
            for vector, slots in ((at_w, network.w_slots), (at_phi, network.phi_slots))
            for slot in slots
        }
        record = {
            "loss": finite(float(torch.cat(losses).double().mean())),
            "accuracy": finite(float(torch.cat(accuracies).double().mean())),
            "grad_w_squared_norm": finite(float(at_w.double().square().sum())),
            "grad_phi_squared_norm": finite(float(at_phi.double().square().sum())),
            "squared_norms": norms,
            "L": finite(float(torch.cat(eigenvalues).max())) if eigenvalues else None,
        }
        now = {"w": w.clone(), "phi": phi.clone(), "grad_w": at_w, "grad_phi": at_phi}
        record |= _smoothness(self.before, now)
        self.before = now
        return record

    def _on_meta_batch(
        self, w: Tensor, phi: Tensor, start: int, tasks: int
    ) -> Iterator[tuple[int, tuple[MetaGradient, Outcome, list[Tensor]]]]:
        """Meta-gradient, outcome and, in the first meta-batch, each task's L, for the fixed tasks from ``start`` on."""
        rule = self.problem.algorithm.meta_gradient if self.problem.algorithm.derivative is None else exact

        def evaluate(first: int, stop: int) -> tuple[MetaGradient, Outcome, list[Tensor]]:
            number = _FIRST_FIXED_TASK + start + first
            batch = draw(self.benchmark, self.config, "train", number, stop - first, w.device, w.dtype)
            oracle = self.engine.oracle(w, phi, batch)
            largest = [] if start else self._largest_eigenvalues(oracle)
            gradient = rule(oracle, self.config.inner_steps, self.config.inner_lr)
            assert oracle.outcome is not None  # every rule ends with an outer gradient
            return gradient, oracle.outcome, largest

        return self.chunks.over(tasks, evaluate)

    def _largest_eigenvalues(self, oracle: Oracle) -> list[Tensor]:
        if not oracle.n_w:
            return []
        generator = torch.Generator().manual_seed(self.config.seed)
        w = oracle.initial().detach()
        return [largest_eigenvalue(oracle, w, generator=generator, iterations=_LANCZOS_STEPS)]


def _smoothness(before: dict[str, Tensor] | None, now: dict[str, Tensor]) -> dict[str, float | None]:
    if before is None:
        return {"smoothness_w": None, "smoothness_phi": None}
    change = {name: float((now[name] - before[name]).double().norm()) for name in now}
    way = (change["w"] ** 2 + change["phi"] ** 2) ** 0.5
    return {f"smoothness_{part}": finite(change[f"grad_{part}"] / way) if way else None for part in ("w", "phi")}
