"""The tables as the page shows them: intervals under numbers, what every row shares said once, columns to choose."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from harness.report.tables.cells import Cell, Ends, Table, shown

_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
#: columns that are never left out, and those that are left out first where a row would not fit
_KEPT = ("method", "group", "problem", "N", "accuracy", "quantity", "change", "verdict")
_LAST = (
    *("error of Definition 1 at K", "measured every", "gradient, s", "second order, s", "outer update, s"),
    *("gradient entries per task", "second-order entries per task", "IQR over median", "peak MiB", "reached"),
)
#: pixels of the page's width at 1280, of a letter, of the space around a cell
_WIDTH, _LETTER, _SPACE = 1010, 7.8, 27
#: letters of a text that is broken into lines
_LONGEST = 34


class Shown(NamedTuple):
    """``text`` as shown, ``ends`` its interval, ``value`` what it is sorted by, which says more than the text."""

    text: str
    ends: str = ""
    value: str = ""


class Column(NamedTuple):
    """A head; an ``extra`` column is shown when it is asked for."""

    head: str
    numeric: bool
    extra: bool


@dataclass(frozen=True)
class Shaped:
    """A table of the page; ``same`` are columns, with the value that they have in every row."""

    name: str
    title: str
    columns: list[Column]
    rows: list[list[Shown]]
    same: list[tuple[str, str]]
    notes: list[str]


def shaped(tables: Iterable[Table]) -> Iterator[Shaped]:
    """Tables that fit; the one of claims has its cards instead."""
    return (_shaped(_folded(table)) for table in tables if table.name != "claims")


def cell(value: Cell, ends: Ends | None = None) -> Shown:
    """A cell for people.

    >>> cell(56_400_000_000.0).text
    '5.64×10¹⁰'
    """
    text = readable(shown(value))
    interval = "" if ends is None or value == math.inf == ends.low else readable(ends)
    return Shown(text, interval, repr(value) if isinstance(value, int | float) else "")


def readable(text: str) -> str:
    """Powers of ten as they are written by hand; no line ends inside ``N = 5`` or ``95 %``."""
    powers = re.sub(r"(?<=\d)e([+-])0*(\d+)", _power, text)
    return re.sub(r" ([=≤≥]) ", "\u00a0\\1\u00a0", powers).replace(" %", "\u00a0%")


def _power(match: re.Match[str]) -> str:
    sign, digits = match.groups()
    return "×10" + f"{'-' if sign == '-' else ''}{digits}".translate(_SUPERSCRIPTS)


def _folded(table: Table) -> Table:
    """Rows that differ in their target alone, such as all that a group never reached, as one."""
    if "target" not in table.columns:
        return table
    at = table.columns.index("target")
    targets: dict[tuple[Cell, ...], list[str]] = {}
    for row in table.rows:
        targets.setdefault((*row[:at], *row[at + 1 :]), []).append(str(row[at] or ""))
    return replace(table, rows=[[*rest[:at], ", ".join(said) or None, *rest[at:]] for rest, said in targets.items()])


def _shaped(table: Table) -> Shaped:
    columns = [[row[index] for row in table.rows] for index in range(len(table.columns))]
    heads, cells, same = [], [], []
    for index, (head, values) in enumerate(zip(table.columns, columns, strict=True)):
        if index and _is_interval(values):
            continue
        following = columns[index + 1] if index + 1 < len(columns) else []
        ends = following if _is_interval(following) else [None] * len(values)
        made = [cell(value, end if isinstance(end, Ends) else None) for value, end in zip(values, ends, strict=True)]
        if len(set(made)) == 1 and len(made) > 1 and head not in _KEPT:
            same.append((head, " ".join(filter(None, [made[0].text, made[0].ends]))))
        else:
            heads.append((head, not any(isinstance(value, str) for value in values)))
            cells.append(made)
    extra = _extra([head for head, _ in heads], cells)
    return Shaped(
        table.name,
        table.title,
        [Column(head, numeric, index in extra) for index, (head, numeric) in enumerate(heads)],
        [list(row) for row in zip(*cells, strict=True)],
        same,
        table.notes,
    )


def _is_interval(values: Sequence[Cell]) -> bool:
    return any(isinstance(value, Ends) for value in values)


def _extra(heads: Sequence[str], cells: Sequence[Sequence[Shown]]) -> set[int]:
    """Columns to leave out until a row fits: of little use first, then from the right."""
    widths = [_pixels(head, column) for head, column in zip(heads, cells, strict=True)]
    order = sorted(range(len(heads)), key=lambda index: (heads[index] not in _LAST, -index))
    out: set[int] = set()
    for index in order:
        if math.fsum(width for at, width in enumerate(widths) if at not in out) <= _WIDTH:
            break
        if heads[index] not in _KEPT:
            out.add(index)
    return out


def _pixels(head: str, column: Sequence[Shown]) -> float:
    longest = max((max(len(each.text), len(each.ends)) for each in column), default=0)
    return _SPACE + _LETTER * max(min(longest, _LONGEST), *map(len, head.split()))
