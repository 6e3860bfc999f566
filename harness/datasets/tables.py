"""Tables from elsewhere, column by column: CSV, or Parquet by pandas; what is no number is named by row and column."""

from __future__ import annotations

import codecs
import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import InputError
from harness.store.foreign import one_line, open_plain, read_plain

if TYPE_CHECKING:
    import numpy as np

#: as text a table takes some ten times its bytes in memory
MOST_BYTES = 1 << 28


def csv_text(path: Path, most: int) -> io.StringIO:
    """The text of a CSV file, UTF-8 or UTF-16; raises OSError or ValueError."""
    content = read_plain(path, most)
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return io.StringIO(content.decode("utf-16" if wide else "utf-8-sig"), newline="")


def read_columns(path: Path) -> dict[str, Sequence[Any]]:
    """The columns of ``path`` by name, in order: text where it is a CSV; raises :class:`InputError`."""
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return _parquet(path)
        reader = csv.reader(csv_text(path, MOST_BYTES), skipinitialspace=True, strict=True)
        names = [name.strip() for name in next(reader, [])]
        rows = []
        for row in reader:
            if len(row) != len(names) and row:
                raise ValueError(f"line {reader.line_num} has {len(row)} fields, the first line {len(names)}")
            rows += [row] if row else []
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or one_line(error)}") from error
    if not rows or len(set(names)) < len(names):
        what = "no rows" if not rows else f"two columns {next(n for n in names if names.count(n) > 1)!r}"
        raise InputError(f"{path} has {what}; allowed: a line of names of columns, and rows")
    return {
        name: [field.strip() for field in column] for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }


def column(columns: dict[str, Sequence[Any]], name: str, path: Path) -> Sequence[Any]:
    """The column ``name``; raises :class:`InputError`."""
    if name not in columns:
        raise InputError(f"{path} has no column {name!r}; allowed: {one_line(', '.join(columns))}")
    return columns[name]


def texts(columns: dict[str, Sequence[Any]], name: str, path: Path) -> list[str]:
    """A column as names; raises :class:`InputError` for a row without one."""
    found = ["" if _nothing(value) else str(value) for value in column(columns, name, path)]
    if "" in found:
        raise InputError(f"{path}: row {found.index('') + 1}, column {name!r} is empty; allowed: a value in every row")
    return found


def numbers(columns: dict[str, Sequence[Any]], name: str, path: Path) -> np.ndarray:
    """A column as float64 ``[n]``; raises :class:`InputError` naming the row of what is not finite or no number."""
    import numpy as np

    found = np.empty(len(values := column(columns, name, path)))
    for row, value in enumerate(values):
        try:
            found[row] = float(value)
        except (TypeError, ValueError):
            found[row] = math.nan
        if not math.isfinite(found[row]):
            raise InputError(
                f"{path}: row {row + 1}, column {name!r} is {one_line(value)[:40]!r}; allowed: finite numbers"
            )
    return found


def _nothing(value: Any) -> bool:
    return value is None or value == "" or value != value


def _parquet(path: Path) -> dict[str, Sequence[Any]]:
    try:
        import pandas

        with open_plain(path, MOST_BYTES) as file:
            frame = pandas.read_parquet(file)
    except ImportError as error:
        raise InputError(f"{path} is Parquet, which needs pandas and pyarrow: pip install pandas pyarrow") from error
    except OSError:
        raise
    except Exception as error:  # what pyarrow raises of torn files is its own
        raise ValueError(f"{type(error).__name__}: {one_line(error)[:200]}") from error
    return {str(name): frame[name].tolist() for name in frame.columns}
