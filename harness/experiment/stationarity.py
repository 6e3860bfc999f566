"""Definition 1, measured: both partial meta-gradients of L_meta on a fixed set of tasks, off the clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.engines.chunks import TaskChunks, mean_of
from harness.engines.native import Native
from harness.experiment.evaluate import finite
from harness.experiment.ranks import ALONE, Alone
from harness.experiment.unbiased import mean_and_error, pair_products
from harness.problem.curvature import largest_eigenvalue
from harness.problem.meta_loss import stationarity_rule
from harness.problem.tasks import draw

if TYPE_CHECKING:
    from harness.engines.engine import Problem
    from harness.problem.benchmark import Benchmark
    from harness.problem.oracle import MetaGradient, Oracle, Outcome
    from harness.settings.config import RunConfig

# The fixed tasks come from the training stream, far behind every task that is trained on.
_FIRST_FIXED_TASK = 2**40
_LANCZOS_STEPS = 8
# Groups of tasks, each evaluated together: enough for a standard error, and few enough to be kept side by side.
_GROUPS = 16


class Stationarity:
    """Measures the partial meta-gradients of L_meta(w, phi) = mean over fixed tasks of L_D(w_N, phi).

    Always the exact meta-gradient of the algorithm's own inner loop: FOMAML follows another direction, but
    what Definition 1 asks about is L_meta; see :func:`stationarity_rule` for other inner loops.
    """

    def __init__(self, config: RunConfig, problem: Problem, benchmark: Benchmark, ranks: Alone = ALONE) -> None:
        self.config, self.problem, self.benchmark, self.ranks = config, problem, benchmark, ranks
        self.engine = Native(problem)
        self.sizes = _sizes(config.stationarity_tasks)
        self.chunks = TaskChunks(config.task_chunk, max(self.sizes))
        #: ``w``, ``phi`` and their meta-gradients at the measurement before, for the smoothness along the way
        self.before: dict[str, Tensor] | None = None

    def measure(self, w: Tensor, phi: Tensor) -> dict[str, Any]:
        """Loss, accuracy and squared norms at ``w`` ``[n_w]``, ``phi`` ``[n_phi]``; None where not finite.

        ``unbiased`` is Definition 1: estimates of |grad L_meta|^2 over all tasks (see :mod:`.unbiased`) in
        ``w`` and ``phi``, with their standard errors ``w_error`` and ``phi_error``, and ``w_noise`` and ``phi_noise``,
        tr(Sigma)/T: what sampling T tasks adds to the squared norm of their mean. ``products`` has for each named
        parameter what each group of tasks adds to U, so that it can be taken on any block: MAML's is reported on
        the (w, phi) of the ANIL it is compared with. ``squared_norms`` holds the squared norm of the mean itself.
        ``smoothness_w`` and ``smoothness_phi`` are secants since the measurement before,
        |difference of the partial gradient| / |way in (w, phi)|: lower bounds of the Lipschitz constants
        in Propositions 2 and 3. ``L`` is the norm of the inner Hessian at w_0 that a few
        Lanczos steps find on the first meta-batch of the tasks: a lower bound of the inner smoothness.
        """
        w, phi = w.detach(), phi.detach()
        sums = [(torch.zeros_like(w), torch.zeros_like(phi)) for _ in self.sizes]
        losses, accuracies, eigenvalues = [], [], []
        for group in range(*self.ranks.share(len(sums))):
            of_w, of_phi = sums[group]
            for tasks, (gradient, outcome, largest) in self._on_group(w, phi, group):
                of_w.add_(gradient.w.detach(), alpha=tasks)
                of_phi.add_(gradient.phi.detach(), alpha=tasks)
                eigenvalues += largest
                losses.append(outcome.loss.detach())
                accuracies.append(outcome.accuracy.detach())
        self.ranks.add(*(part for parts in sums for part in parts))
        largest_of_all = self.ranks.joined(eigenvalues)
        total = sum(self.sizes)
        at_w, at_phi = (torch.stack(parts).double().sum(0) / total for parts in zip(*sums, strict=True))
        network = self.problem.network
        norms: dict[str, float | None] = {}
        products: dict[str, list[float]] = {}
        for side, (mean, slots) in enumerate(((at_w, network.w_slots), (at_phi, network.phi_slots))):
            for slot in slots:
                part = slice(slot.start, slot.stop)
                norms[slot.name] = finite(float(mean[part].square().sum()))
                if len(sums) > 1:
                    of_groups = torch.stack([each[side][part] for each in sums])
                    products[slot.name] = pair_products(of_groups, self.sizes).tolist()
        in_w, in_phi = float(at_w.square().sum()), float(at_phi.square().sum())
        of_slots = [
            [products[slot.name] for slot in slots if products] for slots in (network.w_slots, network.phi_slots)
        ]
        record = {
            "loss": finite(float(self.ranks.joined(losses).double().mean())),
            "accuracy": finite(float(self.ranks.joined(accuracies).double().mean())),
            "grad_w_squared_norm": finite(in_w),
            "grad_phi_squared_norm": finite(in_phi),
            "squared_norms": norms,
            "unbiased": {
                "tasks": total,
                "groups": len(sums),
                **_unbiased("w", in_w, of_slots[0]),
                **_unbiased("phi", in_phi, of_slots[1]),
                "products": {name: [finite(value) for value in values] for name, values in products.items()},
            },
            "L": finite(float(largest_of_all.max())) if len(largest_of_all) else None,
        }
        now = {"w": w.clone(), "phi": phi.clone(), "grad_w": at_w.to(w.dtype), "grad_phi": at_phi.to(w.dtype)}
        record |= _smoothness(self.before, now)
        self.before = now
        return record

    def _on_group(
        self, w: Tensor, phi: Tensor, group: int
    ) -> Iterator[tuple[int, tuple[MetaGradient, Outcome, list[Tensor]]]]:
        """Meta-gradient, outcome and, in the first meta-batch, each task's L, for one group of the fixed tasks."""
        rule = stationarity_rule(self.problem.algorithm)
        start = sum(self.sizes[:group])

        def evaluate(first: int, stop: int) -> tuple[MetaGradient, Outcome, list[Tensor]]:
            number = _FIRST_FIXED_TASK + start + first
            batch = draw(self.benchmark, self.config, "train", number, stop - first, w.device, w.dtype)
            found, largest = [], list[Tensor]()
            for group in batch.groups:
                oracle = self.engine.oracle(w, phi, group)
                largest += self._largest_eigenvalues(oracle) if start + first < self.config.meta_batch else []
                gradient = rule(oracle, self.config.inner_steps, self.config.inner_lr)
                assert oracle.outcome is not None  # every rule ends with an outer gradient
                found.append((group.tasks, (gradient, oracle.outcome)))
            return *mean_of(found, batch), largest

        return self.chunks.over(self.sizes[group], evaluate)

    def _largest_eigenvalues(self, oracle: Oracle) -> list[Tensor]:
        if not oracle.n_w:
            return []
        generator = torch.Generator().manual_seed(self.config.seed)
        w = oracle.initial().detach()
        return [largest_eigenvalue(oracle, w, generator=generator, iterations=_LANCZOS_STEPS)]


def _sizes(tasks: int) -> list[int]:
    """Tasks of each group, equal but for one."""
    groups = min(tasks, _GROUPS)
    return [tasks * (group + 1) // groups - tasks * group // groups for group in range(groups)]


def _unbiased(block: str, squared_norm: float, products: list[list[float]]) -> dict[str, float | None]:
    """U on the parameters of a block, its standard error, and the noise in ``squared_norm``; 0 of an empty block."""
    groups = [sum(values) for values in zip(*products, strict=True)]
    value, error = mean_and_error(groups) if groups or squared_norm else (0.0, 0.0)
    return {
        block: finite(value),
        f"{block}_error": finite(error),
        f"{block}_noise": finite(squared_norm - value),
    }


def _smoothness(before: dict[str, Tensor] | None, now: dict[str, Tensor]) -> dict[str, float | None]:
    if before is None:
        return {"smoothness_w": None, "smoothness_phi": None}
    change = {name: float((now[name] - before[name]).double().norm()) for name in now}
    way = (change["w"] ** 2 + change["phi"] ** 2) ** 0.5
    return {f"smoothness_{part}": finite(change[f"grad_{part}"] / way) if way else None for part in ("w", "phi")}
