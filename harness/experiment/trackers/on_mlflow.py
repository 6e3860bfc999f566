"""MLflow, where ``MLFLOW_TRACKING_URI`` says, under ``MLFLOW_EXPERIMENT_NAME``."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from harness.experiment.trackers import Tracker

_LONGEST = 500
_ENDS = {"completed": "FINISHED", "interrupted": "KILLED", "stopped": "KILLED"}


class MLflow(Tracker):
    """See :class:`Tracker`."""

    name = "mlflow"

    def open(self, directory: Path, settings: Mapping[str, Any], done: int) -> None:
        """See :class:`Tracker`."""
        self._client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "anil-vs-maml")
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self._client.create_experiment(name)
        same = f"tags.`run_dir` = '{directory.name}'"
        found = self._client.search_runs([experiment], same, max_results=1) if done else []
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        self._run = self._client.create_run(
            experiment, run_name=directory.name, tags={"run_dir": directory.name}
        ).info.run_id
        params = [Param(key, str(value)[:_LONGEST]) for key, value in settings.items()]
        self._client.log_batch(self._run, params=params)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """See :class:`Tracker`."""
        now = int(1000 * time.time())
        self._client.log_batch(self._run, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def close(self, status: str) -> None:
        """See :class:`Tracker`."""
        self._client.set_tag(self._run, "status", status)
        self._client.set_terminated(self._run, _ENDS.get(status, "FAILED"))
