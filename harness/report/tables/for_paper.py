r"""A compact table for a paper: ``\input`` it; booktabs, no wider than a line, a row for each setting."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import unknown
from harness.report.findings.comparison import Comparison
from harness.report.findings.costs import Measure, Target
from harness.report.findings.names import extra_of, method_name
from harness.report.findings.results import GroupResult, MedianCost
from harness.report.tables.cells import shown
from harness.report.tables.latex import escaped
from harness.store.foreign import one_line

#: columns unless others are asked for
USUAL = ("accuracy", "K", "seconds", "memory")


@dataclass(frozen=True)
class Spread:
    """A value and the half width of its interval; NaN where the one or the other is not known."""

    value: float
    half: float = math.nan
    #: whether more than ``value`` is needed, and nothing else is known
    at_least: bool = False


@dataclass(frozen=True)
class _Column:
    head: str
    #: what it is, for the caption
    words: str
    value: Callable[[GroupResult, Target | None], Spread]


def paper_table(comparison: Comparison, columns: Sequence[str] = ()) -> str:
    r"""LaTeX of one table, without ``\documentclass``; ``columns`` are names of :data:`COLUMNS`, see :data:`USUAL`.

    Above it, as comments, what its numbers are and what it needs. Raises :class:`InputError` for an unknown column.
    """
    chosen = [_named(name) for name in columns or USUAL]
    results = comparison.results
    targets = [comparison.headline_of(result.group).target for result in results]
    cells = [
        _written([column.value(result, target) for result, target in zip(results, targets, strict=True)])
        for column in chosen
    ]
    kept = [index for index, column in enumerate(cells) if any(column)] if not columns else list(range(len(chosen)))
    heads, first = _names(comparison)
    rows = [[*names, *(cells[index][row] for index in kept)] for row, names in enumerate(first)]
    body = [
        " & ".join([*heads, *(chosen[index].head for index in kept)]) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
    ]
    return "\n".join([*_comments(comparison, [chosen[index] for index in kept]), *_framed(body, len(heads), len(kept))])


def _named(name: str) -> _Column:
    if name not in COLUMNS:
        raise unknown("column", name, COLUMNS)
    return COLUMNS[name]


def _names(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of what names a row; a name that stands above already is not said again."""
    groups = comparison.groups
    extras = [extra_of(group) for group in groups]
    columns = [
        ("Problem", [escaped(group.problem) for group in groups], len(comparison.problems) > 1),
        ("Method", [escaped(method_name(group.method)) for group in groups], True),
        ("$N$", [str(group.inner_steps) for group in groups], True),
        ("Setting", [escaped(extra) for extra in extras], any(extras)),
    ]
    kept = [(head, cells) for head, cells, there in columns if there]
    rows = [list(row) for row in zip(*(cells for _, cells in kept), strict=True)]
    names = [head for head, _ in kept]
    steps = names.index("$N$")
    for above, row in reversed(list(itertools.pairwise(rows))):
        if above[:steps] == row[:steps]:
            row[:steps] = [""] * steps
    return names, rows


def _framed(body: Sequence[str], names: int, numbers: int) -> list[str]:
    r"""A ``tabular`` as wide as it is, or shrunk to the line where that is wider."""
    return [
        r"{\small\setlength{\tabcolsep}{4pt}%",
        rf"\setbox0\hbox{{\begin{{tabular}}{{@{{}}{'l' * names}{'r' * numbers}@{{}}}}",
        r"\toprule",
        *body,
        r"\bottomrule",
        r"\end{tabular}}%",
        r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\box0}\else\box0\fi}%",
        "",
    ]


def _comments(comparison: Comparison, columns: Iterable[_Column]) -> list[str]:
    seeds = sorted({len(group.by_seed) for group in comparison.groups})
    many = " to ".join(map(str, dict.fromkeys([*seeds[:1], *seeds[-1:]])))
    targets = {problem: kinds["epsilon"].target for problem, kinds in comparison.headlines.items()}
    known = [f"{problem}: {target}" for problem, target in targets.items() if target]
    lines = [
        r"needs \usepackage{booktabs,graphicx}",
        f"over {many} seeds; ± is half of a 95 % interval of the mean (Student's t)",
        *(f"{column.head}: {column.words}" for column in columns),
        *(f"target of {each}" for each in known),
    ]
    return [f"% {one_line(line)}" for line in lines]


def spread_text(values: Sequence[Spread]) -> list[tuple[str, str]]:
    """Value and half width of each as text, all with the decimals that two digits of the usual half width have.

    >>> spread_text([Spread(39.4432, 1.8321), Spread(7.0, 1e-27)])
    [('39.4', '1.8'), ('7.0', '0.0')]
    """
    halves = [each.half for each in values if each.half > 1e-9 * abs(each.value)]
    if halves:
        digits = max(0, 1 - math.floor(math.log10(float(np.median(halves)))))
        return [
            (f"{each.value:.{digits}f}", "" if math.isnan(each.half) else f"{each.half:.{digits}f}") for each in values
        ]
    largest = max((abs(each.value) for each in values), default=0)
    digits = max(0, 2 - math.floor(math.log10(largest))) if largest else 0
    whole = all(each.value == int(each.value) for each in values)
    even = not whole and all(abs(each.value) > 10**-digits for each in values) and largest < 1e4
    texts = [f"{each.value:.{digits}f}" if even else shown(each.value) for each in values]
    return [(text, "" if math.isnan(each.half) else "0") for text, each in zip(texts, values, strict=True)]


def _written(values: Sequence[Spread]) -> list[str]:
    """The cells of a column; empty where nothing is known."""
    known = [each for each in values if math.isfinite(each.value)]
    texts = dict(zip(map(id, known), spread_text(known), strict=True))
    cells = []
    for each in values:
        text, half = texts.get(id(each), ("", ""))
        more, spread = ">" if each.at_least else "", rf" \pm {half}" if half else ""
        cells.append(f"${more}{_power(text)}{spread}$" if text else "")
    return cells


def _power(text: str) -> str:
    """A number in math mode: 1.23e+06 as a power of ten, thousands apart without the space of a comma."""
    mantissa, e, power = text.partition("e")
    return rf"{mantissa} \times 10^{{{int(power)}}}" if e else text.replace(",", "{,}")


def _accuracy(result: GroupResult, _: Target | None) -> Spread:
    found = result.accuracy
    if found is None:
        return Spread(math.nan)
    # Cut off at 0 and 1, the interval may have two different halves.
    return Spread(100 * found.value, 100 * max(found.high - found.value, found.value - found.low))


def _until(measure: Measure) -> Callable[[GroupResult, Target | None], Spread]:
    """Median cost to the target on the (w, phi) that takes longest; of a miss what was spent in vain."""

    def cost(result: GroupResult, target: Target | None) -> Spread:
        if target is None:
            return Spread(math.nan)
        longest = max(result.all_costs(target), key=lambda each: _last(each.median.iterations))
        value = getattr(longest.median, measure)
        return Spread(_spent(longest, measure), at_least=True) if math.isinf(value) else Spread(value)

    return cost


def _last(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _spent(cost: MedianCost, measure: Measure) -> float:
    return float(np.median(list(cost.row(measure).least.values())))


#: every column by its name on the command line
COLUMNS = {
    "accuracy": _Column(r"Accuracy (\%)", "held-out tasks, mean over completed runs", _accuracy),
    "seconds": _Column("Time (s)", "training, median", lambda result, _: Spread(result.training_seconds)),
    "seconds_per_iteration": _Column(
        "Time/iter. (s)", "one meta-iteration, median", lambda result, _: Spread(result.seconds["train"])
    ),
    "memory": _Column("Memory (MiB)", "largest peak", lambda result, _: Spread(result.peak_memory_bytes / 2**20)),
    "seeds": _Column("Seeds", "runs", lambda result, _: Spread(len(result.group.by_seed))),
    "K": _Column("$K$", "meta-iterations to the target, median; > where it was not reached", _until("iterations")),
    "gradient_entries": _Column(
        r"$\nabla$ entries", "gradient entries to the target, median", _until("gradient_entries")
    ),
    "second_order_entries": _Column(
        r"$\nabla^2$ entries", "second-order entries to the target, median", _until("second_order_entries")
    ),
    "seconds_to_target": _Column("Time to target (s)", "training until the target, median", _until("seconds")),
}
