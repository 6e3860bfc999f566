"""Colours, dashes and markers: Okabe and Ito's palette, so that every line is told apart in three ways."""

from __future__ import annotations

from typing import NamedTuple

# Okabe and Ito's colours without yellow, which paper does not show; black last.
LIGHT = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#3B3B3B")
# The same hues, lighter: at least 3 : 1 against a dark page.
DARK = ("#4BA3E3", "#FF8C42", "#2FC79A", "#EBA2CB", "#F3BB45", "#A8DCFB", "#E4E4E4")
#: how many colours there are: a style as many further on has the same colour and another dash
COLOURS = len(LIGHT)
BLACK = COLOURS - 1
DASHES = ("solid", "dash", "dashdot", "dot")
# no triangles and no x: those stand for targets never reached and for runs that diverged
MARKERS = ("circle", "square", "diamond", "pentagon", "cross", "star", "hexagon")

_METHODS = {"maml": 1, "fomaml": 4, "anil convex": 0, "anil nonconvex": 2}
_OTHERS = (3, 5, 6)


class Style(NamedTuple):
    """``colour`` is an index into the palettes above."""

    colour: int
    dash: str
    marker: str


def style(index: int) -> Style:
    """The look of the ``index``-th line; 28 in a row differ in colour or dash, and in marker where colours repeat."""
    marker = (index + index // COLOURS) % len(MARKERS)
    return Style(index % COLOURS, DASHES[index % len(DASHES)], MARKERS[marker])


def method_styles(methods: list[str]) -> dict[str, int]:
    """A style for each method, the same in every figure."""
    others = sorted(set(methods) - set(_METHODS))
    free = [*_OTHERS, *range(COLOURS, COLOURS + len(others))]
    return _METHODS | dict(zip(others, free, strict=False))
