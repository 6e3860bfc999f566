"""The next command, on stderr: on a line of its own, as a shell takes it, whatever the terminal's width."""

from __future__ import annotations

import itertools
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.grid.compare import Entry

#: the words of this command, without the program's name; empty where nobody typed any
words: ContextVar[tuple[str, ...]] = ContextVar("words", default=())

#: commands that keep what they have done, and go on with it where they are given again
_GO_ON = ("compare", "tune")
#: seeds that a claim takes, see harness.report.findings.statistics, which is too slow to import here
ENOUGH = 5
_DRY = ("compare", "quick", "--dry-run")
_OPENERS = {"darwin": "open", "win32": "start"}


def follow(why: str, command: Sequence[str]) -> None:
    """``next, WHY:`` and the command below it."""
    from harness.cli.terminal.console import show, whole

    show([f"next, {why}:", whole(f"  {shlex.join(['harness', *command])}")], to_stderr=True)


def after_list(missing: bool) -> None:
    """On to what a suite takes, to a model of one's own, and to the data that are not there."""
    follow("what the runs of a suite are, and as far as finished ones tell what they take", _DRY)
    follow("whether the gradients of a model of your own are right", ["verify", "--model", "FILE.py:function"])
    if missing:
        follow("where missing data belong, and how to get them", ["data", "status"])


def after_runs(summaries: Sequence[Mapping[str, Any]]) -> None:
    """On to a report, or on with the last run where that has not ended."""
    mine = tuple(word for word in words.get() or ("run",) if word not in ("--resume", "--fresh"))
    last = summaries[-1]
    if last["status"] in ("interrupted", "stopped"):
        follow("to go on from its checkpoint", [*mine, "--resume"])
    elif last["status"] == "out_of_memory":
        smaller = ["--task-chunk", "1"] if last["task_chunk"] > 1 else []
        follow("to go on with less memory" if smaller else "once there is more memory", [*mine, "--resume", *smaller])
    else:
        what = "this run" if len(summaries) == 1 else "these runs"
        follow(f"tables, figures and a page of {what}", ["report", *(str(each["run_dir"]) for each in summaries)])


def after_compare(suite: str, results: object, entries: Sequence[Entry], dry: bool) -> None:
    """On to the runs themselves, to those that failed, to seeds enough for a claim, or to a report."""
    mine = words.get() or ("compare", suite)
    if dry:
        follow("to do them", [word for word in mine if word != "--dry-run"])
    elif any(entry.state == "failed" for entry in entries) and "--retry" not in mine:
        follow("to try again what failed", [*mine, "--retry"])
    _more_seeds(mine, entries)
    if not dry:
        follow("tables, figures and a page of these runs", ["report", str(results)])


def _more_seeds(mine: Sequence[str], entries: Sequence[Entry]) -> None:
    """That so few seeds carry no claim, and what the rest would take, from what the runs of one seed take."""
    from harness.grid.compare import estimate

    seeds = dict.fromkeys(entry.config.seed for entry in entries)
    if len(seeds) >= ENOUGH or any(word.startswith("--seeds") for word in mine):
        return
    more = itertools.islice((seed for seed in itertools.count() if seed not in seeds), ENOUGH - len(seeds))
    wanted = ",".join(map(str, [*seeds, *more]))
    one = [
        seconds
        for entry, seconds in zip(entries, estimate(list(entries)), strict=True)
        if entry.config.seed in [*seeds][:1]
    ]
    missing = ENOUGH - len(seeds)
    known = [seconds for seconds in one if seconds is not None]
    carry = f"as {len(seeds)} {'seed carries' if len(seeds) == 1 else 'seeds carry'} no claim"
    price = missing * sum(known) * len(one) / len(known) if known else None
    takes = "do" if price is None else f"take about {price:.0f} s one after the other more"
    why = f"{carry}; {ENOUGH} {takes}"
    follow(why, [*(word for word in mine if word != "--dry-run"), "--seeds", wanted])


def after_plan(suite: str, results: object, runs: int) -> None:
    """On to the seeds that decide, looked at by a rule, or to a report where there is nothing to do."""
    if runs:
        mine = words.get()[1:] or (suite,)
        kept = [word for word in mine if word != "--json"]
        follow("to do them, as far as they decide anything", ["compare", *kept, "--until-decided"])
    else:
        follow("tables, figures and a page of these runs", ["report", str(results)])


def after_until(results: object, ended: str) -> None:
    """On with the same command where the budget was spent; to a report."""
    if ended == "budget" and words.get():
        follow("to go on", words.get())
    follow("tables, figures and a page of these runs", ["report", str(results)])


def after_tune(suite: object) -> None:
    """On to default and tuned settings side by side; ``suite`` is None where no study found anything."""
    if suite is not None:
        follow("default and tuned settings side by side, with fresh seeds", ["compare", str(suite)])


def after_time() -> None:
    """On from what an evaluation costs to what learning costs."""
    follow("what each method costs until it has learnt", ["compare", "quick"])


def after_verify(right: bool) -> None:
    """On to training where it was a person's own model, tasks or loss that passed."""
    mine, lists = list(words.get())[1:], ("--algo", "--engine")  # a run takes one of each
    kept = [
        word
        for before, word in zip(["", *mine], mine, strict=False)
        if word != "--json"
        and word not in lists
        and before not in lists
        and not word.startswith(("--algo=", "--engine="))
    ]
    if right and any(word.startswith(("--model", "--benchmark", "--loss")) for word in kept):
        follow("to train it", ["run", *kept])


def after_report(page: str, untuned: Mapping[str, Sequence[str]]) -> None:
    """On to a browser, and where no step size was searched for to that; ``untuned``: methods by benchmark."""
    from harness.cli.terminal.console import show, whole

    opener = _OPENERS.get(sys.platform, "xdg-open")
    show(["next, to look at it:", whole(f"  {opener} {shlex.quote(page)}")], to_stderr=True)
    for benchmark, methods in list(untuned.items())[:1]:
        command = ["tune", "--algo", ",".join(methods), "--benchmark", benchmark]
        follow("the same search of step sizes for each method", command)


def after_interrupt() -> None:
    """The same command again, and whether what was done is kept."""
    mine = words.get()
    if mine and mine[0] in (*_GO_ON, "run", "time", "report", "theory", "verify"):
        try:
            follow("which keeps what is done" if mine[0] in _GO_ON else "from the beginning", mine)
        except (HarnessError, OSError):  # the terminal is gone
            return
