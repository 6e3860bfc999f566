"""One timing run: interleaved rounds over all cells, then the passes for FLOPs and memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from harness.engines.agreement import Seen
from harness.errors import AlgorithmFailed, InputError, NotSupported
from harness.experiment.setup import pick_device
from harness.measure.ceiling import Ceiling
from harness.measure.clocks import device_seconds_of, make_clock, seconds_of
from harness.measure.environment import environment
from harness.measure.flops import flops_of
from harness.measure.memory import free_memory, freed_memory_kept, is_out_of_memory
from harness.measure.nvml import read_gpu
from harness.measure.precision import check_tf32, settled
from harness.problem.benchmark import Benchmark
from harness.problem.models import give_back
from harness.problem.nets import ModelFactory
from harness.problem.tasks import TaskBatch
from harness.settings import registry
from harness.settings.config import TaskChunk, WorkConfig
from harness.settings.resolve import Resolved, check_algo_options
from harness.timing import KINDS, PROTOCOL
from harness.timing.cells import Cell, Name, fixed_tasks, make_cell, names, resolved_of
from harness.timing.config import TimeConfig
from harness.timing.kinds import evaluations
from harness.timing.memory import peak_of_cell
from harness.timing.rows import add_ratios, label, summary, warnings_of

#: how long the calls in a row of one sample take together, in seconds, and how many they are at most: on CUDA enough
#: that one synchronisation and the first launch do not count; on the CPU enough meta-gradients that what the cell
#: before left in caches and allocator does not
_BLOCK = {"cuda": (0.2, 50), "cpu": (2.0, 5)}
_KIND = {"cuda": (0.05, 50), "cpu": (0.0, 1)}


def time_meta_gradients(
    config: TimeConfig,
    progress: Callable[[str], None] | None = None,
    *,
    model: ModelFactory | None = None,
    benchmark: Benchmark | None = None,
    loss: Callable[..., Any] | None = None,
    origins: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Time every algorithm x N x engine of ``config`` in interleaved rounds.

    A cell's figure is the wall time of a meta-gradient, in a block of them as long as a warm one asks for, median
    over rounds; in each round every cell runs once, so that drift of the machine hits all alike. The native
    engine's kinds of evaluation are timed one by one in the same rounds, on CUDA by the device's events around
    several in a row. FLOPs and peak memory come from passes of their own.

    Returns ``{"environment", "protocol", "clocks", "ceiling", "rows", "warnings", ...}``; seconds and bytes
    throughout; ``clocks`` says which clock the meta-gradient and each kind was timed by. A row has ``algorithm``,
    ``geometry``, ``engine``, ``strategy``, ``inner_steps``, ``status`` ("ok", "not_supported: why" or
    "out_of_memory") and, where it is ok, ``meta_gradient`` {median, iqr, samples}, the kinds that its rule
    evaluates likewise with ``entries_per_second``, ``first_seconds`` (the cold first call, in no sample),
    ``peak_memory_bytes`` (of a meta-gradient, above its parameters and tasks), ``flops``, ``share_of_ceiling``
    (None where no convolution fitted), ``task_chunk`` (tasks evaluated at once) and ``ratio_to`` (this engine's
    time over each other engine's).
    ``model``, ``benchmark`` and ``loss`` are objects in place of those that ``config`` names, as :func:`harness.run`
    takes them; ``origins`` says where keys of ``config`` were given. A partition that a model does not have is
    "not_supported" in its row. Raises InputError for names that are not there, and where no cell is left.
    """
    cell_names = names(config)
    check_algo_options([registry.algorithms().get(name.algorithm) for name in cell_names], config, origins)
    cells = [(name, resolved_of(name, config, model, benchmark, loss, origins)) for name in cell_names]
    _, first = cells[0]
    device = pick_device(config.device)
    check_tf32(config.tf32, device, "tf32")
    with settled(config.tf32), freed_memory_kept(), first.blamed():
        return _session(config, cells, device, progress)


def _session(
    config: TimeConfig,
    asked: list[tuple[Name, Resolved]],
    device: torch.device,
    progress: Callable[[str], None] | None,
) -> dict[str, Any]:
    say = progress or (lambda _: None)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    batch, tasks = fixed_tasks(asked[0][1], device)
    before = _gpu_state(device)
    rows: list[dict[str, Any]] = []
    cells: list[tuple[dict[str, Any], Cell]] = []
    seen: dict[Name, Seen] = {}
    refused: list[InputError] = []
    for name, resolved in asked:
        row = {**vars(name), "meta_gradient": None, **dict.fromkeys(KINDS), "peak_memory_bytes": None}
        row |= {"flops": None, "share_of_ceiling": None, "ratio_to": {}, "first_seconds": None, "task_chunk": None}
        row["status"] = "ok"
        rows.append(row)
        say(f"first step: {label(name)}")
        with _attempting(row, refused):
            cells.append((row, _first(name, resolved, batch, device, row, seen, config.task_chunk)))
    if refused and not cells:
        raise refused[0]
    left_out: list[str] = []
    best, reached = _rounds(config, cells, device, batch.groups[0].support_x.dtype, say)
    for row, cell in cells:
        if row["status"] == "ok":
            say(f"FLOPs and memory: {label(cell.name)}")
            with _attempting(row):
                left_out += _separate_passes(row, cell, config, device, best)
        row["task_chunk"] = cell.chunks.size
        give_back(cell.engine.problem.network.module)
    add_ratios(rows)
    return {
        "protocol": PROTOCOL,
        "clocks": {"meta_gradient": "wall", **dict.fromkeys(KINDS, make_clock(device).name)},
        "environment": environment(device),
        "gpu_before_and_after": [before, _gpu_state(device)],
        "config": config.model_dump(mode="json") | _filled(asked[0][1]),
        "device": str(device),
        "tasks": tasks,
        "ceiling": reached,
        "rows": rows,
        "warnings": [*warnings_of(rows), *left_out],
    }


def _filled(resolved: Resolved) -> dict[str, Any]:
    """The settings that all cells share, the benchmark's defaults filled in."""
    shared = set(WorkConfig.model_fields) - {"adapt", "algo_options"}
    return resolved.config.model_dump(mode="json", include=shared)


def _gpu_state(device: torch.device) -> dict[str, Any] | None:
    """Clocks, temperature and throttling; None on a CPU and without NVML."""
    return read_gpu(str(torch.cuda.get_device_properties(device).uuid)) if device.type == "cuda" else None


@contextmanager
def _attempting(row: dict[str, Any], refused: list[InputError] | None = None) -> Iterator[None]:
    """What cannot be done marks its row, and the others go on; ``refused`` collects what nobody could do."""
    try:
        yield
    except (InputError, AlgorithmFailed) as error:
        row["status"] = f"not_supported: {error}"
        if refused is not None and isinstance(error, InputError) and not isinstance(error, NotSupported):
            refused.append(error)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        row["status"] = "out_of_memory"
    if row["status"] == "out_of_memory":  # out here, where the error no longer holds what it was raised among
        free_memory()


def _first(
    name: Name,
    resolved: Resolved,
    batch: TaskBatch,
    device: torch.device,
    row: dict[str, Any],
    seen: dict[Name, Seen],
    task_chunk: TaskChunk | None,
) -> Cell:
    cell = make_cell(name, resolved, batch, device, task_chunk, seen)
    row["strategy"] = cell.engine.strategy
    row["first_seconds"] = seconds_of(cell.meta_gradient, device)
    return cell


def _rounds(
    config: TimeConfig,
    cells: list[tuple[dict[str, Any], Cell]],
    device: torch.device,
    dtype: torch.dtype,
    say: Callable[[str], None],
) -> tuple[float | None, dict[str, Any]]:
    """Fill the rows with what was timed; returns the convolution ceiling and the report on all ceilings."""
    ceiling = Ceiling(device, dtype)
    blocks: dict[int, int] = {}
    for row, cell in cells:
        say(f"warm step: {label(cell.name)}")
        with _attempting(row):
            blocks[id(cell)] = _in_a_row(cell.meta_gradient, device, _BLOCK)
    samples: dict[tuple[int, str], list[float]] = {}
    entries: dict[tuple[int, str], int] = {}
    for number in range(config.rounds):
        ceiling.sample()
        for row, cell in cells:
            say(f"round {number + 1} of {config.rounds}: {label(cell.name)}")
            if row["status"] == "ok":
                with _attempting(row):
                    _sample(cell, blocks[id(cell)], device, samples, entries)
    for row, cell in cells:
        for kind in ("meta_gradient", *KINDS):
            if (taken := samples.get((id(cell), kind))) and row["status"] == "ok":
                row[kind] = summary(taken)
                if kind in KINDS:
                    row[kind]["entries_per_second"] = entries[id(cell), kind] / row[kind]["median"]
    return ceiling.flops_per_second, ceiling.report()


def _sample(cell: Cell, block: int, device: torch.device, samples: Any, entries: Any) -> None:
    samples.setdefault((id(cell), "meta_gradient"), []).append(seconds_of(cell.meta_gradient, device, block) / block)
    taken: defaultdict[str, float] = defaultdict(float)
    of_all: defaultdict[str, int] = defaultdict(int)
    for batch in cell.chunked():
        for kind, call, size in evaluations(cell, batch):
            call()
            times = _in_a_row(call, device, _KIND)
            taken[kind] += device_seconds_of(call, device, times) / times
            of_all[kind] += size
    for kind in taken:
        samples.setdefault((id(cell), kind), []).append(taken[kind])
        entries[id(cell), kind] = of_all[kind]


def _in_a_row(call: Callable[[], object], device: torch.device, length: dict[str, tuple[float, int]]) -> int:
    """How many calls of ``call``, which has been called before and is warm, make a sample of ``length``."""
    seconds, most = length[device.type]
    return max(1, min(most, round(seconds / seconds_of(call, device)))) if most > 1 else 1


def _separate_passes(
    row: dict[str, Any], cell: Cell, config: TimeConfig, device: torch.device, ceiling: float | None
) -> list[str]:
    """Fill in FLOPs and memory; returns what was left out, and why."""
    row["flops"] = flops_of(cell.meta_gradient)
    if ceiling is not None:
        row["share_of_ceiling"] = row["flops"] / row["meta_gradient"]["median"] / ceiling
    if config.memory:
        try:
            row["peak_memory_bytes"] = peak_of_cell(cell, device)
        except NotSupported as error:
            return [f"{label(cell.name)}: its memory is not measured: {error}"]
    return []
