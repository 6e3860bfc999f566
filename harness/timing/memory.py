"""Peak memory of one meta-gradient: of tensors on CUDA, a fresh process's resident memory on the CPU."""

from __future__ import annotations

import dataclasses
import multiprocessing

import torch

from harness import registry
from harness.errors import HarnessError
from harness.measure.memory import (
    PeakMemory,
    free_memory,
    freed_memory_kept,
    is_out_of_memory,
    return_freed_memory,
)
from harness.timing.cells import Cell, Name, fixed_tasks, make_cell
from harness.timing.config import TimeConfig


def peak_of_cell(cell: Cell, config: TimeConfig, device: torch.device) -> int:
    """Bytes that a meta-gradient needs above parameters and tasks, whatever else the process holds."""
    if device.type == "cuda":
        return _above_what_is_there(cell, device)
    # A forkserver starts every child from one clean process that has torch imported and nothing else done.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", __name__])
    receiving, sending = context.Pipe(duplex=False)
    name = dataclasses.replace(cell.name, strategy=cell.engine.strategy)
    config = config.model_copy(update={"task_chunk": cell.chunks.size})
    process = context.Process(target=_child, args=(sending, name, config, torch.get_num_threads(), cell.seen))
    process.start()
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


def _child(
    sending: multiprocessing.connection.Connection, name: Name, config: TimeConfig, threads: int, seen: tuple[str, str]
) -> None:
    try:
        sending.send(_peak(name, config, threads, seen))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        sending.send(None)
    finally:
        sending.close()


@freed_memory_kept()  # as where it was timed
def _peak(name: Name, config: TimeConfig, threads: int, seen: tuple[str, str]) -> int:
    torch.set_num_threads(threads)
    device = torch.device("cpu")
    benchmark = registry.benchmarks().get(config.benchmark)()
    # Libraries allocate their own workspaces once; a small problem of the same kind makes them do it now.
    small = config.model_copy(update={"meta_batch": 1})
    tiny = dataclasses.replace(name, inner_steps=min(1, name.inner_steps))
    make_cell(tiny, small, benchmark, fixed_tasks(small, benchmark, device)[0], device, seen).meta_gradient()
    cell = make_cell(name, config, benchmark, fixed_tasks(config, benchmark, device)[0], device, seen)
    return_freed_memory()  # what the warm-up freed would be used again, and nobody would see it
    memory = PeakMemory(device)
    cell.meta_gradient()
    return memory.read()
