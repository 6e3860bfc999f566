"""The zoo's part of the speed table: the native engine against every peer, model by model."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.suites.zoo import ZOO, Entry, Random
from harness.engines.chunks import TaskChunks
from harness.engines.engine import Engine
from harness.errors import InputError
from harness.experiment.setup import Setup, set_up
from harness.measure.clocks import seconds_of
from harness.measure.memory import freed_memory_kept
from harness.problem.tasks import TaskBatch, draw
from harness.settings import registry
from harness.settings.config import RunConfig
from harness.settings.resolve import resolve

CASES = ("maml", "fomaml", "anil convex", "anil nonconvex")
TASKS = (4, 16)


def measured(
    device: str, rounds: int, peers: Sequence[str], models: Sequence[str], say: Callable[[str], None]
) -> dict[str, Any]:
    """Seconds of a meta-gradient, wall clock and CPU, of every engine in turn, at N = 5, 5-way 5-shot with 5 queries.

    Peers have the partition and the cut that native has, so that ANIL's features are made once a task by all; attention
    has the kernel that can be differentiated twice.
    """
    rows: list[dict[str, Any]] = []
    with sdpa_kernel(SDPBackend.MATH), freed_memory_kept():
        for name in models or ZOO:
            for case in CASES:
                if ZOO[name].alone and not case.startswith("anil"):
                    continue
                for tasks in TASKS:
                    say(f"{name}, {case}, B = {tasks}")
                    rows.append(_row(name, case, tasks, device, rounds, peers))
            say(f"{name}, ANIL at N = 1 and 20")
            rows.append(_in_n(name, device, rounds))
    return {"rows": rows}


def _set_up(entry: Entry, case: str, tasks: int, steps: int, device: str) -> tuple[Setup, TaskBatch]:
    algo, _, geometry = case.partition(" ")
    given: dict[str, Any] = {"algo": algo, "meta_batch": tasks, "inner_steps": steps, "inner_lr": 0.05}
    if geometry:
        given |= {"geometry": geometry, "adapt": entry.head if geometry == "convex" else entry.deep}
    benchmark = Random(entry.shape)

    def factory(input_shape: tuple[int, ...], outputs: int) -> torch.nn.Module:
        return entry.make(input_shape, outputs, 1)

    setup = set_up(resolve(RunConfig(device=device, **given, **entry.settings), model=factory, benchmark=benchmark))
    return setup, draw(benchmark, setup.config, "train", 0, tasks, setup.device, setup.w.dtype)


def _row(name: str, case: str, tasks: int, device: str, rounds: int, peers: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"model": name, "case": case, "tasks": tasks}
    try:
        setup, batch = _set_up(ZOO[name], case, tasks, 5, device)
    except InputError as error:
        return row | {"refused": str(error)}
    engines: dict[str, Engine] = {"native": setup.engine}
    row |= {"strategy": setup.engine.strategy, "layers": setup.route.words["layers"], "seconds": {}, "refused_by": {}}
    for peer in peers:
        try:
            engines[peer] = registry.engines().get(peer)(setup.problem)
            engines[peer].meta_gradient(setup.w, setup.phi, batch)
        except Exception as error:  # another library's own fault is no reason to know nothing of the others
            engines.pop(peer, None)
            row["refused_by"][peer] = str(error).partition("\n")[0]
    return row | {"seconds": _in_turn({who: (engine, setup, batch) for who, engine in engines.items()}, rounds)}


def _in_n(name: str, device: str, rounds: int) -> dict[str, Any]:
    cells = {}
    for steps in (1, 20):
        setup, batch = _set_up(ZOO[name], "anil convex", TASKS[0], steps, device)
        cells[f"N = {steps}"] = (setup.engine, setup, batch)
    return {"model": name, "case": "N = 20 over N = 1", "tasks": TASKS[0], "seconds": _in_turn(cells, rounds)}


def _in_turn(cells: Mapping[str, tuple[Engine, Setup, TaskBatch]], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Samples of each, the first round left out."""
    seconds: dict[str, dict[str, list[float]]] = {who: {"wall": [], "cpu": []} for who in cells}
    for number in range(rounds + 1):
        for who, (engine, setup, batch) in cells.items():
            begin = time.process_time()
            chunks = TaskChunks(None, batch.tasks, engine.tasks_at_once(batch.tasks, setup.device))
            at = engine, setup.w, setup.phi, batch
            wall = seconds_of(lambda: chunks.meta_gradient(*at), setup.device)  # noqa: B023
            if number:
                seconds[who]["wall"].append(wall)
                seconds[who]["cpu"].append(time.process_time() - begin)
    return seconds


def target(name: str, case: str, tasks: int) -> float:
    """How many times as fast as the fastest peer native is to be."""
    if case == "maml" and name.startswith("ResNet-12"):
        return 1.3
    if tasks >= TASKS[-1] and case == "anil convex" and ZOO[name].kind:
        return 1.5
    if tasks >= TASKS[-1] and (name.startswith("MLP") or name == "text transformer"):
        return 2.0
    return 1.0


def lines(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A line for each row: how many times as fast as the fastest peer, by the wall clock and in CPU seconds."""
    return [(f"{row['model']}, {row['case']}, B = {row['tasks']}", _value(row)) for row in result["rows"]]


def _value(row: Mapping[str, Any]) -> str:
    if "refused" in row:
        return f"refused: {row['refused']}"
    medians = {
        who: {kind: statistics.median(taken) for kind, taken in of.items()} for who, of in row["seconds"].items()
    }
    if "N = 20" in medians:
        ratio = medians["N = 20"]["wall"] / medians["N = 1"]["wall"]
        return f"{ratio:.2f}{'' if ratio <= 1.15 else ', more than 1.15'}"
    native = medians.pop("native")
    how = f"{row['strategy']}, {native['wall'] * 1e3:.0f} ms"
    if not medians:
        return f"no peer computes it ({how})"
    fastest = min(medians, key=lambda who: medians[who]["wall"])
    wall = medians[fastest]["wall"] / native["wall"]
    cpu = min(of["cpu"] for of in medians.values()) / native["cpu"]
    wanted = target(row["model"], row["case"], row["tasks"])
    short = "" if wall >= wanted else f", less than {wanted}"
    return f"{wall:.2f}x, CPU {cpu:.2f}x ({how}; {fastest} {medians[fastest]['wall'] * 1e3:.0f} ms){short}"
