"""Processes that come to harm: forked from one that has imported everything, so that a hundred take half a minute."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest  # noqa: F401  (a forked process imports the main module of its parent, which is pytest's)
import torch

import harness
from harness import RunConfig

SETTINGS: dict[str, Any] = {
    "benchmark": "sinusoid",
    "iterations": 12,
    "meta_batch": 1,
    "inner_steps": 1,
    "inner_lr": 0.01,
    "eval_tasks": 2,
    "eval_every": 4,
    "stationarity_every": 4,
    "stationarity_tasks": 1,
    "checkpoint_every": 2,
    "threads": 1,
}
#: as arguments of ``harness run``
FLAGS = [word for key, value in SETTINGS.items() for word in (f"--{key.replace('_', '-')}", str(value))]


class Moments:
    """Every moment before, in and after a file operation of a run, such as ``replace checkpoint.pt before``.

    At the ``number``-th moment called ``label`` the process gets the signal.
    """

    def __init__(self, label: str = "", number: int = 0, signum: int = 0) -> None:
        self.seen: Counter[str] = Counter()
        self._kill = (label, number, signum)
        self._names: dict[int, str] = {}
        self._real = {name: getattr(os, name) for name in ("open", "write", "fsync", "ftruncate", "replace")}

    def watched(self) -> ExitStack:
        """A context in which they are seen."""
        stack = ExitStack()
        for name in self._real:
            stack.enter_context(patch.object(os, name, getattr(self, f"_{name}")))
        return stack

    def _moment(self, operation: str, name: str, when: str) -> None:
        label = f"{operation} {name} {when}"
        self.seen[label] += 1
        if (label, self.seen[label]) == self._kill[:2]:
            os.kill(os.getpid(), self._kill[2])

    def _open(self, path: Any, *args: Any, **kwargs: Any) -> int:
        file = self._real["open"](path, *args, **kwargs)
        name = Path(os.fsdecode(path)).name
        # a temporary name is .NAME.PID
        self._names[file] = name[1:].rpartition(".")[0] if name.startswith(".") else name
        return file

    def _write(self, file: int, content: Any) -> int:
        name = self._names.get(file, "")
        self._moment("write", name, "before")
        half = len(content) // 2
        done = self._real["write"](file, content[:half]) if half else 0
        self._moment("write", name, "torn")
        done += self._real["write"](file, content[half:])
        self._moment("write", name, "after")
        return done

    def _around(self, operation: str, name: str, *args: Any) -> None:
        self._moment(operation, name, "before")
        self._real[operation](*args)
        self._moment(operation, name, "after")

    def _fsync(self, file: int) -> None:
        name = self._names.get(file, "")
        self._around("fsync", name if "." in name else "folder", file)

    def _ftruncate(self, file: int, size: int) -> None:
        self._around("ftruncate", self._names.get(file, ""), file, size)

    def _replace(self, source: Any, target: Any) -> None:
        self._around("replace", Path(target).name, source, target)


def train(results: Path, label: str = "", number: int = 0, signum: int = 0, seen: Path | None = None) -> None:
    """Do the run, or go on with it, with a signal at a moment; exit 130 where it was interrupted."""
    moments = Moments(label, number, signum)
    try:
        with moments.watched():
            status = harness.run(RunConfig(**SETTINGS), results=results, resume=True)["status"]
    except KeyboardInterrupt:
        status = "interrupted"
    if seen is not None:
        seen.write_text("\n".join(moments.seen.elements()))
    sys.exit({"completed": 0, "interrupted": 130}[status])


def command(
    arguments: list[str], said: Path, harm: Callable[..., ExitStack] | None = None, given: tuple[Any, ...] = ()
) -> None:
    """Do a command of the harness with ``harm`` done to this process; what it says goes to a file."""
    from harness.cli import main

    with said.open("w") as file, redirect_stderr(file), redirect_stdout(file), (harm or ExitStack)(*given):
        status = main(arguments)
    sys.exit(status)


def forked(target: Callable[..., None], *args: Any, after: float | None = None, signum: int = 0) -> int:
    """Exit status of ``target`` in a process of its own, which gets a signal ``after`` so many seconds."""
    process = start(target, *args)
    if after is not None:
        time.sleep(after)
        try:
            os.kill(process.pid, signum)
        except ProcessLookupError:
            pass
    process.join(600)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def start(target: Callable[..., None], *args: Any) -> Any:
    """The process, started."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["faulty"])
    # The server has to find this module, and to inherit nothing that pytest puts into its way.
    here = [str(Path(__file__).parent), str(Path(harness.__file__).parents[1])]
    with patch.dict(os.environ, {"PYTHONPATH": os.pathsep.join(here), "OMP_NUM_THREADS": "1"}):
        process = context.Process(target=target, args=args, daemon=True)
        process.start()
    return process


def signalled_at(iteration: int, *signals: int) -> ExitStack:
    """In it, a run sends itself these signals in this meta-iteration."""
    from harness.experiment.train import Trainer

    original = Trainer._iterate

    def iterate(self: Trainer, number: int) -> None:
        original(self, number)
        if number == iteration:
            for signum in signals:
                os.kill(os.getpid(), signum)

    stack = ExitStack()
    stack.enter_context(patch.object(Trainer, "_iterate", iterate))
    return stack


if not multiprocessing.parent_process() and "pytest" not in sys.argv[0] and sys.argv[0] == "-c":
    # In the server: what a run imports late is there for every process forked from it.
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        harness.run(RunConfig(**{**SETTINGS, "iterations": 1}), results=folder)
