"""Where people keep their runs: what a run tells, told to TensorBoard, Weights & Biases, MLflow or Aim."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.errors import InputError, unknown
from harness.store.records import flat
from harness.strangers.blame import reason

if TYPE_CHECKING:
    from harness.experiment.progress import Measured, Progress
    from harness.settings.config import RunConfig

log = logging.getLogger("harness")

#: name -> the class in the module ``on_NAME``; each needs the package of its name, all of which are the extra ``track``
TRACKERS = {"tensorboard": "TensorBoard", "wandb": "WandB", "mlflow": "MLflow", "aim": "Aim"}


class Tracker(ABC):
    """One run in one tool, by the tool's own library. Scalars are named ``train/loss``, ``validation/accuracy``,
    ``stationarity/grad_w_squared_norm``, ``test/accuracy.mean``; their step is the meta-iteration.

    A run that goes on is the same run there: it is known by the name of its directory.
    """

    name: ClassVar[str]

    @abstractmethod
    def open(self, directory: Path, settings: Mapping[str, Any], done: int) -> None:
        """The run in ``directory`` begins, or goes on after ``done`` meta-iterations."""

    @abstractmethod
    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Finite numbers by name."""

    @abstractmethod
    def close(self, status: str) -> None:
        """Nothing more comes: the run ended with ``status``, or ``crashed``."""


def checked(names: Iterable[str]) -> tuple[str, ...]:
    """``names`` of trackers whose libraries are there; raises :class:`InputError`."""
    chosen = tuple(dict.fromkeys(names))
    for name in chosen:
        if name not in TRACKERS:
            raise InputError(f"log: {unknown('tracker', name, TRACKERS)}")
        if importlib.util.find_spec(name) is None:
            raise InputError(f"log: {name} is not installed; try pip install {name}")
    return chosen


class Tracked:
    """A :class:`harness.experiment.progress.Progress` that tells ``inner``, and trackers beside it.

    A tracker that fails is told of in one line and left out from then on: it ends no run.
    """

    def __init__(self, names: Iterable[str], directory: Path, inner: Progress) -> None:
        self._inner, self._directory = inner, directory
        self._trackers = [_made(name) for name in names]

    def begin(self, config: RunConfig, done: int) -> None:
        """See :class:`Progress`."""
        self._inner.begin(config, done)
        settings = dict(flat(config.model_dump(mode="json")))
        self._each(lambda tracker: tracker.open(self._directory, settings, done))

    def trained(self, record: dict[str, Any]) -> None:
        """See :class:`Progress`."""
        self._inner.trained(record)
        self._record("train", record)

    def evaluated(self, split: str, done: int, total: int) -> None:
        """See :class:`Progress`."""
        self._inner.evaluated(split, done, total)

    def measured(self, what: Measured, record: dict[str, Any]) -> str | None:
        """See :class:`Progress`."""
        self._record(what, record)
        return self._inner.measured(what, record)

    def end(self) -> None:
        """See :class:`Progress`."""
        self._inner.end()

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """The run's summary, with test tasks; None where there is none, as it failed."""
        if summary is not None:
            parts = {name: summary[name] for name in ("accuracy", "loss", "seconds", "counts", "metrics")}
            more = {"peak_memory_bytes": summary["peak_memory_bytes"]}
            self._record("test", {"iteration": summary["iterations_done"], **parts, **more})
        status = str(summary["status"]) if summary is not None else "crashed"
        self._each(lambda tracker: tracker.close(status))

    def _record(self, kind: str, record: Mapping[str, Any]) -> None:
        if not self._trackers:
            return
        values = {
            f"{kind}/{name}": float(value)
            for name, value in flat(record)
            if name != "iteration" and type(value) in (int, float) and math.isfinite(value)
        }
        self._each(lambda tracker: tracker.scalars(values, record["iteration"]))

    def _each(self, tell: Any) -> None:
        for tracker in list(self._trackers):
            try:
                tell(tracker)
            except Exception as error:  # of a library that may want a network, a login or a disk
                self._trackers.remove(tracker)
                log.warning(
                    "%s is told nothing more of this run: %s: %s", tracker.name, type(error).__name__, reason(error)
                )


def _made(name: str) -> Tracker:
    made: Tracker = getattr(importlib.import_module(f"{__name__}.on_{name}"), TRACKERS[name])()
    return made
