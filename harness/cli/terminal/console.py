"""Tables on the terminal. Names come from plugins and files, so nothing in them is read as markup."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from harness.cli.terminal.fitted import Fitted
from harness.store.foreign import one_line

#: how the origin of what comes with the project begins
_OURS = "anil-vs-maml-harness"

_stdout: ContextVar[TextIO | None] = ContextVar("stdout", default=None)


class _Console(Console):
    """What it shows may come from files and servers: nothing in it reaches the terminal as a command."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                lines = segment.text.split("\n")
                yield Segment("\n".join(map(one_line, lines)), segment.style)


def console(to_stderr: bool = False) -> Console:
    """A console on stdout or stderr that neither wraps tables in pipes nor interprets markup."""
    made = _Console(stderr=to_stderr, markup=False, highlight=False)
    return made if made.is_terminal else _Console(stderr=to_stderr, markup=False, highlight=False, width=160)


@contextmanager
def stdout_kept() -> Iterator[None]:
    """Inside, stdout is :func:`print_json`'s alone; what models and plugins print goes to stderr."""
    token = _stdout.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _stdout.reset(token)


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    out = _stdout.get() or sys.stdout
    out.write(json.dumps(document, indent=2, default=str) + "\n")
    out.flush()


def whole(line: str) -> Text:
    """A line to be copied, a path or a command: it is the terminal's to break, so that it stays one line."""
    return Text(line, no_wrap=True)


def show(parts: Iterable[RenderableType], to_stderr: bool = False) -> None:
    """Print tables and lines, one below the other; on a terminal lines end between words, in a pipe they are whole."""
    out = console(to_stderr)
    for part in parts:
        out.print(part, soft_wrap=isinstance(part, Text) or (isinstance(part, str) and not _fits(part, out)))


def _fits(line: str, out: Console) -> bool:
    return out.is_terminal and max(map(cell_len, line.split()), default=0) <= out.width


def is_live(out: Console) -> bool:
    """Whether lines can be drawn anew on ``out``: not in a pipe, and not on a terminal that cannot move its cursor."""
    return out.is_terminal and not out.is_dumb_terminal


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], keys: int = 1) -> Fitted:
    """A plain table, numbers to the right; where it is too wide, in parts that each begin with ``keys`` columns."""
    body = [["" if cell is None else cell for cell in row] for row in rows]
    numbers = [
        bool(body) and all(type(row[index]) in (int, float) or row[index] == "" for row in body)
        for index in range(len(columns))
    ]
    return Fitted(title, list(columns), [[_cell(cell) for cell in row] for row in body], numbers, keys)


def listing_tables(listing: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Fitted]:
    """The tables of ``harness list``; where a thing comes from is said of other people's alone."""
    missing = {b["name"] for b in listing["benchmarks"] if b["missing"]}
    found: dict[str, tuple[tuple[str, ...], list[tuple[object, ...]]]] = {
        "Algorithms": (
            ("name", "geometries", "summary"),
            [(a["name"], ", ".join(a["geometries"]), a["summary"]) for a in listing["algorithms"]],
        ),
        "Benchmarks": (
            ("name", "data", "summary"),
            [(b["name"], "missing" if b["missing"] else "ready", b["summary"]) for b in listing["benchmarks"]],
        ),
        "Engines": (
            ("name", "installed", "strategies", "summary"),
            [(e["name"], e["installed"], ", ".join(e["strategies"]), e["summary"]) for e in listing["engines"]],
        ),
        "Suites": (
            ("name", "runs", "seeds", "benchmarks", "data", "title"),
            [
                (s["name"], s["runs"], _seeds(s["seeds"]), ", ".join(s["benchmarks"]), _data(s, missing), s["title"])
                for s in listing["suites"]
            ],
        ),
    }
    made = []
    for title, (columns, rows) in found.items():
        origins = [each.get("origin", _OURS) for each in listing[title.lower()]]
        if any(not origin.startswith(_OURS) for origin in origins):
            columns, rows = (*columns, "origin"), [(*row, origin) for row, origin in zip(rows, origins, strict=True)]
        made.append(table(title, columns, rows))
    return made


def _data(suite: Mapping[str, Any], missing: Collection[str]) -> str:
    """``ready``, or how many of its benchmarks have no data here."""
    gone = sum(name in missing for name in suite["benchmarks"])
    return "ready" if not gone else "missing" if gone == len(suite["benchmarks"]) else f"{gone} missing"


def _seeds(seeds: Sequence[int]) -> str:
    """``0..4`` for seeds in a row, as ``--seeds`` takes them."""
    first, last = seeds[0], seeds[-1]
    if len(seeds) > 1 and list(seeds) == list(range(first, last + 1)):
        return f"{first}..{last}"
    return ",".join(map(str, seeds))


def data_table(document: Any) -> Fitted:
    """The table of a ``harness data`` command: a row for each data set, or for each thing said about one."""
    if isinstance(document, list):
        columns = list(document[0]) if document else []
        return table(
            "Data sets", [column.replace("_", " ") for column in columns], [list(row.values()) for row in document]
        )
    rows = [
        (key.replace("_", " "), "; ".join(value) if isinstance(value, list) else _numbers(value))
        for key, value in document.items()
    ]
    return table("Data set", ("", ""), rows)


def _numbers(value: Any) -> Any:
    """Of a mapping its numbers; --json has all of it."""
    if not isinstance(value, Mapping):
        return value
    return ", ".join(f"{number} {key.replace('_', ' ')}" for key, number in value.items() if isinstance(number, int))


def _cell(cell: object) -> str:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return f"{cell:.2e}" if isinstance(cell, float) else str(cell)
