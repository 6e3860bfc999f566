"""Weights & Biases, as its environment variables say (``WANDB_PROJECT``, ``WANDB_MODE=offline``)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from harness.experiment.trackers import Tracker


class WandB(Tracker):
    """See :class:`Tracker`."""

    name = "wandb"

    def open(self, directory: Path, settings: Mapping[str, Any], done: int) -> None:
        """See :class:`Tracker`."""
        project = os.environ.get("WANDB_PROJECT", "anil-vs-maml")
        self._run = wandb.init(
            project=project, name=directory.name, id=directory.name[-64:], resume="allow", config=dict(settings),
            settings=wandb.Settings(silent=True, console="off"),
        )  # fmt: skip
        self._run.define_metric("*", step_metric="iteration")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """See :class:`Tracker`."""
        self._run.log({**values, "iteration": step})

    def close(self, status: str) -> None:
        """See :class:`Tracker`."""
        self._run.summary["status"] = status
        self._run.finish(exit_code=0 if status != "crashed" else 1)
