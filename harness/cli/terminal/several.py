"""One setting with several seeds: each run in a line, and the mean with its interval over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from harness.cli.terminal.console import table, whole
from harness.cli.terminal.fitted import Fitted
from harness.report.findings.statistics import Interval, mean

Summaries = Sequence[Mapping[str, Any]]


def several_parts(summaries: Summaries) -> list[Fitted | str | Text]:
    """A table of the runs, what they come to, and where they are."""
    rows = [
        (
            summary["seed"],
            summary["status"],
            _shown(summary["accuracy"]["mean"], 100, ".2f"),
            _shown(summary["loss"]["mean"], 1, ".4f"),
            f"{summary['seconds']['train']:.2f}",
        )
        for summary in summaries
    ]
    first = summaries[0]
    title = f"{first['algorithm']} {first['geometry']} on {first['benchmark']}, N = {first['inner_steps']}"
    lines: list[Fitted | str | Text] = [table(title, ("seed", "status", "accuracy, %", "loss", "training s"), rows)]
    for name, scale, digits, unit in (("accuracy", 100, 2, " %"), ("loss", 1, 4, "")):
        if (found := _over_seeds(summaries, name)) is not None:
            half = "" if found.seeds < 2 else f" ± {scale * (found.high - found.value):.{digits}f}"
            over = f"{found.seeds} {'seed' if found.seeds == 1 else 'seeds'}"
            lines.append(f"{name}: {scale * found.value:.{digits}f}{half}{unit} over {over} (95 %, Student's t)")
    return [*lines, "run directories:", *(whole(f"  {summary['run_dir']}") for summary in summaries)]


def several_document(summaries: Summaries) -> dict[str, Any]:
    """What ``run --seeds --json`` prints: every summary, and means over the completed ones with half of an interval."""
    document: dict[str, Any] = {"seeds": [summary["seed"] for summary in summaries], "runs": list(summaries)}
    for name in ("accuracy", "loss"):
        found = _over_seeds(summaries, name)
        half = None if found is None or found.seeds < 2 else found.high - found.value
        document[name] = {"mean": found and found.value, "ci95": half, "seeds": found.seeds if found else 0}
    return document


def _over_seeds(summaries: Summaries, name: str) -> Interval | None:
    found = [summary[name]["mean"] for summary in summaries if summary["status"] == "completed"]
    return mean([[value for value in found if value is not None]])


def _shown(value: float | None, scale: float, form: str) -> str:
    return "" if value is None else f"{scale * value:{form}}"
