"""How lines look on paper: matplotlib's names for colours, dashes and markers, and the settings of a figure."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

from matplotlib import rc_params_from_file, rcParams
from matplotlib import style as styles
from matplotlib.font_manager import FontProperties

from harness.errors import InputError
from harness.report.charts.chart import Line
from harness.report.charts.style import LIGHT, style
from harness.store.foreign import read_plain
from harness.strangers.blame import blamed

# Fonts are embedded as TrueType, so that text stays text; the salt makes the ids in SVG files repeatable.
SETTINGS: Any = {
    "pdf.fonttype": 42,
    "svg.hashsalt": "harness",
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
}

_DASHES = {"solid": "-", "dash": (0, (5, 2)), "dashdot": (0, (6, 2, 1.5, 2)), "dot": (0, (1.5, 1.5))}
_MARKERS = {"circle": "o", "square": "s", "diamond": "D", "pentagon": "p", "cross": "P", "star": "*", "hexagon": "h"}
_CURVE_MARKS = 7
_LONGEST_NAME = 90
_MOST_BYTES = 1 << 16


def styled(name: str) -> dict[str, Any]:
    """What a person's style sheet sets: a file, or one of matplotlib's by name; raises :class:`InputError`."""
    if not name:
        return {}
    if name in styles.library:
        return {str(key): value for key, value in styles.library[name].items()}
    try:
        content = read_plain(Path(name), _MOST_BYTES).decode()
    except FileNotFoundError:
        known = ", ".join(style for style in styles.available if "paper" in style)
        raise InputError(f"--style {name}: no such file; allowed: FILE.mplstyle, or a name such as {known}") from None
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not text"
        raise InputError(f"--style {name}: {why}; allowed: FILE.mplstyle") from error
    with warnings.catch_warnings(record=True), tempfile.TemporaryDirectory() as folder, blamed(f"--style {name}"):
        copy = Path(folder) / "person.mplstyle"
        copy.write_text(content)
        return {str(key): value for key, value in rc_params_from_file(copy, use_default_template=False).items()}


def letters() -> float:
    """The size of the legend's letters as matplotlib is set now, in points."""
    return float(FontProperties(size=rcParams["legend.fontsize"]).get_size_in_points())


def look(line: Line) -> dict[str, Any]:
    """Colour, dashes and marker of a line, as keywords of ``Axes.plot``."""
    at = style(line.style)
    colour, dashes, marker = LIGHT[at.colour], _DASHES[at.dash], _MARKERS[at.marker]
    kinds: dict[str, dict[str, Any]] = {
        "curve": {"linestyle": dashes, "marker": marker, "markersize": 3.5},
        "points": {"linestyle": dashes, "marker": marker, "markersize": 4.5},
        "markers": {"linestyle": "", "marker": marker, "markersize": 5.5},
        "fit": {"linestyle": (0, (1, 1.2)), "linewidth": 1.1},
        "front": {"linestyle": "-", "linewidth": 1.0, "alpha": 0.6},
        "stopped": {"linestyle": dashes, "linewidth": 0.8},
    }
    return {"color": colour, **kinds[line.kind]}


def marks(line: Line) -> Any:
    """Which points of a line carry a marker: a few of a curve, shifted so that curves do not hide each other."""
    if line.kind != "curve":
        return None
    every = max(1, len(line.x) // _CURVE_MARKS)
    return (line.style * every // _CURVE_MARKS % every, every)


def plain(text: str) -> str:
    """One line of printable letters, of a length that fits, without mathematics in it."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    short = line if len(line) <= _LONGEST_NAME else line[: _LONGEST_NAME - 1] + "…"
    return short.replace("$", r"\$")
