"""What a study optimises, read from the run directory of a trial: one objective, or two for a Pareto front."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import InputError
from harness.experiment.unbiased import smoothed
from harness.store.files import MOST_LOG
from harness.store.foreign import open_plain

_WHOLE = ("loss", "accuracy", "seconds", "memory")
_COSTS = ("seconds", "gradient_entries", "second_order_entries")
_TARGETS = ("loss", "accuracy", "epsilon")
_FORM = re.compile(rf"({'|'.join(_COSTS)})@({'|'.join(_TARGETS)})=(\S+)")
_ALLOWED = f"{', '.join(_WHOLE)}, COST@TARGET=VALUE with COST {', '.join(_COSTS)} and TARGET {', '.join(_TARGETS)}"


@dataclass(frozen=True)
class Part:
    """One objective: a figure at the end of a run, or what the run had cost when it first met a target.

    ``loss`` and ``accuracy`` are those of the last validation, ``seconds`` of training without evaluation, ``memory``
    peak bytes, entries sums over all tasks (Table 2); ``epsilon`` bounds both squared norms of Definition 1.
    """

    measure: str
    target: str | None = None
    value: float = math.nan

    def __str__(self) -> str:
        return self.measure if self.target is None else f"{self.measure}@{self.target}={self.value:g}"

    @property
    def direction(self) -> str:
        """``minimize`` or ``maximize``."""
        return "maximize" if self.measure == "accuracy" else "minimize"

    @property
    def watched(self) -> str:
        """Which measurements along the way it rests on: ``validation`` or ``stationarity``."""
        return "stationarity" if self.target == "epsilon" else "validation"

    def progress(self, record: Mapping[str, Any]) -> float | None:
        """What a pruner compares, in this objective's direction; None where it is not a finite number."""
        kind = self.target or self.measure
        if kind == "epsilon":
            w, phi = _norms(record)
            return None if w is None or phi is None else max(w, phi)
        found: float | None = record.get("accuracy" if kind == "accuracy" else "loss")
        return -found if found is not None and self.target == "accuracy" else found

    def reached(self, records: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """The first measurement that meets the target; Definition 1's norms count as :func:`smoothed`."""
        if self.target is None or not records:
            return None
        if self.target == "epsilon":
            norms = np.array([_norms(record) for record in records], dtype=float)
            found = smoothed(norms).max(axis=1)
        else:
            found = np.array([self.progress(record) for record in records], dtype=float)
        met = found <= (-self.value if self.target == "accuracy" else self.value)
        return records[int(met.argmax())] if met.any() else None

    def of(self, run: Path, summary: Mapping[str, Any]) -> float | None:
        """Its value for a run; None where a number is missing or the target was not met."""
        if self.target is not None:
            first = self.reached(self.records(run))
            return None if first is None else _cost(run, first["iteration"], self.measure)
        if self.measure == "seconds":
            return float(summary["seconds"]["train"])
        if self.measure == "memory":
            return float(summary["peak_memory_bytes"])
        found = [record[self.measure] for record in self.records(run)]
        return found[-1] if found else None

    def records(self, run: Path) -> list[dict[str, Any]]:
        """The measurements along the way of a run."""
        if self.watched == "stationarity":
            return list(_lines(run / "stationarity.jsonl"))
        return [line for line in _lines(run / "evaluations.jsonl") if line["split"] == "validation"]


@dataclass(frozen=True)
class Objective:
    """One or two parts."""

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return ",".join(map(str, self.parts))

    @property
    def directions(self) -> list[str]:
        """As Optuna names them."""
        return [part.direction for part in self.parts]

    @property
    def single(self) -> bool:
        """Whether there is one objective and not a front."""
        return len(self.parts) == 1

    def values(self, run: Path, summary: Mapping[str, Any]) -> list[float] | None:
        """The values of a run in the order of the parts; None where one is missing."""
        found = [part.of(run, summary) for part in self.parts]
        return None if None in found else [float(value) for value in found if value is not None]


def parse(text: str, where: str = "--objective") -> Objective:
    """The objective called ``text``, such as ``loss``, ``seconds@accuracy=0.8`` or ``accuracy,memory``."""
    parts = tuple(_part(part.strip(), where) for part in text.split(","))
    if len(parts) > 2 or len({part.measure for part in parts}) < len(parts):
        raise InputError(f"{where}: {text!r} is not allowed; allowed: one objective, or two different ones")
    if len(parts) == 1 and parts[0].target is None and parts[0].measure in ("seconds", "memory"):
        one = parts[0].measure
        raise InputError(f"{where}: {one} alone would reward runs that learn nothing; allowed: loss,{one} and the like")
    return Objective(parts)


def _part(text: str, where: str) -> Part:
    if text in _WHOLE:
        return Part(text)
    if found := _FORM.fullmatch(text):
        try:
            value = float(found.group(3))
        except ValueError:
            value = math.nan
        most = 1.0 if found.group(2) == "accuracy" else math.inf
        if not 0 < value <= most or math.isinf(value):
            raise InputError(f"{where}: {found.group(3)!r} is no {found.group(2)}; allowed: a number > 0")
        return Part(found.group(1), found.group(2), value)
    raise InputError(f"{where}: {text!r} is not allowed; allowed: {_ALLOWED}")


def _norms(record: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Both squared norms of Definition 1, without the noise of the sampled tasks."""
    found = record["unbiased"]
    return found["w"], found["phi"]


def _cost(run: Path, iteration: int, measure: str) -> float | None:
    if iteration == 0:
        return 0.0
    for line in _lines(run / "metrics.jsonl"):
        if line["iteration"] == iteration:
            found = line["seconds"] if measure == "seconds" else line["counts"][measure]
            return None if found is None else float(found)
    return None


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with open_plain(path, MOST_LOG, links=False) as file:
            yield from map(json.loads, file)
    except FileNotFoundError:
        pass
