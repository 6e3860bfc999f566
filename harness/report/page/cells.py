"""Cells of the page's tables: as in the other formats, with the exact number in the tooltip."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from harness.report.tables.cells import Cell, shown


class Shown(NamedTuple):
    """``text`` as shown, ``exact`` where that says less than the value."""

    text: str
    exact: str = ""


def cell(value: Cell) -> Shown:
    """A cell for people.

    >>> cell(0.123456)
    Shown(text='0.123', exact='0.123456')
    """
    text = shown(value)
    if not isinstance(value, float):
        return Shown(text)
    exact = repr(value) if math.isfinite(value) else "never reached"
    return Shown(text, "" if math.isfinite(value) and float(text.replace(",", "")) == value else exact)


def body(rows: Sequence[Sequence[Cell]]) -> Iterator[list[Shown]]:
    """The cells of a table, row by row."""
    return ([cell(value) for value in row] for row in rows)


def numeric(rows: Sequence[Sequence[Cell]], column: int) -> bool:
    """Whether a column holds numbers and nothing else."""
    values = [row[column] for row in rows if row[column] is not None]
    return bool(values) and not any(isinstance(value, str) for value in values)
