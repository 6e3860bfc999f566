"""Reading files that may be damaged or hostile: what cannot be trusted is left out and said in one line."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from harness.errors import InputError
from harness.store.foreign import is_small_tree, open_plain, read_json_object, read_plain
from harness.store.yaml_core import MOST_BYTES, load

_MOST_JSON = 1 << 20
# A record of a run takes some hundred bytes; what a longer line holds could take memory a hundred times its length.
_MOST_LINE, _MOST_LINES = 1 << 20, 2_000_000
T = TypeVar("T")


def number(value: object) -> float:
    """``value`` where it is a finite number, else NaN; true and false are no numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        found = float(value)
    except OverflowError:
        return math.nan
    return found if math.isfinite(found) else math.nan


def numbers(values: Sequence[object]) -> NDArray[np.float64]:
    """:func:`number` of each value ``[len(values)]``."""
    if not set(map(type, values)) <= {int, float, type(None)}:
        return np.array([number(value) for value in values])
    try:
        found = np.array(values, dtype=np.float64)
    except OverflowError:
        return np.array([number(value) for value in values])
    found[~np.isfinite(found)] = math.nan
    return found


def read_object(path: Path) -> tuple[dict[str, Any], str | None]:
    """A JSON object, or an empty one and the reason in a few words."""
    try:
        found = read_json_object(path, _MOST_JSON, links=False)
    except OSError as error:
        return {}, _reason(error)
    except ValueError as error:
        return {}, str(error)
    return (found, None) if is_small_tree(found) else ({}, "nested too deeply or of too many parts")


def read_lines(path: Path, most: int, keep: Callable[[dict[str, Any]], T]) -> tuple[dict[int, T], dict[int, str]]:
    """``keep`` of each object in a JSONL file by line number from 1, and the reason for each other line.

    Only what ``keep`` returns stays in memory. A file of more than ``most`` bytes is not read at all.
    """
    found: dict[int, T] = {}
    faults: dict[int, str] = {}
    try:
        with open_plain(path, most, links=False) as file:
            for index, line in enumerate(iter(partial(file.readline, _MOST_LINE + 1), b""), start=1):
                if index > _MOST_LINES or len(line) > _MOST_LINE:
                    faults[index] = f"beyond {_MOST_LINES} lines of {_MOST_LINE} bytes; it and the rest were not read"
                    break
                if not line.endswith(b"\n"):
                    faults[index] = "torn"
                    break
                try:
                    record = from_json(line)
                except ValueError:
                    faults[index] = "not readable as JSON"
                    continue
                if isinstance(record, dict):
                    found[index] = keep(record)
                else:
                    faults[index] = "not a JSON object"
    except FileNotFoundError:
        pass
    except OSError as error:
        faults[1] = _reason(error)
    return found, faults


def read_mapping(path: Path) -> tuple[dict[str, Any], str | None]:
    """A YAML mapping that JSON could hold too, or an empty one and the reason in a few words."""
    try:
        content = read_plain(path, MOST_BYTES, links=False)
    except FileNotFoundError:
        content = b""
    except OSError as error:
        return {}, _reason(error)
    try:
        _, found = load(content.decode("utf-8"), "")
    except (InputError, UnicodeDecodeError):
        return {}, "not readable as YAML"
    if not isinstance(found, dict) or not found:
        return {}, "not a mapping" if content else "empty or not there"
    return found, None


def _reason(error: OSError) -> str:
    return "not there" if isinstance(error, FileNotFoundError) else error.strerror or "not readable"
