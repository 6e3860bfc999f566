"""What a run shows in a notebook: a bar while it works, then its result as a table and a curve."""

from __future__ import annotations

import base64
import html
import io
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.experiment.in_words import InWords, result_rows, result_title, setting
from harness.store.foreign import read_plain

if TYPE_CHECKING:
    from harness.settings.config import RunConfig

_SECONDS = 0.25
_MOST_BYTES = 1 << 28


class Result(dict[str, Any]):
    """The content of ``summary.json``, as a dictionary; in a notebook it shows itself."""

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><td style='text-align:left'>{html.escape(name).replace('  ', '&emsp;')}</td>"
            f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
            for name, value in result_rows(self)
        )
        beside = f"<table>{cells}</table>{_curve(Path(self['run_dir']) / 'metrics.jsonl')}"
        return (
            f"<b>{html.escape(result_title(self))}</b><br><code>{html.escape(self['run_dir'])}</code>"
            f"<div style='display:flex;flex-wrap:wrap;gap:2em;align-items:flex-start'>{beside}</div>"
        )


def _curve(path: Path) -> str:
    """The training loss by meta-iterations as an image, or nothing where the run's log is not there any more."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    try:
        lines = [json.loads(line) for line in read_plain(path, _MOST_BYTES).splitlines()]
        x, y = zip(*[(line["iteration"], line["loss"]) for line in lines if line["loss"] is not None], strict=True)
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    figure = Figure(figsize=(4.5, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot(x, y, linewidth=1.2, marker="" if len(x) > 1 else "o")
    axes.set(xlabel="meta-iterations", ylabel="training loss")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(color="#e4e4e4")
    axes.spines[["top", "right"]].set_visible(False)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=144)
    image = base64.b64encode(out.getvalue()).decode()
    return f"<img width='450' alt='training loss by meta-iterations' src='data:image/png;base64,{image}'>"


def in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this program; IPython is not imported to find out."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


class NotebookProgress(InWords):
    """A bar with a line below it, drawn anew in its place; needs no widgets."""

    def __init__(self) -> None:
        from IPython.display import display

        self._shown = time.monotonic()
        self._handle = display({"text/plain": "", "text/html": ""}, raw=True, display_id=True)

    def begin(self, config: RunConfig, done: int) -> None:
        """Training starts, or goes on after ``done`` iterations."""
        super().begin(config, done)
        self._title = setting(config)

    def show(self, line: str, done: int, total: int) -> None:
        """A few times a second, and at the end."""
        if done != total and time.monotonic() - self._shown < _SECONDS:
            return
        self._shown = time.monotonic()
        said = html.escape(f"{self._title}: {line}")
        bar = f"<progress value='{done}' max='{total}' style='width:30em;max-width:100%'></progress>"
        self._handle.update({"text/plain": line, "text/html": f"{bar}<br><small>{said}</small>"}, raw=True)
