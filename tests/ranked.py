"""The ranks of one run, forked and told what torchrun would tell them, which takes seconds to start them itself."""

from __future__ import annotations

import atexit
import dataclasses
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from faulty import command, start

import harness
from algorithms.maml import MAML
from benchmarks.sinusoid import Sinusoid
from harness import RunConfig
from harness.errors import InputError
from harness.problem.oracle import MetaGradient
from harness.problem.tasks import TaskBatch


def ranked(size: int, target: Callable[..., None], *args: Any) -> list[int]:
    """Exit statuses of ``target`` on so many ranks."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    processes = [start(_ranked, rank, size, port, target, args) for rank in range(size)]
    try:
        until = time.monotonic() + 120
        for process in processes:
            process.join(max(0, until - time.monotonic()))
        assert None not in [process.exitcode for process in processes], "it hangs"
    finally:
        for process in processes:
            process.kill()
    return [process.exitcode for process in processes]


def _ranked(rank: int, size: int, port: int, target: Callable[..., None], args: tuple[Any, ...]) -> None:
    told = {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    told |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size}
    os.environ.update({name: str(value) for name, value in told.items()})
    try:
        target(*args)
    finally:
        atexit._run_exitfuncs()  # a forked process leaves them out


def runs(configs: Sequence[dict[str, Any]], results: Path) -> None:
    """Do each of these runs."""
    for config in configs:
        assert harness.run(RunConfig(**config), results=results)["status"] == "completed"


def commanded(arguments: list[str], said: Path, harms: dict[int, tuple[Any, ...]] | None = None) -> None:
    """Do a command of the harness; what each rank says goes to a file of its number.

    ``harms``: a function and its arguments for a rank that is to come to harm.
    """
    said.mkdir(exist_ok=True)
    rank = int(os.environ["RANK"])
    harm, *given = (harms or {}).get(rank, (ExitStack,))
    command(arguments, said / str(rank), harm, tuple(given))


def failing_at(number: int, error: Exception) -> ExitStack:
    """In it, the ``number``-th meta-gradient that is asked for fails."""
    from harness.engines.native import Native

    original, asked = Native.meta_gradient, iter(range(1, 1000))

    def failing(self: Native, *args: Any, **kwargs: Any) -> Any:
        if next(asked) == number:
            raise error
        return original(self, *args, **kwargs)

    stack = ExitStack()
    stack.enter_context(patch.object(Native, "meta_gradient", failing))
    return stack


def signalled_in_evaluation(split: str, signum: int) -> ExitStack:
    """In it, a run sends itself a signal in the middle of its share of an evaluation on ``split``."""
    from harness.experiment import evaluate

    original = evaluate.draw

    def draw(benchmark: Any, config: RunConfig, name: str, *args: Any) -> TaskBatch:
        if name == split:
            os.kill(os.getpid(), signum)
        return original(benchmark, config, name, *args)

    stack = ExitStack()
    stack.enter_context(patch.object(evaluate, "draw", draw))
    return stack


def impatient(seconds: float) -> ExitStack:
    """In it, this rank waits no longer than two seconds for others, and sleeps in its third meta-iteration."""
    from harness.experiment import ranks
    from harness.experiment.train import Trainer

    original = Trainer._iterate

    def iterate(self: Trainer, number: int) -> None:
        original(self, number)
        if number == 3:
            time.sleep(seconds)

    stack = ExitStack()
    stack.enter_context(patch.object(ranks, "PATIENCE", timedelta(seconds=2)))
    stack.enter_context(patch.object(Trainer, "_iterate", iterate))
    return stack


def initialised(config: dict[str, Any], results: Path) -> None:
    """Do the run in a program that has a process group of its own."""
    torch.distributed.init_process_group("gloo")
    runs([config], results)
    torch.distributed.destroy_process_group()


class Own(MAML):
    """A rule of a person's own; what it gives for two tasks is the mean of what it gives for one."""

    name = "own"

    def meta_gradient(self, oracle: Any, inner_steps: int, inner_lr: float) -> Any:
        return super().meta_gradient(oracle, inner_steps, inner_lr)


class Normalised(Own):
    """That mean is none for gradients of length one."""

    name = "normalised"

    def meta_gradient(self, oracle: Any, inner_steps: int, inner_lr: float) -> Any:
        gradient = super().meta_gradient(oracle, inner_steps, inner_lr)
        return MetaGradient(gradient.w / gradient.w.norm(), gradient.phi)


class Stirred(Sinusoid):
    """A task is another one where others are drawn before it."""

    name = "stirred"

    def draw(self, split: str, first: int, tasks: int, *args: Any) -> TaskBatch:
        batch = super().draw(split, first, tasks, *args)
        return dataclasses.replace(batch, support_x=batch.support_x + torch.arange(tasks)[:, None, None])


def refused(config: dict[str, Any], results: Path) -> None:
    """Ask for a run that several ranks do, and for some that they do not."""
    assert harness.run(RunConfig(**config), results=results, algorithm=Own)["status"] == "completed"
    with pytest.raises(
        InputError, match="2 ranks: the meta-gradient of algorithm 'normalised' on two tasks is not the"
    ):
        harness.run(RunConfig(**config), results=results, algorithm=Normalised)
    with pytest.raises(InputError, match="2 ranks: task 1 of 'stirred' is another one when it is drawn alone"):
        harness.run(RunConfig(**config), results=results, benchmark=Stirred())
    seed = int(os.environ["RANK"])
    with pytest.raises(InputError, match="rank 1 has other settings, code or data than rank 0"):
        harness.run(RunConfig(**config, seed=seed), results=results)
