"""Colours, dashes and markers: Okabe and Ito's palette, so that every line is told apart in three ways."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

# Okabe and Ito's colours without yellow, which paper does not show; five more for long lists of N; black last.
LIGHT = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#7A4B1F", "#882255", "#6A4FB3", "#8A8A1F", "#B00020", "#3B3B3B"),
)
# The same hues, lighter: at least 3 : 1 against a dark page.
DARK = (
    *("#4BA3E3", "#FF8C42", "#2FC79A", "#EBA2CB", "#F3BB45", "#A8DCFB"),
    *("#C79A6B", "#E07BAF", "#B3A1F5", "#D2D25A", "#FF6B7A", "#E4E4E4"),
)
#: how many colours there are: a style as many further on has the same colour and another dash
COLOURS = len(LIGHT)
BLACK = COLOURS - 1
DASHES = ("solid", "dash", "dashdot", "dot")
# no triangles and no x: those stand for targets never reached and for runs that diverged
MARKERS = ("circle", "square", "diamond", "pentagon", "cross", "star", "hexagon")

_METHODS = {"maml": 1, "fomaml": 4, "anil convex": 0, "anil nonconvex": 2}
_OTHERS = (3, 5, *range(6, COLOURS))


class Style(NamedTuple):
    """``colour`` is an index into the palettes above."""

    colour: int
    dash: str
    marker: str


def style(index: int) -> Style:
    """The look of the ``index``-th line; 12 in a row differ in colour, more in colour, dash or marker."""
    marker = (index + index // COLOURS) % len(MARKERS)
    return Style(index % COLOURS, DASHES[index % len(DASHES)], MARKERS[marker])


def method_styles(methods: list[str]) -> dict[str, int]:
    """A style for each method, the same in every figure."""
    others = sorted(set(methods) - set(_METHODS))
    free = [*_OTHERS, *range(COLOURS, COLOURS + len(others))]
    return _METHODS | dict(zip(others, free, strict=False))


def apart(wished: Sequence[int]) -> list[int]:
    """Styles of lines side by side: the wished one, or where another line has it, the next colour that none wishes.

    >>> apart([0, 2, 0])
    [0, 2, 1]
    """
    taken: set[int] = set()
    found = []
    for at in wished:
        if at in taken:
            free = (other for other in itertools.count() if other not in taken and other not in wished)
            at = next(free)
        taken.add(at)
        found.append(at)
    return found
