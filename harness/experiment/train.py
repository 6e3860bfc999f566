"""Algorithm 1's outer loop: meta-gradients, Adam or SGD on w and phi, records, checkpoints, divergence."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.engines.chunks import TaskChunks
from harness.experiment.evaluate import evaluate
from harness.experiment.interrupts import deferred
from harness.experiment.records import Records, Totals
from harness.experiment.shares import meta_gradient
from harness.experiment.stationarity import Stationarity
from harness.measure.clocks import make_clock
from harness.measure.flops import flops_of
from harness.measure.memory import PeakMemory, bytes_asked, first_sentence, free_memory
from harness.problem.oracle import Counts
from harness.problem.tasks import draw
from harness.store.records import Status

if TYPE_CHECKING:
    from harness.engines.engine import Engine
    from harness.engines.native import Native
    from harness.experiment.progress import Progress
    from harness.experiment.ranks import Alone
    from harness.problem.benchmark import Benchmark
    from harness.problem.oracle import MetaGradient, Outcome
    from harness.problem.tasks import TaskBatch
    from harness.settings.config import RunConfig
    from harness.store.directory import RunDirectory

# Records wait on the device until one of these is reached, so that CUDA never waits for each of them.
_FLUSH_ITERATIONS, _FLUSH_SECONDS = 20, 1.0


class Trainer:
    """One training run on one device; :meth:`train` may be called once."""

    def __init__(
        self,
        config: RunConfig,
        engine: Engine,
        evaluator: Native,
        benchmark: Benchmark,
        directory: RunDirectory,
        w: Tensor,
        phi: Tensor,
        progress: Progress,
        unknown: dict[str, str],
        ranks: Alone,
    ) -> None:
        self.config, self.engine, self.evaluator, self.benchmark = config, engine, evaluator, benchmark
        self.directory, self.progress, self.ranks = directory, progress, ranks
        #: what is not known of this run, and why (see :class:`harness.experiment.setup.Setup`)
        self.unknown = unknown
        measured = config.stationarity_every and "definition_1" not in unknown
        self.stationarity = Stationarity(config, engine.problem, benchmark, ranks) if measured else None
        self.w, self.phi = w, phi
        groups = [{"params": [w], "lr": config.outer_lr_w}, {"params": [phi], "lr": config.outer_lr_phi}]
        kind = torch.optim.Adam if config.outer_optimizer == "adam" else torch.optim.SGD
        self.optimizer = kind(groups, foreach=False)
        first, stop = ranks.share(config.meta_batch)
        own = max(1, stop - first)
        self.chunks = TaskChunks(config.task_chunk, own, engine.tasks_at_once(own, w.device))
        self.held_out = TaskChunks(config.task_chunk, config.meta_batch)
        self.counts = Counts()
        self.clock = make_clock(w.device)
        self.memory = PeakMemory(w.device)
        self.records = Records(directory, progress, self.clock, self.memory, ranks, unknown)
        self.shortage: dict[str, Any] | None = None
        self.stopped: str | None = None
        self._wall_since = time.monotonic()

    @property
    def totals(self) -> Totals:
        """What adds up over the run."""
        return self.records.totals

    @property
    def divergence(self) -> dict[str, Any] | None:
        """The first quantity that was not finite, and its iteration."""
        return self.records.divergence

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint (see :meth:`state`)."""
        with torch.no_grad():
            self.w.copy_(state["w"])
            self.phi.copy_(state["phi"])
            for name, part in self.engine.problem.network.fixed().items():
                part.copy_(state["fixed"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.records.restore(state["totals"])
        if why := self.totals.counts_unknown:
            self.unknown["counts"] = self.counts.unknown = why
        elif not self.ranks.rank:  # they are summed over ranks
            self.counts = Counts(**self.totals.counts)  # type: ignore[arg-type]  # none is None where all are known
        if self.config.task_chunk == "auto" and self.totals.task_chunk:
            self.chunks.size = self.totals.task_chunk
        if self.stationarity and state["stationarity"] is not None:
            self.stationarity.before = {name: part.to(self.w.device) for name, part in state["stationarity"].items()}

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on; plain containers and tensors."""
        self.count_wall()
        self.totals.task_chunk = self.chunks.size if self.config.task_chunk == "auto" else None
        network = self.engine.problem.network
        parts = {"w": network.w_slots, "phi": network.phi_slots}
        return {
            "version": 1,
            "w": self.w.detach(),
            "phi": self.phi.detach(),
            "names": {part: [(slot.name, tuple(slot.shape)) for slot in slots] for part, slots in parts.items()},
            "own": list(network.own),
            "fixed": network.fixed(),
            "tied": {name: first for name, first in network.slot_names.items() if name != first},
            "optimizer": self.optimizer.state_dict(),
            "stationarity": self.stationarity.before if self.stationarity else None,
            "totals": vars(self.totals),
        }

    def train(self) -> Status:
        """Train to the last iteration; returns ``completed``, ``diverged``, ``stopped`` or ``interrupted``."""
        config = self.config
        self.progress.begin(config, self.totals.iteration)
        with deferred() as interrupt:
            if self.stationarity and not self.totals.iteration:
                self._measure()
            self._start_stretch()
            for iteration in range(self.totals.iteration + 1, config.iterations + 1):
                self._iterate(iteration)
                last = iteration == config.iterations
                validate = config.eval_every and (last or iteration % config.eval_every == 0)
                measure = self.stationarity and (last or iteration % config.stationarity_every == 0)
                save = last or iteration % config.checkpoint_every == 0
                full = self.records.waiting >= _FLUSH_ITERATIONS or time.monotonic() - self._since > _FLUSH_SECONDS
                full, asked = self.ranks.any(full, interrupt.pending)
                if iteration == 1 or validate or measure or save or full or asked:
                    self.records.flush(self.counts.unknown)
                    if self.divergence:
                        return Status.DIVERGED
                    if measure:
                        self.stopped = self.progress.measured("stationarity", self._measure())
                    if validate:
                        validated = self.evaluate("validation")
                        self.stopped = self.progress.measured("validation", validated) or self.stopped
                    self.stopped = self.ranks.first(self.stopped)
                    stop = asked or (self.stopped and not last)
                    if save or stop:
                        self.directory.append("metrics.jsonl", [], durable=True)
                        if self.stationarity:
                            self.directory.append("stationarity.jsonl", [], durable=True)
                        self.directory.save_checkpoint(self.state())
                    if stop:
                        return Status.STOPPED if self.stopped else Status.INTERRUPTED
                    self._start_stretch()
            _, asked = self.ranks.any(False, interrupt.pending)
            return Status.INTERRUPTED if asked else Status.COMPLETED

    def evaluate(self, split: str) -> dict[str, Any]:
        """Evaluate on ``split``, off the clock; returns the line that goes to ``evaluations.jsonl``."""
        with self.memory.paused():

            def report(done: int, total: int) -> None:
                self.progress.evaluated(split, done, total)

            result = evaluate(
                self.evaluator, self.w, self.phi, self.benchmark, self.config, split, self.held_out, report, self.ranks
            )
        record = {"iteration": self.totals.iteration, **result}
        self.directory.append("evaluations.jsonl", [record], durable=True)
        return record

    def ran_out(self, error: Exception) -> None:
        """Note that memory ran out, and how much was asked for if ``error`` says it."""
        self.shortage = {"asked_bytes": bytes_asked(error), "message": first_sentence(error)}

    def settle(self) -> Status | None:
        """Bring to disk what was computed before memory ran out; ``diverged`` if it had diverged by then."""
        free_memory()
        self.records.flush(self.counts.unknown)
        return Status.DIVERGED if self.divergence else None

    def count_wall(self) -> None:
        """Bring ``totals.wall`` up to now."""
        now = time.monotonic()
        self.totals.wall += now - self._wall_since
        self._wall_since = now

    def flops_per_iteration(self) -> int:
        """Floating-point operations of one meta-gradient on the first batch, see :func:`flops_of`."""
        first, stop = self.ranks.share(self.config.meta_batch)
        own = 0
        if first < stop:
            batch = self._tasks(first, stop)
            with self.memory.paused():
                own = flops_of(lambda: self.chunks.meta_gradient(self.engine, self.w, self.phi, batch))
        return sum(self.ranks.everyone(own))

    def _measure(self) -> dict[str, Any]:
        """Measure Definition 1, off the clock; returns the line that goes to ``stationarity.jsonl``."""
        assert self.stationarity is not None
        with self.memory.paused():
            measured = self.stationarity.measure(self.w, self.phi)
        so_far = {"counts": self.totals.counts, "seconds": self.totals.seconds}
        record = {"iteration": self.totals.iteration, **measured, **so_far}
        self.directory.append("stationarity.jsonl", [record])
        return record

    def _iterate(self, iteration: int) -> None:
        """One meta-iteration (lines 3 to 12 of Algorithm 1); nothing here waits for the device."""
        config = self.config
        first = (iteration - 1) * config.meta_batch

        def of_share(start: int, stop: int) -> tuple[MetaGradient, Outcome]:
            batch = self._tasks(first + start, first + stop)
            return self.chunks.meta_gradient(self.engine, self.w, self.phi, batch, self.counts, self.clock)

        with self.engine.problem.algorithm.training(iteration - 1):
            gradient, outcome = meta_gradient(self.ranks, config.meta_batch, of_share, self.w, self.phi, self.clock)
        with self.clock.phase("outer_update"):
            for group, step_size in zip(self.optimizer.param_groups, step_sizes(config, iteration), strict=True):
                group["lr"] = step_size
            self.w.grad, self.phi.grad = gradient.w, gradient.phi
            self.optimizer.step()
        self.clock.lap()
        self.records.note(outcome, gradient, self.w, self.phi, self.counts)

    def _tasks(self, first: int, stop: int) -> TaskBatch:
        return draw(self.benchmark, self.config, "train", first, stop - first, self.w.device, self.w.dtype)

    def _start_stretch(self) -> None:
        self.ranks.any()  # what others still do off the clock is not on it
        self._since = time.monotonic()
        self.clock.start()


def step_sizes(config: RunConfig, iteration: int) -> tuple[float, float]:
    """beta_w and beta_phi of meta-iteration ``iteration``, from 1."""
    left = 1.0
    if config.outer_schedule == "cosine":
        left = 0.5 * (1 + math.cos(math.pi * (iteration - 1) / config.iterations))
    return config.outer_lr_w * left, config.outer_lr_phi * left
