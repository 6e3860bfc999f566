"""One run shared out between ranks: each computes its tasks of every batch, the first one alone writes and decides.

What a task gives does not depend on the others, so the sums are those of a single process to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness.engines.agreement import TOLERANCE, in_float64
from harness.engines.engine import blamed
from harness.errors import AlgorithmFailed, InputError
from harness.experiment.interrupts import terminable
from harness.experiment.ranks import Alone
from harness.experiment.start import difference
from harness.problem.oracle import MetaGradient, Outcome
from harness.problem.tasks import draw
from harness.store.directory import RunDirectory
from harness.store.environments import DISTRIBUTED

if TYPE_CHECKING:
    from torch import Tensor

    from harness.experiment.setup import Setup
    from harness.experiment.train import Trainer
    from harness.measure.clocks import DeviceClock
    from harness.problem.benchmark import Benchmark
    from harness.problem.tasks import TaskBatch


def take_gpu(ranks: Alone, device: str) -> None:
    """Let this rank use the GPU of its number on this machine, unless ``device`` is none; raises InputError."""
    if ranks.size == 1:
        return
    if ":" in device:
        raise InputError(f"device {device!r} for {ranks.size} ranks: each takes a GPU of its own; allowed: cuda, cpu")
    if device != "cpu" and torch.cuda.is_available():
        number, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if number >= count:
            raise InputError(f"device {device!r}: GPUs for {count} ranks a machine alone; allowed: so many, or cpu")
        torch.cuda.set_device(number)


def check(ranks: Alone, setup: Setup, benchmark: Benchmark) -> None:
    """Raise :class:`InputError` where ranks would not do the same run, or it cannot be shared out."""
    if ranks.size == 1:
        return
    (key, start), *others = ranks.everyone((setup.key_after(0), setup.start))
    for rank, (its_key, its_start) in enumerate(others, 1):
        why = difference(start, its_start) if its_key == key else "other settings, code or data"
        if why:
            raise InputError(f"rank {rank} has {why} than rank 0; give the same run to all")
    if why := setup.unknown.get("task_stream"):
        raise InputError(f"{ranks.size} ranks: {why}; allowed: one process")
    if setup.problem.algorithm.derivative is None and (error := _coupling(setup, benchmark)) > TOLERANCE:
        rule = f"the meta-gradient of algorithm {setup.problem.algorithm.name!r}"
        raise InputError(
            f"{ranks.size} ranks: {rule} on two tasks is not the mean of theirs (relative difference {error:.1g}); "
            f"allowed: one process"
        )


def _coupling(setup: Setup, benchmark: Benchmark) -> float:
    """How far the meta-gradient of two tasks is from the mean of theirs, relatively, in float64.

    0 where a model takes float32 alone, whose rounding would be seen instead.
    """
    config, problem = setup.config, setup.problem
    both = draw(benchmark, config, "train", 0, 2, setup.device, torch.float64)
    if len(both.groups) > 1:  # which nothing evaluates together
        return 0.0

    def gradient(batch: TaskBatch) -> Tensor:
        oracle = setup.evaluator.oracle(setup.w.double(), setup.phi.double(), batch)
        found = problem.algorithm.meta_gradient(oracle, config.inner_steps, config.inner_lr)
        return torch.cat([found.w.detach(), found.phi.detach()])

    try:
        with blamed(problem.algorithm), in_float64(problem.network.module, setup.w.dtype):
            mean = (gradient(both.chunk(0, 1)) + gradient(both.chunk(1, 2))) / 2
            return float((gradient(both) - mean).norm() / mean.norm())
    except AlgorithmFailed:
        return 0.0


def follow(ranks: Alone, train: Callable[[], object]) -> dict[str, Any]:
    """The summary of the first rank's run; trains with it, if that is what it does."""
    with terminable():
        summary: dict[str, Any] | None = ranks.first(None)
        if summary is None:
            train()
            summary = ranks.first(None)
    assert summary is not None  # the first rank has done the run by now
    return summary


def begin_alike(ranks: Alone, trainer: Trainer) -> None:
    """Let every rank begin with the first one's numbers, to the last bit."""
    if ranks.size == 1:
        return
    buffer = BytesIO()
    if not ranks.rank:
        torch.save(trainer.state(), buffer)
    content = ranks.first(buffer.getvalue())
    if ranks.rank:
        trainer.restore(torch.load(BytesIO(content), map_location="cpu", weights_only=True))


def meta_gradient(
    ranks: Alone,
    tasks: int,
    of_share: Callable[[int, int], tuple[MetaGradient, Outcome]],
    w: Tensor,
    phi: Tensor,
    clock: DeviceClock,
) -> tuple[MetaGradient, Outcome]:
    """The mean over ``tasks`` and the outcome of each, from ``of_share(first, stop)``, which gives it for some.

    One sum over ranks of everything, in which each has zeros for what is not its own.
    """
    if ranks.size == 1:
        return of_share(0, tasks)
    sizes = [w.numel(), phi.numel(), tasks, tasks]
    everything = w.new_zeros(sum(sizes))
    of_w, of_phi, loss, accuracy = everything.split(sizes)
    first, stop = ranks.share(tasks)
    if first < stop:
        gradient, outcome = of_share(first, stop)
        of_w.add_(gradient.w.detach(), alpha=stop - first)
        of_phi.add_(gradient.phi.detach(), alpha=stop - first)
        loss[first:stop], accuracy[first:stop] = outcome.loss.detach(), outcome.accuracy.detach()
    with clock.phase("exchange"):
        ranks.add(everything)
    return MetaGradient(of_w / tasks, of_phi / tasks), Outcome(loss, accuracy)


def summed(counts: Sequence[dict[str, int | None]]) -> dict[str, int | None]:
    """Counts over ranks; None for what one of them does not know."""
    known = {name: [count for each in counts if (count := each[name]) is not None] for name in counts[0]}
    return {name: sum(found) if len(found) == len(counts) else None for name, found in known.items()}


def environment(ranks: Alone) -> dict[str, Any]:
    """What ``environment.json`` says of them; nothing of a single one."""
    return {} if ranks.size == 1 else {DISTRIBUTED: {"ranks": ranks.size}}


class Nowhere(RunDirectory):
    """The run directory of every rank but the first: nothing is written."""

    def __init__(self) -> None:
        super().__init__(Path(os.devnull))

    def begin(self, *_: Any) -> None:
        """Nothing."""

    def append(self, *_: Any, **__: Any) -> None:
        """Nothing."""

    def save_checkpoint(self, *_: Any) -> None:
        """Nothing."""

    def discard(self) -> None:
        """Nothing."""

    def finish(self, *_: Any) -> None:
        """Nothing."""
