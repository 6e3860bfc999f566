"""A table of a report, and how its numbers are written for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.findings.statistics import Interval
from harness.store.foreign import one_line

#: NaN does not occur: what was not measured is None. Infinity does: a target that was not reached
Cell = str | int | float | None


class Math(str):
    """A formula as plain text that also knows its LaTeX, for math mode; only ever made from the theory's own."""

    latex: str

    def __new__(cls, text: str, latex: str) -> Math:
        """``text`` for everything but LaTeX."""
        made = super().__new__(cls, text)
        made.latex = latex
        return made


class Ends(str):
    """An interval as text that also knows its two numbers; NaN where one seed leaves them unknown."""

    low: float
    high: float

    def __new__(cls, text: str, low: float, high: float) -> Ends:
        """``text`` for people."""
        made = super().__new__(cls, text)
        made.low, made.high = low, high
        return made


@dataclass(frozen=True)
class Table:
    """Columns name units where there are any; ``name`` is a file name; notes are sentences."""

    name: str
    title: str
    columns: list[str]
    rows: list[list[Cell]]
    notes: list[str]


def table(name: str, title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], notes: Sequence[str]) -> Table:
    """A table whose text is printable and whose NaN are None; columns that no row fills are left out."""
    cells = [[_cell(cell) for cell in row] for row in rows]
    kept = [index for index in range(len(columns)) if not cells or any(row[index] is not None for row in cells)]
    return Table(
        name,
        one_line(title),
        [columns[index] for index in kept],
        [[row[index] for index in kept] for row in cells],
        [one_line(note) for note in notes],
    )


def shown(cell: Cell) -> str:
    """A cell for people: three digits, thousands apart, ∞ for what was not reached, empty for what is not known."""
    if cell is None or isinstance(cell, str):
        return cell or ""
    if isinstance(cell, int):
        return f"{cell:,}"
    if math.isnan(cell):
        return "unknown"
    if math.isinf(cell):
        return "∞" if cell > 0 else "-∞"
    size = abs(cell)
    if size >= 1e6 or 0 < size < 1e-3:
        return f"{cell:.2e}"
    whole = abs(cell - round(cell)) <= 1e-12 * size
    return f"{cell:,.0f}" if size >= 1000 or whole else f"{cell:#.3g}".removesuffix(".")


def interval_text(interval: Interval | None) -> str:
    """``0.45 (0.44 to 0.46)``."""
    if interval is None:
        return ""
    return f"{shown(interval.value)} ({ends_text(interval)})"


def ends_text(interval: Interval | None) -> Ends | None:
    """``0.44 to 0.46``; None where there is no interval."""
    if interval is None or interval.seeds == 0:
        return None
    text = "one seed" if math.isnan(interval.low) else f"{shown(interval.low)} to {shown(interval.high)}"
    return Ends(text, interval.low, interval.high)


def _cell(cell: Cell) -> Cell:
    if isinstance(cell, Math | Ends):
        return cell
    if isinstance(cell, str):
        return one_line(cell)
    if isinstance(cell, float) and math.isnan(cell):
        return None
    return cell
