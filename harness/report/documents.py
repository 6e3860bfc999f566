"""Reading files that may be damaged or hostile: what cannot be trusted is left out and said in one line."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

# Deeper nesting than a file of so many bytes can hold overflows the C stack in libyaml's composer.
_MOST_BYTES, _MOST_NODES = 4096, 10_000
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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


def one_line(text: object) -> str:
    """``text`` with everything that cannot be printed, line ends and lone surrogates too, as an escape."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in str(text))


def read_object(path: Path) -> tuple[dict[str, Any], str | None]:
    """A JSON object, or an empty one and the reason in a few words."""
    if not path.is_file():
        return {}, "not there"
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        return {}, error.strerror or "not readable"
    except (ValueError, RecursionError):
        return {}, "not readable as JSON"
    return (found, None) if isinstance(found, dict) else ({}, "not a JSON object")


def read_lines(path: Path) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
    """The objects of a JSONL file by line number from 1, and the reason for each other line."""
    try:
        content = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        return {}, {1: error.strerror or "not readable"}
    *whole, torn = _split(content)
    found, faults = {}, {}
    for index, line in enumerate(whole, start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            faults[index] = "not readable as JSON"
            continue
        if isinstance(record, dict):
            found[index] = record
        else:
            faults[index] = "not a JSON object"
    if torn:
        faults[len(whole) + 1] = "torn"
    return found, faults


def _split(content: bytes) -> Sequence[str | bytes]:
    """Lines as text, which is read faster; as bytes where some line is not UTF-8."""
    try:
        return content.decode().split("\n")
    except UnicodeDecodeError:
        return content.split(b"\n")


def read_mapping(path: Path) -> tuple[dict[str, Any], str | None]:
    """A YAML mapping that JSON could hold too, or an empty one and the reason in a few words."""
    try:
        content = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        return {}, error.strerror or "not readable"
    if len(content) > _MOST_BYTES:
        return {}, f"larger than {_MOST_BYTES} bytes"
    try:
        found = yaml.load(content, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}, "not readable as YAML"
    if not isinstance(found, dict) or not found:
        return {}, "not a mapping" if content else "empty or not there"
    return (found, None) if _plain(found) else ({}, "not plain text, numbers, lists and mappings")


def _plain(document: object) -> bool:
    """Whether a document is small and a tree: aliases can make it endless."""
    waiting, seen = [document], 0
    while waiting:
        node = waiting.pop()
        seen += 1
        if seen > _MOST_NODES:
            return False
        if isinstance(node, dict):
            if not all(isinstance(key, str) for key in node):
                return False
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
        elif not (node is None or isinstance(node, str | int | float)):
            return False
    return True
