"""report.html: findings, tables, plots and every run in one file that opens offline and fetches nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from harness.report.charts import charts_of
from harness.report.charts.style import DARK, LIGHT
from harness.report.findings.comparison import Comparison
from harness.report.next_runs import NOTHING, NextRuns
from harness.report.page.overview import overview
from harness.report.page.plots import cards, drawable, legend, plot_data
from harness.report.page.runs import run_data
from harness.report.page.script_safe import packed, packed_json
from harness.report.page.tables import readable, shaped
from harness.report.reading.studies import Study
from harness.report.tables.cells import Table
from harness.store.files import write

__all__ = ["write_page"]

_HERE = Path(__file__).parent
_SCRIPTS = ("unpack.js", "plots.js", "tables.js", "runs.js")


def write_page(
    comparison: Comparison,
    tables: Sequence[Table],
    path: Path,
    studies: Sequence[Study] = (),
    differences: Sequence[str] = (),
    next_runs: NextRuns = NOTHING,
) -> None:
    """Write the whole report of ``comparison``, with the plots of ``studies``, to ``path``, UTF-8.

    ``differences`` are what a comparison against other results found, ``next_runs`` what would decide the claims.

    All scripts, styles and data are inside. A content security policy forbids every connection and every script
    but these; whatever came from a file is escaped as text.
    """
    found = cards(charts_of(comparison))
    plotly = (_HERE / "plotly-basic.min.js").read_text(encoding="utf-8")
    scripts = [(_HERE / name).read_text(encoding="utf-8") for name in _SCRIPTS]
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            overview=overview(comparison, next_runs, differences),
            tables=list(shaped(tables)),
            cards=found,
            problems=comparison.problems,
            studies=studies,
            plot_data=packed_json(plot_data(found, studies)),
            run_data=packed_json(run_data(comparison, path.parent)),
            plotly=packed(plotly),
            licence=Markup(plotly[: plotly.index("*/") + 2]),
            scripts=[Markup(script) for script in scripts],
            style=Markup((_HERE / "report.css").read_text(encoding="utf-8")),
            palettes={"light": LIGHT, "dark": DARK},
            policy=_policy([plotly, *scripts]),
        )
    )
    write(path, page.encode("utf-8", errors="replace"))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(drawable=drawable, legend=legend, readable=readable)
    return environment


def _policy(scripts: Sequence[str]) -> str:
    """Nothing may be fetched, and no script may run but these, known by their hashes."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    # some versions of the library try at once which kinds of images a browser knows, on images inside themselves
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
