"""The live table of ``harness compare``: a line for every setting, its seeds done, running, failed and to come."""

from __future__ import annotations

import math
import time
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.cli.terminal.console import table as fitted
from harness.cli.terminal.console import whole
from harness.cli.terminal.fitted import Fitted
from harness.cli.terminal.live import LiveView
from harness.experiment.in_words import clock
from harness.grid.compare import Entry, estimate
from harness.store.records import FAILED
from harness.strangers.named import brief

_TITLES = ("method", "N", "seeds done", "accuracy", "now")


class GridView(LiveView):
    """Shows every event of a grid; a live table on a terminal, a line for each end elsewhere."""

    def __init__(self, console: Console, budget: float = math.inf) -> None:
        super().__init__(console)
        self._budget = budget
        self._now: dict[int, str] = {}
        self._began, self._expected, self._workers = time.monotonic(), dict[int, float | None](), 1
        self._iterations: dict[int, int] = {}

    def __call__(self, entries: list[Entry], entry: Entry, event: dict[str, Any]) -> None:
        """See ``watch`` of :func:`harness.grid.compare.compare`."""
        if event["event"] == "end":
            self._now.pop(id(entry), None)
            self._expected.clear()  # there is one more to judge by
            if not self._live:
                done = sum(other.state in ("cached", "failed") for other in entries)
                lines = f"{done}/{len(entries)}  {_end(entry.summary)}; {self._clocks(entries)}", f"  {entry.directory}"
                for line in lines:
                    self._console.print(Text(line), soft_wrap=True)
        else:
            self._now[id(entry)] = _doing(entry, event)
            self._iterations[id(entry)] = event.get("iteration", entry.config.iterations)
            self._workers = max(self._workers, len(self._now))
        if self._live:
            self._live.update(self._table(entries))

    def _table(self, entries: list[Entry]) -> Table:
        table = Table(*_TITLES, title=f"{_progress(entries)}, {self._clocks(entries)}")
        rows: dict[tuple[str, ...], list[Entry]] = {}
        for entry in entries:
            rows.setdefault(_setting(entry), []).append(entry)
        for setting, members in rows.items():
            finished = [entry for entry in members if entry.state == "cached"]
            accuracies = [
                value for entry in finished if (value := _found(entry.summary, "accuracy", "mean")) is not None
            ]
            mean = f"{100 * sum(accuracies) / len(accuracies):.1f} %" if accuracies else ""
            now = [self._now[id(entry)] for entry in members if id(entry) in self._now]
            now += [f"s{entry.config.seed} {_end(entry.summary)}" for entry in members if entry.state == "failed"]
            done = f"{len(finished)}/{len(members)}"
            table.add_row(Text(setting[0]), setting[1], done, mean, Text("  ".join(now)))
        return table

    def _clocks(self, entries: list[Entry]) -> str:
        """How long this has taken, and what the rest will, from finished runs like those to come."""
        if not self._expected.keys() >= set(map(id, entries)):  # one has ended, or there are others
            self._expected = {id(entry): seconds for entry, seconds in zip(entries, estimate(entries), strict=True)}
        of = f" of {clock(self._budget)}" if self._budget < math.inf else ""
        elapsed = f"{clock(time.monotonic() - self._began)}{of} elapsed"
        rest = [
            None
            if (seconds := self._expected[id(entry)]) is None
            else seconds * (1 - min(1.0, self._iterations.get(id(entry), 0) / entry.config.iterations))
            for entry in entries
            if entry.state in ("new", "unfinished")
        ]
        known = [seconds for seconds in rest if seconds is not None]
        if rest and not known:
            return f"{elapsed}, time left unknown"
        least = "at least " if len(known) < len(rest) else "about "
        return f"{elapsed}, {least}{clock(sum(known) / self._workers)} left" if rest else elapsed


def plan_table(entries: list[Entry]) -> tuple[Fitted, str]:
    """What a grid would do: its runs with their state and expected seconds, and the sum in words."""
    seconds = estimate(entries)
    rows = [
        (entry.state, "unknown" if expected is None else f"{expected:.0f}", entry.directory.name)
        for entry, expected in zip(entries, seconds, strict=True)
    ]
    table = fitted("Runs", ("state", "seconds", "run"), rows)
    left = [expected for entry, expected in zip(entries, seconds, strict=True) if entry.state in ("new", "unfinished")]
    return table, f"{len(left)} of {len(entries)} runs to do{_expected(left)}"


def _expected(left: list[float | None]) -> str:
    """How long they take one after the other, as far as it is known."""
    known = [expected for expected in left if expected is not None]
    if not left:
        return ""
    if not known:
        return "; how long is unknown: there is no finished run like any of them"
    if len(known) == len(left):
        return f"; about {sum(known):.0f} s one after the other"
    return (
        f"; at least {sum(known):.0f} s, one after the other, for the {len(known)} that have a finished run like them; "
        f"{len(left) - len(known)} have none: unknown"
    )


def outcome_lines(entries: list[Entry]) -> list[str | Text]:
    """How a grid ended: counts, and a line for every run that did not complete."""
    lines: list[str | Text] = [f"{sum(entry.state == 'cached' for entry in entries)} of {len(entries)} runs completed"]
    for entry in entries:
        if entry.state != "cached":
            lines += [f"{_end(entry.summary)}:", whole(f"  {entry.directory}")]
    return lines


def grid_document(suite: str, entries: list[Entry]) -> dict[str, Any]:
    """What ``harness compare --json`` prints: every run with its state, directory, status and expected seconds."""
    return {
        "suite": suite,
        "runs": [
            {
                "run_dir": str(entry.directory),
                "state": entry.state,
                "status": entry.summary.get("status"),
                "message": entry.summary.get("message"),
                "accuracy": _found(entry.summary, "accuracy", "mean"),
                "estimated_seconds": expected,
            }
            for entry, expected in zip(entries, estimate(entries), strict=True)
        ],
    }


def _found(summary: dict[str, Any], part: str, name: str) -> float | None:
    """A finite number of a summary, if it is there: a stranger's may hold anything."""
    found = summary.get(part)
    value = found.get(name) if isinstance(found, dict) else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _progress(entries: list[Entry]) -> str:
    done = sum(entry.state in ("cached", "failed") for entry in entries)
    return f"{done} of {len(entries)} runs"


def _setting(entry: Entry) -> tuple[str, ...]:
    c = entry.config
    return f"{c.algo} {c.geometry} on {brief(c.benchmark)} {c.ways}w{c.shots}s, alpha {c.inner_lr:g}", str(
        c.inner_steps
    )


def _doing(entry: Entry, event: dict[str, Any]) -> str:
    if event["event"] == "evaluated":
        return f"s{entry.config.seed} evaluating {event['done']}/{event['total']}"
    loss = f" loss {event['loss']:.3f}" if event.get("loss") is not None else ""
    return f"s{entry.config.seed} {event['iteration']}/{entry.config.iterations}{loss}"


def _end(summary: dict[str, Any]) -> str:
    status = str(summary.get("status", "not started"))
    if status == "completed" and (mean := _found(summary, "accuracy", "mean")) is not None:
        return f"accuracy {100 * mean:.1f} %, {_found(summary, 'seconds', 'wall') or 0:.0f} s"
    found = {
        part: summary[part] if isinstance(summary.get(part), dict) else {} for part in ("diverged", "out_of_memory")
    }
    if status == "diverged" and found["diverged"]:
        return f"diverged at iteration {found['diverged'].get('iteration')} ({found['diverged'].get('quantity')})"
    message = summary.get("message") or found["out_of_memory"].get("message")
    return f"{status}: {message}" if status in FAILED and message else status
