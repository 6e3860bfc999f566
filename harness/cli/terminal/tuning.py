"""What ``harness tune`` shows: a live table of the trials of a study, and what came out of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.cli.terminal.console import whole
from harness.cli.terminal.live import LiveView
from harness.experiment.in_words import clock

_SHOWN = 15


class TuneView(LiveView):
    """Shows every event of a study; a live table on a terminal, a line for each finished trial elsewhere."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._name, self._asked, self._began, self._there = "", 0, time.monotonic(), 0
        self._rows: dict[int, dict[str, Any]] = {}
        self._at: dict[int, int] = {}

    def __call__(self, plan: Any, event: dict[str, Any]) -> None:
        """See ``watch`` of :func:`harness.tune.tuning.tune`."""
        kind = event["event"]
        if kind == "study":
            self._begin(plan, event)
        elif kind == "testing":
            self._console.print(Text(f"{plan.name}: the best setting again, with {_seeds(event['seeds'])}"))
        elif kind == "claimed":
            self._at[event["worker"]] = event["number"]
            self._rows[event["number"]] = {"params": event["params"], "state": "running"}
        elif (row := self._rows.get(self._at.get(event["worker"], -1))) is not None:
            self._follow(row, self._at[event["worker"]], event)
        if self._live:
            self._live.update(self._table())

    def _begin(self, plan: Any, event: dict[str, Any]) -> None:
        self._name, self._asked = f"{plan.name}, {plan.objective}", event["trials"]
        trials = event["study"].get_trials(deepcopy=False)
        self._rows = {
            trial.number: {
                "params": trial.params,
                "state": trial.user_attrs.get("outcome") or ("lost" if trial.state.is_finished() else "running"),
                "values": trial.values,
            }
            for trial in trials
        }
        self._began, self._there = time.monotonic(), self._done()
        if trials:
            self._console.print(Text(f"{self._name}: {self._done()} of {self._asked} trials were there already"))

    def _follow(self, row: dict[str, Any], number: int, event: dict[str, Any]) -> None:
        if event["event"] == "begin":
            row["iterations"] = event["iterations"]
        elif event["event"] == "trained":
            row["now"] = f"{event['iteration']}/{row.get('iterations', '?')}"
        elif event["event"] == "measured":
            row["values"] = [event["value"]]
        elif event["event"] == "left" and row["state"] == "running":
            row["state"] = "lost"
        elif event["event"] == "told":
            row |= {"state": event["outcome"], "values": event["values"] or row.get("values"), "now": ""}
            row["message"] = event["message"]
            if not self._live:
                line = Text(f"{self._title()}: {_line(number, row)}")
                self._console.print(line, soft_wrap=not self._console.is_terminal)

    def _done(self) -> int:
        return sum(row["state"] not in ("running", "lost", "interrupted", "duplicate") for row in self._rows.values())

    def _table(self) -> Table:
        table = Table("trial", "state", "value", "parameters", title=f"{self._name}: {self._title()}")
        for number, row in sorted(self._rows.items())[-_SHOWN:]:
            state = f"{row['state']} {row.get('now', '')}".strip()
            table.add_row(str(number), state, _values(row.get("values")), Text(_params(row["params"])))
        return table

    def _title(self) -> str:
        """How many trials are done, how long they have taken, and how long the rest will at that rate."""
        done, elapsed = self._done(), time.monotonic() - self._began
        here = done - self._there
        left = f"about {clock(elapsed / here * max(0, self._asked - done))}" if here else "time"
        return f"{done} of {self._asked} trials, {clock(elapsed)} elapsed, {left} left{'' if here else ' unknown'}"


def tune_lines(results: list[dict[str, Any]]) -> Iterator[str | Text]:
    """How each study ended: outcomes, the best setting, its figures, what mattered, and where all of it is."""
    for result in results:
        outcomes = ", ".join(f"{count} {name}" for name, count in result["outcomes"].items())
        yield f"{result['study']}: {result['trials']} trials ({outcomes}), {result['seconds']:.0f} s of trials"
        completed = result["outcomes"].get("completed", 0)
        best, default, test = result["best"], result["default"], result["test"]
        if best is None:
            yield "  no trial completed; nothing is best"
            continue
        yield f"  best: trial {best['number']}, {result['objective']} {_values(best['values'])} (validation)"
        yield f"    {_params(best['params'])}"
        if default and default["values"]:
            yield f"  the default setting: {_values(default['values'])} (validation)"
        if test:
            for name in ("accuracy", "loss"):
                found = [value for value in test[name] if value is not None]
                if found:
                    each = ", ".join(f"{value:.4g}" for value in found)
                    mean = sum(found) / len(found)
                    yield f"  test {name}, {_seeds(len(found))}, {test['tasks']} tasks: {mean:.4g} ({each})"
            if failed := [status for status in test["status"] if status != "completed"]:
                yield f"  with fresh seeds not completed: {', '.join(map(str, failed))}"
        for part, shares in result["importances"].items():
            yield f"  what {part} depends on, from {completed} completed trials: " + ", ".join(
                f"{name} {share:.0%}" for name, share in shares.items()
            )
        yield whole(f"  {result['best_yaml']}")
        yield whole(f"  {result['plots']}")


def _seeds(number: int) -> str:
    return f"{number} fresh {'seed' if number == 1 else 'seeds'}"


def _line(number: int, row: Mapping[str, Any]) -> str:
    text = f"trial {number}: {row['state']} {_values(row.get('values'))}  {_params(row['params'])}"
    return text + (f"  ({row['message']})" if row.get("message") else "")


def _values(values: Any) -> str:
    return ", ".join(f"{value:.4g}" for value in values or [])


def _params(params: Mapping[str, Any]) -> str:
    texts = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in params.items()}
    return ", ".join(f"{name} {text}" for name, text in texts.items())
