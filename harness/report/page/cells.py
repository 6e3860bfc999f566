"""Cells of the page's tables: numbers that can be read at a glance, exact in the tooltip."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

Value = str | int | float | None

_PLAIN_BELOW = 10**7
_NOTHING, _TIMES = "\u2013", "\u00d7"  # an en dash, a multiplication sign
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Cell(NamedTuple):
    """``text`` as shown, ``exact`` where that says less than the value."""

    text: str
    exact: str = ""


def cell(value: Value) -> Cell:
    r"""A value as it is shown: four digits, ∞, a dash for nothing.

    >>> cell(56_400_300_000).text, cell(0.123456).text, cell(float("inf")).text
    ('5.64 \u00d7 10¹⁰', '0.1235', '∞')
    """
    if value is None or value == "":
        return Cell(_NOTHING)
    if isinstance(value, str):
        return Cell(value)
    if isinstance(value, float) and not math.isfinite(value):
        return (
            Cell(_NOTHING, "not a number") if math.isnan(value) else Cell("∞" if value > 0 else "-∞", "never reached")
        )
    if isinstance(value, int) and abs(value) < _PLAIN_BELOW:
        return Cell(f"{value:,}")
    text = _scientific(value) if abs(value) >= _PLAIN_BELOW or 0 < abs(value) < 1e-3 else _decimal(value)
    exact = f"{value:,}" if isinstance(value, int) else repr(value)
    return Cell(text, "" if exact == text else exact)


def body(rows: Sequence[Sequence[Value]]) -> Iterator[list[Cell]]:
    """The cells of a table, row by row."""
    return ([cell(value) for value in row] for row in rows)


def numeric(rows: Sequence[Sequence[Value]], column: int) -> bool:
    """Whether a column holds numbers and nothing else."""
    values = [row[column] for row in rows if row[column] not in (None, "")]
    return bool(values) and not any(isinstance(value, str) for value in values)


def _decimal(value: float) -> str:
    return f"{float(f'{value:.4g}'):,}".removesuffix(".0")


def _scientific(value: float) -> str:
    digits, exponent = f"{value:.2e}".split("e")
    return f"{digits} {_TIMES} 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
