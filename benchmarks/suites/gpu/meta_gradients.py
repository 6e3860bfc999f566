"""Meta-gradients on the device: are they right, what do they take beside learn2learn's, do they fit a CUDA graph."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.suites.gpu.problems import cases, cell_on, configuration, gradient_of, label, relative
from harness.timing.cells import Cell, Name, names
from harness.timing.memory import peak_of_cell

if TYPE_CHECKING:
    from benchmarks.suites.gpu.bench import Bench, Part
    from harness.timing.config import TimeConfig

#: relative difference of two float64 meta-gradients that may come from rounding
TOLERANCE = 1e-9
#: kernels of the longest device time that are named
TOP = 25
PEER = "learn2learn"
_CPU = torch.device("cpu")


def correct(part: Part) -> None:
    """Fill the part ``correct``; its ``ok`` says whether every float64 row is within the tolerance."""
    bench, sizes = part.bench, {"meta_batch": 4, "model_options": {"filters": 16}}
    strategies = ("linearised", "recursion", "checkpointed")
    exact = configuration(bench, inner_steps=(3,), strategy=strategies, dtype="float64", **sizes)
    for name, norm in part.while_time(cases(exact), seconds=10):
        with part.row(case=label(name), strategy=name.strategy, statistics=norm, mode="float64") as row:
            here, there = (gradient_of(cell_on(place, name, exact, norm)) for place in (_CPU, bench.device))
            row["gradient"], row["loss"] = (relative(b, a) for a, b in zip(here, there, strict=True))
            row["ok"] = max(row["gradient"], row["loss"]) <= TOLERANCE
    part.document["ok"] = bool(part.rows) and all(row.get("ok", False) for row in part.rows)
    if not part.document["ok"]:
        bench.say("correct: NOT within the tolerance everywhere; no timing is worth anything")
    exact = configuration(bench, dtype="float64", **sizes)
    rounded = configuration(bench, **sizes)
    for name in part.while_time(names(rounded), seconds=10):
        for mode in bench.modes:
            with part.row(case=label(name), mode=mode, against="float64") as row:
                found, expected = (gradient_of(cell_on(bench.device, name, kind)) for kind in (rounded, exact))
                row["gradient"], row["loss"] = (relative(a, b) for a, b in zip(found, expected, strict=True))


def engines(part: Part) -> None:
    """Fill the part ``engines``: wall and host milliseconds of a meta-gradient, engines interleaved in rounds."""
    bench = part.bench
    config = configuration(bench)
    for name in part.while_time(names(config), seconds=30):
        for mode in bench.modes:
            with part.row(case=label(name), mode=mode) as row:
                cells = {"native": _warm(bench, name, config)}
                try:
                    cells[PEER] = _warm(bench, replace(name, engine=PEER), config)
                except Exception as error:  # it is not installed, needs more memory than there is, or fails
                    row[PEER] = f"left out: {type(error).__name__}: {str(error)[:200]}"
                row["wall_ms"], row["host_ms"] = _interleaved(bench, cells)
                medians = {engine: statistics.median(taken) for engine, taken in row["wall_ms"].items()}
                row["ratio"] = medians[PEER] / medians["native"] if PEER in medians else None
                if bench.device.type == "cuda":  # on a CPU it takes a process of its own
                    row["peak_bytes"] = {engine: peak_of_cell(cells[engine], bench.device) for engine in cells}
                row |= _kernels(bench, cells["native"])


def _warm(bench: Bench, name: Name, config: TimeConfig) -> Cell:
    """The cell called ``name``, evaluated twice."""
    cell = cell_on(bench.device, name, config)
    for _ in range(1 if bench.dry else 2):
        cell.meta_gradient()
    bench.synchronize()
    return cell


def _interleaved(bench: Bench, cells: dict[str, Cell]) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Milliseconds of each engine's meta-gradient, a sample a round: until it is done, and until it is launched."""
    wall: dict[str, list[float]] = {engine: [] for engine in cells}
    host: dict[str, list[float]] = {engine: [] for engine in cells}
    for _ in range(1 if bench.dry else 5):
        for engine, cell in cells.items():
            times = 10 if engine == "native" and not bench.dry else 1
            bench.synchronize()
            begin = time.perf_counter()
            for _ in range(times):
                cell.meta_gradient()
            launched = time.perf_counter() - begin
            bench.synchronize()
            wall[engine].append((time.perf_counter() - begin) / times * 1e3)
            host[engine].append(launched / times * 1e3)
    return wall, host


def _kernels(bench: Bench, cell: Cell) -> dict[str, Any]:
    """How many kernels a meta-gradient is, how long they keep the device busy, and the longest; by the profiler."""
    on_cuda = bench.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_cuda else ProfilerActivity.CPU]) as seen:
        cell.meta_gradient()
        bench.synchronize()
    time_of = "self_device_time_total" if on_cuda else "self_cpu_time_total"
    kernels = [(event.key[:90], event.count, getattr(event, time_of) / 1e3) for event in seen.key_averages()]
    kernels.sort(key=lambda kernel: -kernel[2])
    return {
        "kernels": sum(count for _, count, _ in kernels),
        "busy_ms": sum(busy for _, _, busy in kernels),
        "top": kernels[:TOP],
    }


def graph(part: Part) -> None:
    """Fill the part ``graph``: is a replayed meta-gradient that of parameters changed meanwhile, what does it win."""
    bench = part.bench
    config = configuration(bench)
    for name in part.while_time(names(config), seconds=30):
        for mode in bench.modes:
            with part.row(case=label(name), mode=mode, captured=bench.device.type == "cuda") as row:
                cell = cell_on(bench.device, name, config)
                begin = time.perf_counter()
                replay = _captured(cell, bench.device)
                row["capture_ms"] = (time.perf_counter() - begin) * 1e3
                cell.w.mul_(1.01)
                row["difference"] = relative(replay(), gradient_of(cell)[0])
                row["replay_ms"] = bench.milliseconds(replay)
                row["eager_ms"] = bench.milliseconds(lambda cell=cell: gradient_of(cell))


def _captured(cell: Cell, device: torch.device) -> Callable[[], Tensor]:
    """The meta-gradient of ``cell`` as one CUDA graph; on a CPU, which has none, the call itself."""
    if device.type != "cuda":
        return lambda: gradient_of(cell)[0]
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # what libraries allocate once must be there before
        for _ in range(3):
            gradient_of(cell)
    torch.cuda.current_stream().wait_stream(aside)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        kept, _ = gradient_of(cell)

    def replay() -> Tensor:
        captured.replay()
        return kept

    return replay
