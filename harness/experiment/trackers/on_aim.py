"""Aim: the repository in the current folder, or where ``__AIM_REPO_DIR__`` says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aim import Run

from harness.experiment.trackers import Tracker

#: beside the files of a run, what Aim calls it: it chooses its hashes itself
_HASH = "aim.txt"


class Aim(Tracker):
    """See :class:`Tracker`."""

    name = "aim"

    def open(self, directory: Path, settings: Mapping[str, Any], done: int) -> None:
        """See :class:`Tracker`."""
        known = directory / _HASH
        again = known.read_text().strip() if done and known.exists() else None
        repo = os.environ.get("__AIM_REPO_DIR__", ".")
        self._run = Run(
            run_hash=again,
            repo=repo,
            experiment="anil-vs-maml",
            system_tracking_interval=None,
            capture_terminal_logs=False,
        )
        self._run.name = directory.name
        self._run["settings"] = dict(settings)
        known.write_text(f"{self._run.hash}\n")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """See :class:`Tracker`."""
        for name, value in values.items():
            self._run.track(value, name=name, step=step)

    def close(self, status: str) -> None:
        """See :class:`Tracker`."""
        self._run["status"] = status
        self._run.close()
