"""The charts on paper: PDF, PNG and SVG by matplotlib, the same bytes from the same runs."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from harness.report.charts import Chart, on_paper
from harness.report.figures.draw import draw
from harness.report.figures.look import SETTINGS
from harness.report.figures.width import WIDTHS
from harness.report.findings.comparison import Comparison
from harness.store.files import write
from harness.store.foreign import one_line

__all__ = ["FORMATS", "draw", "write_figures"]

#: by format, what is written into the file about itself: neither the time nor the program's version
FORMATS: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
}
_DPI = 200


def write_figures(
    comparison: Comparison, folder: Path, width: float = WIDTHS["neurips"], style: dict[str, Any] | None = None
) -> list[Path]:
    """Write every chart of ``comparison`` into ``folder`` (made if need be), ``width`` inches wide; returns the files.

    Files are called ``FAMILY[-PROBLEM][-VARIANT].{pdf,png,svg}``: ``figure1.pdf``, or
    ``figure1-fc100.pdf`` where there are several problems, and ``figure1.pdf`` with all of them side by side. What
    each shows, and what its lines mean, is in ``captions.txt``. ``style``: settings of matplotlib, over ours.
    """
    folder.mkdir(parents=True, exist_ok=True)
    charts = on_paper(comparison)
    several = len(comparison.problems) > 1
    written: list[Path] = []
    captions: list[str] = []
    stems: set[str] = set()
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # whatever a person's own matplotlibrc says: TeX, other fonts, other sizes
        matplotlib.rcParams.update(SETTINGS | (style or {}))
        # Names come from files: a letter that the font does not have is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        for chart in charts:
            stem = _free(_stem(chart, several), stems)
            written += _write(draw(chart, width), folder, stem)
            captions.append(_caption(stem, chart))
    if captions:
        write(folder / "captions.txt", "\n".join(captions).encode())
        written.append(folder / "captions.txt")
    return written


def _caption(stem: str, chart: Chart) -> str:
    """A paragraph about one figure, its file's name before it."""
    variant = "" if not chart.variant or chart.variant in chart.title else f", {chart.variant}"
    where = f" ({chart.problem})" if chart.problem else ", a pair of panels for each problem"
    return one_line(f"{stem}: {chart.title}{variant}{where}. {chart.statistic}") + "\n"


def _write(figure: Figure, folder: Path, stem: str) -> list[Path]:
    paths = []
    for kind, metadata in FORMATS.items():
        path = folder / f"{stem}.{kind}"
        figure.savefig(path, format=kind, dpi=_DPI, metadata=metadata)
        paths.append(path)
    return paths


def _stem(chart: Chart, several: bool) -> str:
    """A file name that every system takes; what stands in it may come from a plugin's name."""
    variant = chart.variant.replace("ε", "epsilon")
    parts = [chart.family, chart.problem if several else "", variant]
    return "-".join(slug for part in parts if (slug := re.sub(r"[^A-Za-z0-9.+]+", "-", part).strip("-.")))[:100]


def _free(stem: str, taken: set[str]) -> str:
    """``stem``, numbered if another chart has it."""
    number, free = 1, stem
    while free.lower() in taken:
        number += 1
        free = f"{stem}-{number}"
    taken.add(free.lower())
    return free
