"""Tables as Markdown for people, and as CSV, JSON and Parquet in which a number is a number; LaTeX has its own file."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.report.tables.cells import Cell, Ends, Table, shown
from harness.report.tables.latex import to_latex
from harness.store.files import write

#: how heads end that name a unit, and the unit
_UNITS = {", s": "s", " s": "s", " MiB": "MiB"}
_MARKUP = re.compile(r"([\\`*_\[\]|~$#!])")
# What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def to_markdown(tables: Sequence[Table]) -> str:
    """All tables, one below the other; nothing in them is read as markup."""
    return "\n".join(_markdown(table) for table in tables)


def to_csv(table: Table) -> str:
    """One table in full precision, see :func:`numeric`; text that a spreadsheet would run begins with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    made = numeric(table)
    writer.writerow([_csv(column) for column in made.columns])
    writer.writerows([[_csv(cell) for cell in row] for row in made.rows])
    return out.getvalue()


def to_json(tables: Sequence[Table]) -> str:
    """One JSON document ``{tables: [{name, title, columns, rows, notes}]}``, see :func:`numeric`."""
    document = [vars(numeric(table)) for table in tables]
    return json.dumps({"tables": document}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def numeric(table: Table) -> Table:
    """The table for programs: numbers or None, an interval in two columns, and a unit in the head of each column.

    Where a column has an infinity, it is None, and a column beside it says ``infinite`` (a target that the median run
    did not reach, a bound that is not known), and ``not measured`` of the other None.
    """
    columns: list[str] = []
    found: list[list[Cell]] = []
    for index, name in enumerate(table.columns):
        cells = [row[index] for row in table.rows]
        if any(isinstance(cell, Ends) for cell in cells):
            stem = name.removesuffix(", 95 %").removesuffix(" interval")
            for end in ("low", "high"):
                ends = [getattr(cell, end) if isinstance(cell, Ends) else None for cell in cells]
                _add(f"{stem}, 95 % {end}", ends, columns, found)
        else:
            _add(name, cells, columns, found)
    return replace(table, columns=columns, rows=[list(row) for row in zip(*found, strict=True)])


def _add(name: str, cells: Sequence[Cell], columns: list[str], found: list[list[Cell]]) -> None:
    columns.append(_unit(name, cells))
    found.append([cell if _is_known(cell) else None for cell in cells])
    if any(isinstance(cell, float) and math.isinf(cell) for cell in cells):
        columns.append(f"{name}, why empty")
        found.append([None if _is_known(cell) else _why(cell) for cell in cells])


def _is_known(cell: Cell) -> bool:
    return cell is not None and not (isinstance(cell, float) and not math.isfinite(cell))


def _why(cell: Cell) -> str:
    if isinstance(cell, float) and math.isinf(cell):
        return "infinite" if cell > 0 else "minus infinite"
    return "not measured"


def _unit(name: str, cells: Sequence[Cell]) -> str:
    """``gradient (s)``, ``accuracy (0 to 1)``; other heads have their units, or count."""
    if "accuracy" in name and not any(isinstance(cell, str) for cell in cells):
        return f"{name} (0 to 1)"
    for end, unit in _UNITS.items():
        if name.endswith(end):
            return f"{name.removesuffix(end)} ({unit})"
    return name


def to_parquet(table: Table) -> bytes:
    """One table as a Parquet file, see :func:`numeric`: integers, floating-point numbers and text; needs pyarrow."""
    import pyarrow
    import pyarrow.parquet

    made = numeric(table)
    columns = {
        name: pyarrow.array(_of_one_type([row[index] for row in made.rows])) for index, name in enumerate(made.columns)
    }
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), out)
    return out.getvalue()


def _of_one_type(cells: Sequence[Cell]) -> list[Cell]:
    """All text where one is, else all floating-point where one is or an integer has more than 64 bits."""
    known = [cell for cell in cells if cell is not None]
    if any(isinstance(cell, str) for cell in known):
        return [None if cell is None else str(cell) for cell in cells]
    if all(isinstance(cell, int) and abs(cell) < 2**63 for cell in known):
        return list(cells)
    return [None if cell is None else float(cell) for cell in cells]


def write_tables(tables: Sequence[Table], folder: Path) -> list[Path]:
    """``tables.md``, ``tables.tex``, ``tables.json``, and for each table a CSV file; with pyarrow a Parquet file."""
    contents = {
        "tables.md": to_markdown(tables).encode(),
        "tables.tex": to_latex(tables).encode(),
        "tables.json": to_json(tables).encode(),
        **{f"{table.name}.csv": to_csv(table).encode() for table in tables},
    }
    if importlib.util.find_spec("pyarrow") is not None:
        contents |= {f"{table.name}.parquet": to_parquet(table) for table in tables}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write(folder / name, content)
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
