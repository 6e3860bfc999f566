"""Every run's configuration, environment and result, written once where runs share it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from harness.report.findings.comparison import Comparison
from harness.report.findings.groups import Group
from harness.report.findings.names import group_name
from harness.report.page.script_safe import plain
from harness.report.reading.runs import Run
from harness.store.environments import SITTINGS

_RESULT = (
    "status",
    "iterations_done",
    "n_w",
    "n_phi",
    "train_loss",
    "accuracy",
    "loss",
    "counts",
    "seconds",
    "peak_memory_bytes",
    "diverged",
)
_MISSING = object()


def run_data(comparison: Comparison, page: Path) -> dict[str, Any]:
    """``runs``, the configuration ``common`` to all of them, and ``environments`` that runs point into.

    A run's ``link`` leads from the folder ``page`` to its directory.
    """
    members = [(_name(comparison, group), run) for group in comparison.groups for run in group.runs]
    common = _common([run.config for _, run in members])
    environments: dict[str, int] = {}
    runs = []
    for label, run in members:
        shared = {name: value for name, value in run.environment.items() if name != SITTINGS}
        environment = json.dumps(plain(shared), sort_keys=True)
        runs.append(
            {
                "name": run.path.name,
                "path": str(run.path),
                "link": Path(os.path.relpath(run.path, page)).as_posix().encode(errors="replace").decode(),
                "label": label,
                "status": str(run.summary.status),
                "config": plain({key: value for key, value in run.config.items() if key not in common}),
                "environment": environments.setdefault(environment, len(environments)),
                "result": plain(_result(run)),
            }
        )
    return {"runs": runs, "common": plain(common), "environments": [json.loads(text) for text in environments]}


def _name(comparison: Comparison, group: Group) -> str:
    return " on ".join(filter(None, [group_name(group), comparison.shown_problem(group.problem)]))


def _common(configs: list[dict[str, Any]]) -> dict[str, Any]:
    """What every configuration has, with the same value."""
    first = configs[0] if configs else {}
    return {key: value for key, value in first.items() if all(other.get(key, _MISSING) == value for other in configs)}


def _result(run: Run) -> dict[str, Any]:
    found = {name: value for name, value in run.summary.document().items() if name in _RESULT and value is not None}
    return {**found, SITTINGS: began} if (began := run.environment.get(SITTINGS)) else found
