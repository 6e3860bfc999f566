"""The answer as a picture that needs no script: a dot and its interval for each method, on one axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.report.charts.style import method_styles, style
from harness.report.findings.answer import MEASURE, Answer, Spent
from harness.report.findings.names import group_name
from harness.report.page.tables import readable
from harness.report.tables.cells import ends_text, shown

#: no tick stands so near to an end of the axis, in percent
_EDGE = 5


@dataclass(frozen=True)
class Mark:
    """One method: places in percent of the axis, None for what is not there; texts for the columns beside it."""

    name: str
    colour: int
    at: float | None
    low: float | None
    high: float | None
    missed: bool
    entries: str
    ends: str
    times: str
    apart: str
    second_order: str
    seconds: str
    state: str


@dataclass(frozen=True)
class Picture:
    """All answers on one problem: for each target its marks; ticks are places in percent, with what stands there."""

    problem: str
    parts: list[tuple[str, list[Mark]]]
    ticks: list[tuple[float, str]]


def pictures(answers: Sequence[Answer]) -> list[Picture]:
    """One for each problem."""
    problems = dict.fromkeys(answer.problem for answer in answers)
    return [_picture(problem, [each for each in answers if each.problem == problem]) for problem in problems]


def _picture(problem: str, answers: Sequence[Answer]) -> Picture:
    rows = [row for answer in answers for row in answer.rows]
    values = [value for row in rows for value in (*_ends(row), row.entries.value, _spent(row))]
    known = [math.log10(value) for value in values if 0 < value < math.inf] or [0.0, 1.0]
    low, high = min(known), max(known)
    margin = 0.06 * (high - low) or 0.3
    low, high = low - margin, high + margin

    def place(value: float) -> float | None:
        if not value > 0:
            return None
        return 100.0 if value == math.inf else round(100 * (math.log10(value) - low) / (high - low), 2)

    colours = method_styles([row.result.group.method for row in rows])

    def mark(row: Spent, cheapest: Spent) -> Mark:
        median = row.cost.median
        ends = ends_text(row.entries)
        first = row is cheapest
        state = row.cost.state
        accuracy = f"accuracy {state.accuracy:.0%}" if math.isfinite(state.accuracy) else f"loss {shown(state.loss)}"
        return Mark(
            readable(group_name(row.result.group)),
            style(colours[row.result.group.method]).colour,
            place(_spent(row) if row.missed else row.entries.value),
            place(_spent(row) if row.missed else _ends(row)[0]),
            place(_ends(row)[1]),
            row.missed,
            readable(f"> {shown(_spent(row))}" if row.missed else shown(row.entries.value)),
            "not reached" if row.missed else readable(ends or ""),
            "fewest" if first else _times(row),
            "" if first or not _times(row) else _verdict(row),
            readable(shown(median.second_order_entries)),
            readable(shown(median.seconds)),
            accuracy + ("" if row.learnt else ": nothing learnt"),
        )

    parts = [(readable(str(answer.target)), [mark(row, answer.rows[0]) for row in answer.rows]) for answer in answers]
    ticks = [(at, text) for value, text in _ticks(low, high) if _EDGE < (at := place(value) or 0) < 100 - _EDGE]
    return Picture(problem, parts, ticks)


def _times(row: Spent) -> str:
    """Empty where nothing is known: of a miss, that it takes a part of the fewest at least."""
    if math.isnan(row.times.value) or (row.missed and row.times.value < 1):
        return ""
    return readable(f"{row.is_} {shown(row.times.value)} ×".strip())


def _verdict(row: Spent) -> str:
    ends = readable(ends_text(row.times) or "")
    return f"{ends}: undecided" if ends and row.verdict == "undecided" else ends


def _ends(row: Spent) -> tuple[float, float]:
    return row.entries.low, row.entries.high


def _spent(row: Spent) -> float:
    """The most that a run spent in vain."""
    return float(max(row.cost.row(MEASURE).least.values())) if row.missed else math.nan


def _ticks(low: float, high: float) -> Iterable[tuple[float, str]]:
    """Powers of ten, with their 2 and 5 where there are few; ends are logarithms."""
    digits = (1, 2, 5) if high - low < 1.5 else (1,)
    for exponent in range(math.floor(low), math.ceil(high) + 1):
        for digit in digits:
            if low <= math.log10(value := float(f"{digit}e{exponent}")) <= high:
                yield value, readable(shown(value)) if exponent < 6 else readable(f"{digit}e+{exponent}")
