"""Peak memory of one meta-gradient: of tensors on CUDA, a fresh process's resident memory on the CPU."""

from __future__ import annotations

import dataclasses
import multiprocessing
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

from harness.engines.agreement import Seen
from harness.errors import HarnessError, NotSupported
from harness.measure.memory import (
    PeakMemory,
    free_memory,
    freed_memory_kept,
    is_out_of_memory,
    return_freed_memory,
)
from harness.problem.benchmark import Benchmark
from harness.problem.nets import ModelFactory
from harness.settings.config import RunConfig
from harness.settings.resolve import Resolved, resolve
from harness.strangers.blame import reason
from harness.timing.cells import Cell, Name, about, fixed_tasks, make_cell


def peak_of_cell(cell: Cell, device: torch.device) -> int:
    """Bytes that a meta-gradient needs above parameters and tasks, whatever else the process holds.

    Raises :class:`NotSupported` on the CPU for a model or tasks that no other process can be given.
    """
    if device.type == "cuda":
        return _above_what_is_there(cell, device)
    # A forkserver starts every child from one clean process that has torch imported and nothing else done.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", __name__])
    receiving, sending = context.Pipe(duplex=False)
    name, resolved = dataclasses.replace(cell.name, strategy=cell.engine.strategy), cell.resolved
    asked = Asked(
        name,
        resolved.config.model_copy(update={"strategy": cell.engine.strategy}),
        resolved.factory,
        resolved.benchmark if "benchmark" in resolved.objects else None,
        resolved.loss.function if "loss" in resolved.objects else None,
        cell.chunks.size,
        torch.get_num_threads(),
        cell.seen,
    )
    process = context.Process(target=_child, args=(sending, asked))
    try:
        with _unseen_main():
            process.start()
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        for end in (receiving, sending):
            end.close()
        raise NotSupported(f"{reason(error)}; allowed: what an importable module has") from None
    sending.close()
    try:
        peak = receiving.recv()
        if peak is None:
            raise MemoryError
        return int(peak)
    except EOFError:
        raise HarnessError(f"the process that measures the memory of {name} ended with {process.exitcode}") from None
    finally:
        process.join()


def _above_what_is_there(cell: Cell, device: torch.device) -> int:
    """On CUDA, where the cell has been timed: other cells' tensors count as little as those of its earlier calls."""
    cell.engine.problem.network.module.zero_grad()  # a peer leaves its gradients there
    free_memory()  # what is garbage now would be freed meanwhile
    before = torch.cuda.memory_allocated(device)
    memory = PeakMemory(device)
    cell.meta_gradient()
    return memory.read() - before


@dataclass(frozen=True)
class Asked:
    """What the process that measures is given; names where there are names, since objects may be large."""

    name: Name
    config: RunConfig
    factory: ModelFactory | None
    benchmark: Benchmark | None
    loss: Callable[..., Any] | None
    task_chunk: int
    threads: int
    seen: Seen

    def resolved(self, **changes: Any) -> Resolved:
        """The cell as a run has it."""
        config = self.config.model_copy(update=changes)
        return resolve(config, model=self.factory, benchmark=self.benchmark, loss=self.loss, check=False)


@contextmanager
def _unseen_main() -> Iterator[None]:
    """Inside, a process that is started knows nothing of the script that is running, which it would run again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _child(sending: multiprocessing.connection.Connection, asked: Asked) -> None:
    try:
        sending.send(_peak(asked))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        sending.send(None)
    finally:
        sending.close()


@freed_memory_kept()  # as where it was timed
def _peak(asked: Asked) -> int:
    torch.set_num_threads(asked.threads)
    device, name, seen = torch.device("cpu"), asked.name, {about(asked.name): asked.seen}
    # Libraries allocate their own workspaces once; a small problem of the same kind makes them do it now.
    tiny = dataclasses.replace(name, inner_steps=min(1, name.inner_steps))
    small = asked.resolved(meta_batch=1, inner_steps=tiny.inner_steps)
    make_cell(tiny, small, fixed_tasks(small, device)[0], device, asked.task_chunk, seen).meta_gradient()
    whole = asked.resolved()
    cell = make_cell(name, whole, fixed_tasks(whole, device)[0], device, asked.task_chunk, seen)
    return_freed_memory()  # what the warm-up freed would be used again, and nobody would see it
    memory = PeakMemory(device)
    cell.meta_gradient()
    return memory.read()
