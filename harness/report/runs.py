"""Run directories as a report sees them: read whole, or skipped with the reason in one line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from harness.errors import InputError
from harness.summary import SCHEMA

_COLUMNS = ("iteration", "loss", "accuracy", "seconds")
_COUNTS = ("gradient_entries", "second_order_entries")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Columns = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Run:
    """One run directory. Files other than the summary are read when they are first asked for."""

    path: Path
    summary: dict[str, Any]

    @cached_property
    def config(self) -> dict[str, Any]:
        """``config.yaml``; empty where it cannot be read."""
        try:
            found = yaml.load((self.path / "config.yaml").read_bytes(), Loader=_Loader)
        except (OSError, yaml.YAMLError):
            return {}
        return found if isinstance(found, dict) else {}

    @cached_property
    def environment(self) -> dict[str, Any]:
        """``environment.json``; empty where it cannot be read."""
        return _document(self.path / "environment.json") or {}

    @cached_property
    def metrics(self) -> Columns:
        """Columns of ``metrics.jsonl`` by name: iteration, loss, accuracy, seconds and both counts of entries."""
        return _columns(_lines(self.path / "metrics.jsonl"))

    @cached_property
    def stationarity(self) -> list[dict[str, Any]]:
        """The lines of ``stationarity.jsonl`` (see :class:`harness.stationarity.Stationarity`); may be empty."""
        return _lines(self.path / "stationarity.jsonl")


def read_runs(paths: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Every run directory at or below ``paths``, sorted by path, and a line for each that was skipped.

    Raises :class:`InputError` where a path is not there or nothing at all can be reported.
    """
    runs: list[Run] = []
    skipped: list[str] = []
    paths = list(paths)
    for path in paths:
        if not path.is_dir():
            raise InputError(f"{path}: no such folder; allowed: run directories or folders of them")
        for folder in _run_directories(path):
            summary = _document(folder / "summary.json")
            if summary is None:
                exists = (folder / "summary.json").exists()
                skipped.append(f"{folder}: " + ("summary.json is not readable" if exists else "not finished"))
            elif summary.get("schema") != SCHEMA:
                skipped.append(
                    f"{folder}: schema {summary.get('schema')!r} of another version; this one reads {SCHEMA}"
                )
            else:
                runs.append(Run(folder, summary))
    if not runs:
        more = f" ({len(skipped)} skipped; the first: {skipped[0]})" if skipped else ""
        raise InputError(f"{', '.join(map(str, paths))}: no finished run there{more}; allowed: folders of harness runs")
    return runs, skipped


def _run_directories(path: Path) -> list[Path]:
    """``path`` itself or the folders in it that hold a ``config.yaml``; symbolic links are not followed."""
    if (path / "config.yaml").is_file():
        return [path]
    found = (entry for entry in path.iterdir() if entry.is_dir() and not entry.is_symlink())
    return sorted(entry for entry in found if (entry / "config.yaml").is_file())


def _document(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSONL file; a torn or foreign line ends what can be trusted."""
    try:
        content = path.read_bytes()
    except OSError:
        return []
    found: list[dict[str, Any]] = []
    for line in content.split(b"\n")[:-1]:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(record, dict):
            break
        found.append(record)
    return found


def _columns(lines: list[dict[str, Any]]) -> Columns:
    columns = {name: np.array([_number(line.get(name)) for line in lines]) for name in _COLUMNS}
    for name in _COUNTS:
        columns[name] = np.array([_number((line.get("counts") or {}).get(name)) for line in lines])
    return columns


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
