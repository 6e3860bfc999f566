"""The next command, on stderr: on a line of its own, as a shell takes it, whatever the terminal's width."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from harness.errors import HarnessError

#: the words of this command, without the program's name; empty where nobody typed any
words: ContextVar[tuple[str, ...]] = ContextVar("words", default=())

#: commands that keep what they have done, and go on with it where they are given again
_GO_ON = ("compare", "tune")
_OPENERS = {"darwin": "open", "win32": "start"}


def follow(why: str, command: Sequence[str]) -> None:
    """``next, WHY:`` and the command below it."""
    from harness.terminal.console import show

    show([f"next, {why}:", f"  {shlex.join(['harness', *command])}"], to_stderr=True)


def after_run(summary: Mapping[str, Any]) -> None:
    """On to a report, or on with a run that has not ended."""
    mine = tuple(word for word in words.get() or ("run",) if word not in ("--resume", "--fresh"))
    if summary["status"] in ("interrupted", "stopped"):
        follow("to go on from its checkpoint", [*mine, "--resume"])
    elif summary["status"] == "out_of_memory":
        smaller = ["--task-chunk", "1"] if summary["task_chunk"] > 1 else []
        follow("to go on with less memory" if smaller else "once there is more memory", [*mine, "--resume", *smaller])
    else:
        follow("tables, figures and a page of this run", ["report", str(summary["run_dir"])])


def after_compare(suite: str, results: object, states: Iterable[str], dry: bool) -> None:
    """On to the runs themselves, to those that failed, or to a report."""
    if dry:
        follow("to do them", [word for word in words.get() or ("compare", suite) if word != "--dry-run"])
        return
    if "failed" in states and "--retry" not in words.get():
        follow("to try again what failed", [*(words.get() or ("compare", suite)), "--retry"])
    follow("tables, figures and a page of these runs", ["report", str(results)])


def after_tune(suite: object) -> None:
    """On to default and tuned settings side by side; ``suite`` is None where no study found anything."""
    if suite is not None:
        follow("default and tuned settings side by side, with fresh seeds", ["compare", str(suite)])


def after_time() -> None:
    """On from what an evaluation costs to what learning costs."""
    follow("what each method costs until it has learnt", ["compare", "quick"])


def after_report(page: str) -> None:
    """On to a browser."""
    from harness.terminal.console import show

    opener = _OPENERS.get(sys.platform, "xdg-open")
    show(["next, to look at it:", f"  {opener} {shlex.quote(page)}"], to_stderr=True)


def after_interrupt() -> None:
    """The same command again, and whether what was done is kept."""
    mine = words.get()
    if mine and mine[0] in (*_GO_ON, "run", "time", "report", "theory", "verify"):
        try:
            follow("which keeps what is done" if mine[0] in _GO_ON else "from the beginning", mine)
        except (HarnessError, OSError):  # the terminal is gone
            return
