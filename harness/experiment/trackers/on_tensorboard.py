"""TensorBoard: event files in the run directory, so that ``tensorboard --logdir results/runs`` shows all runs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from harness.experiment.trackers import Tracker


class TensorBoard(Tracker):
    """See :class:`Tracker`. Settings are a text, as hyperparameters would be a run of their own there."""

    name = "tensorboard"

    def open(self, directory: Path, settings: Mapping[str, Any], done: int) -> None:
        """See :class:`Tracker`."""
        if not done:
            shutil.rmtree(directory / self.name, ignore_errors=True)  # of a run that is done anew
        self._writer = SummaryWriter(str(directory / self.name), purge_step=done + 1 if done else None)
        if not done:
            rows = "".join(f"| {name} | {value} |\n" for name, value in settings.items())
            self._writer.add_text("settings", f"| setting | value |\n| --- | --- |\n{rows}")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """See :class:`Tracker`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self, status: str) -> None:
        """See :class:`Tracker`."""
        self._writer.close()
