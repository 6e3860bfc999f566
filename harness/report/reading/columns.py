"""The course of a run: ``metrics.jsonl`` and ``stationarity.jsonl`` as columns, without what cannot be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.report.reading.documents import number, numbers, read_lines
from harness.store.foreign import one_line

_PLAIN = ("iteration", "loss", "accuracy", "seconds")
_COUNTS = ("gradient_entries", "second_order_entries")
#: without these a line says nothing of what was spent until then
_NEEDED = ("iteration", "seconds", *_COUNTS)
# What a line is kept as takes up to twenty times its bytes, its columns alone about as many as it has.
_MOST, _MOST_LONG = 1 << 30, 1 << 26
_NUMBERS = {int, float}
_NORMS = ("grad_w_squared_norm", "grad_phi_squared_norm")

Columns = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Log:
    """What is in a JSONL file of a run, and in one line what is not, if anything."""

    columns: Columns
    lines: list[dict[str, Any]]
    fault: str | None


def read_log(path: Path, keep_lines: bool, counted: bool = True) -> Log:
    """The trusted lines of a file; ``keep_lines``: also as dictionaries of finite numbers and None.

    Counts of a run that was not ``counted`` are NaN.
    """
    found, faults = read_lines(path, _MOST_LONG if keep_lines else _MOST, _kept if keep_lines else _values)
    rows = [record[0] if keep_lines else record for record in found.values()]
    by_column = zip(*rows, strict=True) if rows else [()] * len(_PLAIN + _COUNTS)
    columns = {name: numbers(column) for name, column in zip(_PLAIN + _COUNTS, by_column, strict=True)}
    trusted = _trusted(columns, _NEEDED if counted else _NEEDED[: -len(_COUNTS)])
    lines: list[dict[str, Any]] = []
    if keep_lines:
        cleaned = [record[1] for record in found.values()]
        trusted &= np.array([line is not None for line in cleaned], dtype=bool)
        lines = [line for line, good in zip(cleaned, trusted, strict=True) if good and line is not None]
    if not counted:
        columns |= {name: np.full_like(columns[name], np.nan) for name in _COUNTS}
        lines = [{**line, "counts": dict.fromkeys(_COUNTS, math.nan)} for line in lines]
    faults |= {
        index: "out of order, or iteration, seconds, counts or norms are missing or negative"
        for index, good in zip(found, trusted, strict=True)
        if not good
    }
    return Log({name: column[trusted] for name, column in columns.items()}, lines, _fault(path, faults))


def _values(record: dict[str, Any]) -> tuple[Any, ...]:
    """What stands in the columns of a line; anything but numbers is forgotten at once."""
    counts = part if isinstance(part := record.get("counts"), dict) else {}
    values = (*map(record.get, _PLAIN), *map(counts.get, _COUNTS))
    if _NUMBERS.issuperset(map(type, values)):
        return values
    return tuple(value if type(value) in _NUMBERS else None for value in values)


def _kept(record: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any] | None]:
    return _values(record), _measurement(record)


def _trusted(columns: Columns, needed: Sequence[str]) -> NDArray[np.bool_]:
    """Lines with whole iterations that rise from line to line and with what was spent until then."""
    good = np.ones(len(columns["iteration"]), dtype=bool)
    for name in needed:
        good &= columns[name] >= 0
    iterations = np.where(good & (columns["iteration"] % 1 == 0), columns["iteration"], -1.0)
    before = np.maximum.accumulate(np.concatenate([[-1.0], iterations]))[:-1]
    return good & (iterations > before)


def _measurement(record: dict[str, Any]) -> dict[str, Any] | None:
    """A line of ``stationarity.jsonl`` in finite numbers and None; None where a squared norm is negative.

    ``products`` are those of its unbiased estimate, an array of as many groups for each parameter, None where the line
    has no such estimate: it is of an older version then, or not finite.
    """
    line: dict[str, Any] = {"loss": None, "accuracy": None, **dict.fromkeys(_NORMS)} | _cleaned(record)
    line["products"] = _products(record.pop("unbiased", None))
    line.pop("unbiased", None)
    line["squared_norms"] = line["squared_norms"] if isinstance(line.get("squared_norms"), dict) else {}
    norms = [line[name] for name in _NORMS] + list(line["squared_norms"].values())
    if any(isinstance(norm, dict) or (norm is not None and norm < 0) for norm in norms):
        return None
    return line


def _products(unbiased: object) -> dict[str, NDArray[np.float64]] | None:
    products = unbiased.get("products") if isinstance(unbiased, dict) else None
    if not isinstance(products, dict) or not products or not all(isinstance(part, list) for part in products.values()):
        return None
    found = {name: numbers(part) for name, part in products.items()}
    return found if len({part.size for part in found.values()} | {0}) == 2 else None


def _cleaned(record: dict[str, Any], depth: int = 2) -> dict[str, Any]:
    cleaned: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            cleaned[name] = _cleaned(value, depth - 1) if depth else {}
        else:
            cleaned[name] = None if math.isnan(number(value)) else value
    return cleaned


def _fault(path: Path, faults: dict[int, str]) -> str | None:
    if not faults:
        return None
    first = min(faults)
    lines = "1 line" if len(faults) == 1 else f"{len(faults)} lines"
    return f"{one_line(path)}: {lines} left out, the first is line {first} ({faults[first]})"
