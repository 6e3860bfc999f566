"""Tables as Markdown, CSV and JSON; LaTeX has its own file."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

from harness.files import write
from harness.report.cells import Cell, Table, shown
from harness.report.latex import to_latex

_MARKUP = re.compile(r"([\\`*_\[\]|~$#!])")
# What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def to_markdown(tables: Sequence[Table]) -> str:
    """All tables, one below the other; nothing in them is read as markup."""
    return "\n".join(_markdown(table) for table in tables)


def to_csv(table: Table) -> str:
    """One table in full precision; ``inf`` is a target not reached, an empty cell what was not measured.

    Text that a spreadsheet would run as a formula begins with an apostrophe.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_csv(column) for column in table.columns])
    writer.writerows([[_csv(cell) for cell in row] for row in table.rows])
    return out.getvalue()


def to_json(tables: Sequence[Table]) -> str:
    """One JSON document ``{tables: [{name, title, columns, rows, notes}]}``.

    JSON knows no infinity: ``"inf"`` is a target not reached. ``null`` is what was not measured.
    """
    document = [{**vars(table), "rows": [[_json(cell) for cell in row] for row in table.rows]} for table in tables]
    return json.dumps({"tables": document}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_tables(tables: Sequence[Table], folder: Path) -> list[Path]:
    """``tables.md``, ``tables.tex``, ``tables.json`` and a CSV file for each table, in ``folder``."""
    contents = {
        "tables.md": to_markdown(tables),
        "tables.tex": to_latex(tables),
        "tables.json": to_json(tables),
        **{f"{table.name}.csv": to_csv(table) for table in tables},
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write(folder / name, content.encode())
    return [folder / name for name in contents]


def _markdown(table: Table) -> str:
    numbers = [all(not isinstance(row[index], str) for row in table.rows) for index in range(len(table.columns))]
    lines = [
        f"## {_plain(table.title)}",
        "",
        _line(table.columns),
        "|" + "|".join(" ---: " if right else " --- " for right in numbers) + "|",
        *(_line([shown(cell) for cell in row]) for row in table.rows),
        "",
        *(f"- {_plain(note)}" for note in table.notes),
    ]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_plain, cells)) + " |"


def _plain(text: str) -> str:
    return _MARKUP.sub(r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def _csv(cell: Cell) -> str | int | float:
    if isinstance(cell, str):
        return f"'{cell}" if cell.startswith(_FORMULA) else str(cell)
    return "" if cell is None else cell


def _json(cell: Cell) -> Cell:
    if isinstance(cell, float) and math.isinf(cell):
        return "inf" if cell > 0 else "-inf"
    return cell
