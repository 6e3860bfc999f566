"""How wide a figure is in print: the text width of a venue, or inches."""

from __future__ import annotations

import math

from harness.errors import InputError

_POINT = 1 / 72.27  # of TeX, in inches
#: text widths of the venues' own style files, in inches; ``-wide`` runs over both columns
WIDTHS = {
    "neurips": 397.48 * _POINT,
    "icml": 234.88 * _POINT,
    "icml-wide": 487.82 * _POINT,
    "ieee": 252.0 * _POINT,
    "ieee-wide": 516.0 * _POINT,
}
_LEAST, _MOST = 2.0, 20.0


def inches(width: str) -> float:
    """``neurips`` or ``3.25`` in inches; raises :class:`InputError`."""
    if width in WIDTHS:
        return WIDTHS[width]
    try:
        found = float(width)
    except ValueError:
        found = math.nan
    if not _LEAST <= found <= _MOST:
        raise InputError(f"--width {width!r}: allowed: {', '.join(WIDTHS)}, or inches from {_LEAST:g} to {_MOST:g}")
    return found
