"""The lines of ``metrics.jsonl``: kept on the device for a while, then written, summed and held to be finite."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.experiment.evaluate import finite
from harness.experiment.shares import summed
from harness.problem.oracle import Counts
from harness.store.records import PHASES

if TYPE_CHECKING:
    from harness.experiment.progress import Progress
    from harness.experiment.ranks import Alone
    from harness.measure.clocks import DeviceClock
    from harness.measure.memory import PeakMemory
    from harness.problem.oracle import MetaGradient, Outcome
    from harness.store.directory import RunDirectory

_WRITTEN = ("loss", "accuracy", "grad_w_norm", "grad_phi_norm")
# In this order the first one that is not finite is what diverged; w and phi are those after the step. Accuracy is
# none of them: regression has none.
_CHECKED = ("loss", "grad_w_norm", "grad_phi_norm", "w", "phi")


@dataclass
class Totals:
    """What adds up over a run and its resumptions; only ``wall`` has evaluation, logging and checkpoints in it."""

    iteration: int = 0
    seconds: float = 0.0
    wall: float = 0.0
    first_iteration: float | None = None
    phases: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int | None] = field(default_factory=lambda: Counts().as_dict())
    #: why counts are not known, where they are not
    counts_unknown: str = ""
    peak_memory_bytes: int = 0
    #: tasks at once, where it was left to what fits
    task_chunk: int | None = None
    train_loss: float | None = None


class Records:
    """What every meta-iteration says; nothing waits for the device until :meth:`flush`."""

    def __init__(
        self,
        directory: RunDirectory,
        progress: Progress,
        clock: DeviceClock,
        memory: PeakMemory,
        ranks: Alone,
        unknown: dict[str, str],
    ) -> None:
        self._directory, self._progress, self._ranks = directory, progress, ranks
        self._clock, self._memory, self._unknown = clock, memory, unknown
        self.totals = Totals()
        self.divergence: dict[str, Any] | None = None
        self._earlier_phases: dict[str, float] = {}
        self._waiting: list[tuple[Tensor, dict[str, int | None]]] = []

    @property
    def waiting(self) -> int:
        """How many have not been written."""
        return len(self._waiting)

    def restore(self, totals: dict[str, Any]) -> None:
        """Go on from those of a checkpoint."""
        self.totals = Totals(**totals)
        self._earlier_phases = dict(self.totals.phases)
        self._memory.peak = self.totals.peak_memory_bytes

    def note(self, outcome: Outcome, gradient: MetaGradient, w: Tensor, phi: Tensor, counts: Counts) -> None:
        """One meta-iteration, after its step: what is written of it, and whether ``w`` and ``phi`` are finite."""
        # Norms in the type of training: where a square overflows, so does Adam's second moment, for good.
        values = [outcome.loss.mean(), outcome.accuracy.mean(), _norm(gradient.w), _norm(gradient.phi)]
        values += [torch.where(part.isfinite().all(), 0.0, math.nan) for part in (w, phi)]
        self._waiting.append((torch.stack([value.detach().double() for value in values]), counts.as_dict()))

    def flush(self, unknown: str) -> None:
        """Bring the waiting records to disk, up to the first that diverged: what came after is not counted or timed.

        ``unknown``: why this process's counts are not known, if they are not.
        """
        own = [counts for _, counts in self._waiting], unknown, self._memory.read()
        of_all = self._ranks.everyone(own)
        if not self._waiting:
            return
        laps = self._clock.laps()[: len(self._waiting)]
        rows = torch.stack([record for record, _ in self._waiting]).tolist()
        totals, begin = self.totals, self.totals.seconds
        lines = []
        counted = map(summed, zip(*(counts for counts, _, _ in of_all), strict=True))
        for row, lap, counts in zip(rows, laps, counted, strict=True):
            values = dict(zip((*_WRITTEN, "w", "phi"), row, strict=True))
            totals.iteration += 1
            totals.seconds = begin + lap
            totals.counts = counts
            totals.train_loss = finite(values["loss"])
            if totals.first_iteration is None:
                totals.first_iteration = lap
            record = {"iteration": totals.iteration}
            record |= {name: finite(values[name]) for name in _WRITTEN}  # type: ignore[misc]
            lines.append({**record, "counts": counts, "seconds": totals.seconds})
            if quantity := next((name for name in _CHECKED if not math.isfinite(values[name])), None):
                self.divergence = {"iteration": totals.iteration, "quantity": quantity}
                break
        if why := next((why for _, why, _ in of_all if why), ""):
            self._unknown["counts"] = totals.counts_unknown = why
        self._waiting.clear()
        measured = self._clock.seconds(len(lines))
        for name in PHASES:
            if name in measured or name in self._earlier_phases:
                totals.phases[name] = self._earlier_phases.get(name, 0.0) + measured.get(name, 0.0)
        totals.peak_memory_bytes = max(peak for _, _, peak in of_all)
        self._directory.append("metrics.jsonl", lines)
        for line in lines:
            self._progress.trained(line)


def _norm(vector: Tensor) -> Tensor:
    """|vector|. ``Tensor.norm`` adds square after square: in float32 it is off by 4e-4 on a million equal entries."""
    return vector.square().sum().sqrt()
