"""Run directories as a report sees them: read whole, or skipped with the reason in one line."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.report.reading.columns import Columns, Log, read_log
from harness.report.reading.documents import number, read_mapping, read_object
from harness.report.reading.validity import checked
from harness.store.directory import changed
from harness.store.foreign import one_line
from harness.store.records import Summary

#: a folder with one of these is a run directory
FILES = {"config.yaml", "environment.json", "metrics.jsonl", "summary.json"}
#: folders named one by one that were skipped for one and the same reason
_MOST_ALIKE = 20


@dataclass(frozen=True, eq=False)
class Run:
    """One run directory. The files of its course are read when they are first asked for."""

    path: Path
    summary: Summary
    config: dict[str, Any]
    #: what has been worked out from its files, by whoever did
    cache: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def seed(self) -> int:
        """The seed of its initialisation and task streams."""
        return self.summary.seed

    @property
    def elsewhere(self) -> str:
        """What was different where this run went on, in words; empty where it was made in one place.

        All its seconds and its memory are unknown then.
        """
        return one_line("; ".join(self.summary.resumed_elsewhere)[:200])

    @property
    def unknown(self) -> dict[str, str]:
        """What is not known of it (``counts``, ``definition_1``) although it was asked for, and why."""
        named = self.summary.unknown
        return {name: one_line(str(named[name])[:200]) for name in ("counts", "definition_1") if named.get(name)}

    @cached_property
    def environment(self) -> dict[str, Any]:
        """``environment.json``; empty where it cannot be read, or is not the one of this run any more."""
        return {} if "environment.json" in (self.changed or ()) else read_object(self.path / "environment.json")[0]

    @cached_property
    def changed(self) -> list[str] | None:
        """Names of its files that were changed after it had ended; None where it was not recorded what they were."""
        return changed(self.path, self.summary.files)

    @property
    def metrics(self) -> Columns:
        """Columns of ``metrics.jsonl`` by name: iteration, loss, accuracy, seconds and both counts of entries.

        NaN where a loss or an accuracy is not a finite number, or seconds are unknown; lines that cannot be trusted
        are left out.
        """
        return self._metrics.columns

    @property
    def stationarity(self) -> list[dict[str, Any]]:
        """The lines of ``stationarity.jsonl`` (:class:`harness.experiment.stationarity.Stationarity`); may be empty.

        Every number in them is finite, anything else None; lines that cannot be trusted are left out.
        """
        return self._stationarity.lines

    @property
    def faults(self) -> list[str]:
        """A line for each of its files of which something was left out, and one for those that were changed."""
        edited = (
            [f"{one_line(self.path)}: {', '.join(self.changed)} changed after the run ended"] if self.changed else []
        )
        return [*(log.fault for log in (self._metrics, self._stationarity) if log.fault), *edited]

    def number(self, *keys: str) -> float:
        """The summary's finite number under these nested keys, else NaN."""
        found: Any = self.summary
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else getattr(found, key, None)
        return number(found)

    @cached_property
    def _metrics(self) -> Log:
        return self._log("metrics.jsonl", keep_lines=False)

    @cached_property
    def _stationarity(self) -> Log:
        return self._log("stationarity.jsonl", keep_lines=True)

    def _log(self, name: str, keep_lines: bool) -> Log:
        log = read_log(self.path / name, keep_lines, counted="counts" not in self.unknown)
        if self.elsewhere:
            log.columns["seconds"][:] = math.nan
            for line in log.lines:
                line["seconds"] = None
        return log


def read_runs(paths: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Every run directory at or below ``paths``, sorted by path, and a line for each that was skipped.

    Raises :class:`InputError` where a path is not there or nothing at all can be reported.
    """
    runs: dict[Path, Run] = {}
    skipped: list[str] = []
    alike: Counter[str] = Counter()
    paths = list(paths)
    for path in paths:
        if not path.is_dir():
            raise InputError(f"{one_line(path)}: no such folder; allowed: run directories or folders of them")
        for folder, reason in _folders(path):
            run = None if reason else _read(folder)
            if isinstance(run, Run):
                runs.setdefault(folder.resolve(), run)
            else:
                why = reason or str(run)
                alike[why] += 1
                if alike[why] <= _MOST_ALIKE:
                    skipped.append(f"{one_line(folder)}: {why}")
    skipped += [f"{count - _MOST_ALIKE:,} more: {why}" for why, count in alike.items() if count > _MOST_ALIKE]
    if not runs:
        more = f" ({len(skipped)} skipped; the first: {skipped[0]})" if skipped else ""
        given = one_line(", ".join(map(str, paths)))
        raise InputError(f"{given}: no finished run there{more}; allowed: folders of harness runs")
    return sorted(runs.values(), key=lambda run: str(run.path)), list(dict.fromkeys(skipped))


def _folders(top: Path) -> Iterator[tuple[Path, str | None]]:
    """Run directories at or below ``top``, and folders with the reason why none can be in them.

    Symbolic links below ``top`` are not followed, and nothing inside a run directory is looked at.
    """
    unreadable: list[OSError] = []
    for name, folders, files in os.walk(top, onerror=unreadable.append):
        folder = Path(name)
        folders.sort()
        if FILES & set(files):
            folders.clear()
            yield folder, None
        elif not folders and not files:
            yield folder, "empty folder"
    for error in unreadable:
        yield Path(os.fsdecode(error.filename)), error.strerror or "not readable"


def _read(folder: Path) -> Run | str:
    """The run in ``folder``, or why it is skipped."""
    found, fault = read_object(folder / "summary.json")
    if fault:
        return "not finished" if fault == "not there" else f"summary.json: {fault}"
    config, fault = read_mapping(folder / "config.yaml")
    if fault:
        return f"config.yaml: {fault}"
    summary = checked(found, config)
    if isinstance(summary, str):
        return one_line(summary)
    run = Run(folder, summary, config)
    return "config.yaml: changed after the run ended" if "config.yaml" in (run.changed or ()) else run
