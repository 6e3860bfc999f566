"""A table that fits its terminal: in parts where it is too wide, as lines where a part is. No word is broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

# after each column, with the one that separates it from the next
_PADDING = 2


@dataclass(frozen=True)
class Fitted:
    """Cells as text; ``numbers`` says which columns are numbers, and parts begin with the first ``keys`` columns."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[bool]
    keys: int = 1

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Parts as wide as the terminal, one below the other."""
        yield Text(self.title, style="italic", no_wrap=False, overflow="fold")
        width = options.max_width
        least = [self._least(index) + _PADDING for index in range(len(self.columns))]
        parts = list(_parts(least, self.keys, width))
        if any(sum(least[index] for index in part) > width for part in parts):
            for line in self._lines():
                yield Segment(line)
                yield Segment.line()
            return
        for part in parts:
            yield self._part(part, [least[index] - _PADDING for index in part], width)
            yield ""

    def _least(self, index: int) -> int:
        """The longest word of a column; its number or its only word in one piece."""
        cells = [self.columns[index], *(row[index] for row in self.rows)]
        return max((cell_len(word) for cell in cells for word in cell.split()), default=1)

    def _part(self, part: Sequence[int], least: list[int], width: int) -> Table:
        wished = [max(cell_len(row[index]) for row in [self.columns, *self.rows]) for index in part]
        while sum(wished) + _PADDING * len(part) > width:
            spare = [have - need for have, need in zip(wished, least, strict=True)]
            widest = max((place for place in range(len(part)) if spare[place]), key=wished.__getitem__)
            wished[widest] -= 1
        made = Table(
            box=box.SIMPLE_HEAD, show_header=any(self.columns), padding=(0, 1, 0, 0), show_edge=False, pad_edge=False
        )
        for index, wide in zip(part, wished, strict=True):
            justify = "right" if self.numbers[index] else "left"
            made.add_column(Text(self.columns[index]), justify=justify, width=wide, overflow="fold")  # type: ignore[arg-type]
        for row in self.rows:
            made.add_row(*(Text(row[index]) for index in part))
        return made

    def _lines(self) -> Iterator[str]:
        """A paragraph a row: what it is, then a line for each column; a long word is the terminal's to break."""
        for row in self.rows:
            yield ""
            yield "  ".join(cell for cell in row[: self.keys] if cell)
            for name, cell in list(zip(self.columns, row, strict=True))[self.keys :]:
                if cell:
                    yield f"  {name}: {cell}" if name else f"  {cell}"


def _parts(least: Sequence[int], keys: int, width: int) -> Iterator[list[int]]:
    """Columns that fit side by side, the first ``keys`` in every part."""
    first = list(range(min(keys, len(least))))
    part = list(first)
    for index in range(len(first), len(least)):
        if len(part) > len(first) and sum(least[each] for each in [*part, index]) > width:
            yield part
            part = list(first)
        part.append(index)
    yield part
