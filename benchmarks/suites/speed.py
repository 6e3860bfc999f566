"""The speed table: native engine against the peers, scaling in N, memory, drawing tasks, overhead of a run.

    python -m benchmarks.suites.speed --out results/reference/speed-cpu.json

FC100 shapes, 5-way 5-shot, 5 queries, 64 filters, float32; B = 8 on a CPU, 32 on a GPU. Peers that are not
installed, and data that are not there, are said to be missing. Every ratio is taken within this one run, and the
file written anew after each part: one that is cut off leaves those before it. Part "zoo", models of all kinds one by
one (benchmarks/suites/zoo.py), takes an hour, and is measured where it is asked for.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.suites import zoo_speed
from benchmarks.suites.zoo import ZOO
from harness.experiment.run import run
from harness.experiment.setup import pick_device, set_up
from harness.measure.memory import freed_memory_kept
from harness.problem.benchmark import TaskShape
from harness.settings import registry
from harness.settings.config import RunConfig
from harness.settings.resolve import resolve
from harness.store.directory import write_json
from harness.timing.config import TimeConfig
from harness.timing.session import time_meta_gradients

PEERS = ("learn2learn", "higher", "torchopt", "jax")
ITERATIONS = 200


def installed() -> list[str]:
    """The peers that can be imported here."""
    return [name for name in PEERS if name in {p["name"] for p in _engines() if p["installed"]}]


def _engines() -> list[dict[str, Any]]:
    from harness.settings.listing import listing

    return listing()["engines"]


def against_peers(device: str, tasks: int, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Seconds of every algorithm at N = 5."""
    engines = ("native", *installed())
    config = TimeConfig(inner_steps=(5,), engine=engines, device=device, meta_batch=tasks, rounds=rounds, memory=False)
    return time_meta_gradients(config, say)


def scaling(device: str, tasks: int, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Seconds of native ANIL convex at N = 1 and 20, which are so near that it takes four times the rounds."""
    config = TimeConfig(
        algo=("anil:convex",), inner_steps=(1, 20), device=device, meta_batch=tasks, rounds=4 * rounds, memory=False
    )
    return time_meta_gradients(config, say)


def memory(device: str, tasks: int, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Peak memory of a MAML meta-gradient at N = 1 and 20: the strategy of least memory, and learn2learn."""
    engines = ("native", *(name for name in installed() if name == "learn2learn"))
    config = TimeConfig(
        algo=("maml",), inner_steps=(1, 20), engine=engines, strategy=("checkpointed",), device=device,
        meta_batch=tasks, rounds=1,
    )  # fmt: skip
    return time_meta_gradients(config, say)


def drawing(device: str, tasks: int, rounds: int, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Tasks a second that FC100 gives, and learn2learn's Taskset on the same images; None without the data."""
    benchmark = registry.benchmarks().get("fc100")()
    if benchmark.missing() is not None:
        return None
    place, count = pick_device(device), 64
    samples: dict[str, list[float]] = {"native": [], "learn2learn": []}
    taskset = _taskset(benchmark) if "learn2learn" in installed() else None
    for number in range(rounds + 1):
        begin = time.perf_counter()
        for first in range(0, count, tasks):
            benchmark.draw("train", first + number * count, tasks, TaskShape(0, 5, 5, 5), place, torch.float32)
        if place.type == "cuda":
            torch.cuda.synchronize()
        samples["native"].append(count / (time.perf_counter() - begin))
        if taskset is not None:
            begin = time.perf_counter()
            for _ in range(count):
                taskset.sample()
            samples["learn2learn"].append(count / (time.perf_counter() - begin))
    return {name: {"tasks_per_second": taken[1:]} for name, taken in samples.items() if taken}


def _taskset(benchmark: Any) -> Any:
    import learn2learn as l2l

    data = benchmark.load_split("train")
    images = torch.from_numpy(data.images)
    labels = torch.arange(len(data.counts)).repeat_interleave(torch.tensor(data.counts))

    class Images(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return images[index].float().div(255), int(labels[index])

    dataset = l2l.data.MetaDataset(Images())
    transforms = [
        l2l.data.transforms.NWays(dataset, 5),
        l2l.data.transforms.KShots(dataset, 10),
        l2l.data.transforms.LoadData(dataset),
        l2l.data.transforms.RemapLabels(dataset),
        l2l.data.transforms.ConsecutiveLabels(dataset),
    ]
    return l2l.data.TaskDataset(dataset, transforms)


def overhead(device: str, tasks: int, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Seconds of 200 meta-iterations by ``run``, evaluation excluded, over the bare loop on one fixed batch.

    The bare loop is run half before and half after, so that what drifts hits both.
    """
    config = RunConfig(benchmark="glyphs", meta_batch=tasks, iterations=ITERATIONS, device=device, eval_tasks=tasks)

    @freed_memory_kept()  # as inside a run
    def bare() -> float:
        setup = set_up(resolve(config))
        shape = TaskShape(0, ways=5, shots=5, queries=5)
        batch = resolve(config).benchmark.draw("train", 0, tasks, shape, setup.device, torch.float32)
        optimizer = torch.optim.Adam([setup.w, setup.phi], lr=1e-3, foreach=False)
        begin = time.perf_counter()
        for _ in range(ITERATIONS // 2):
            gradient, _ = setup.engine.meta_gradient(setup.w, setup.phi, batch)
            setup.w.grad, setup.phi.grad = gradient.w, gradient.phi
            optimizer.step()
        if setup.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    seconds: dict[str, list[float]] = {"train": [], "bare": []}
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}: bare loop, first half")
        first_half = bare()
        say(f"round {number + 1} of {rounds}: run")
        with tempfile.TemporaryDirectory() as folder:
            seconds["train"].append(run(config, results=Path(folder))["seconds"]["train"])
        say(f"round {number + 1} of {rounds}: bare loop, second half")
        seconds["bare"].append(first_half + bare())
    ratios = [train / bare for train, bare in zip(seconds["train"], seconds["bare"], strict=True)]
    return {**seconds, "ratios": ratios}


def zoo(device: str, tasks: int, rounds: int, say: Callable[[str], None], models: Sequence[str] = ()) -> dict[str, Any]:
    """Seconds of every model of the zoo, or of ``models``, on its own numbers of tasks."""
    return zoo_speed.measured(device, rounds, installed(), models, say)


Measure = Callable[[str, int, int, Callable[[str], None]], dict[str, Any] | None]
PARTS: dict[str, Measure] = {
    "peers": against_peers, "scaling": scaling, "memory": memory, "drawing": drawing, "overhead": overhead,
    "zoo": zoo,
}  # fmt: skip

USUAL = [part for part in PARTS if part != "zoo"]


def table(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The lines of the table, each with what was measured or "not measured"."""
    lines = []
    for part, of_part in zip(PARTS, (_of_peers, _of_scaling, _of_memory, _of_drawing, _of_run, _of_zoo), strict=True):
        if part in result:
            lines += of_part(result)
        elif part in USUAL:
            lines.append((part, "not measured"))
    return lines


def _of_peers(result: dict[str, Any]) -> list[tuple[str, str]]:
    cells = {(r["algorithm"], r["geometry"], r["engine"]): r for r in result["peers"]["rows"]}
    lines = []
    for item in ("anil convex", "anil nonconvex", "maml nonconvex", "fomaml nonconvex"):
        algorithm, geometry = item.split()
        native = cells[algorithm, geometry, "native"]["meta_gradient"]["median"]
        others = {e: cells[algorithm, geometry, e]["meta_gradient"] for e in PEERS if (algorithm, geometry, e) in cells}
        timed = {name: cell["median"] for name, cell in others.items() if cell}
        value = "not measured: no peer is installed"
        if timed:
            fastest = min(timed, key=lambda name: timed[name])
            value = f"{timed[fastest] / native:.2f}x ({native * 1e3:.0f} ms; {fastest} {timed[fastest] * 1e3:.0f} ms)"
        lines.append((f"{item}, N = 5, against the fastest peer", value))
    share = cells["anil", "convex", "native"]["share_of_ceiling"]
    value = "not measured: it does not fit into memory" if share is None else f"{share:.0%}"
    lines.append(("anil convex, share of the convolution ceiling", value))
    return lines


def _of_scaling(result: dict[str, Any]) -> list[tuple[str, str]]:
    one, twenty = (row["meta_gradient"]["median"] for row in result["scaling"]["rows"])
    return [("anil convex, N = 20 over N = 1", f"{twenty / one:.2f}")]


def _of_memory(result: dict[str, Any]) -> list[tuple[str, str]]:
    lines = []
    for engine in ("native", "learn2learn"):
        peaks = [row["peak_memory_bytes"] for row in result["memory"]["rows"] if row["engine"] == engine]
        if len(peaks) == 2 and all(peaks):
            sizes = f"({peaks[0] / 2**20:.0f} and {peaks[1] / 2**20:.0f} MiB)"
            lines.append((f"maml peak memory, {engine}, N = 20 over N = 1", f"{peaks[1] / peaks[0]:.2f} {sizes}"))
    return lines


def _of_drawing(result: dict[str, Any]) -> list[tuple[str, str]]:
    if result["drawing"] is None:
        return [("drawing FC100 tasks", "not measured: the data are not there")]
    rates = {name: statistics.median(taken["tasks_per_second"]) for name, taken in result["drawing"].items()}
    value = f"{rates['native']:.0f} tasks/s"
    if "learn2learn" in rates:
        value += f", {rates['native'] / rates['learn2learn']:.1f}x learn2learn's {rates['learn2learn']:.0f}"
    return [("drawing FC100 tasks", value)]


def _of_run(result: dict[str, Any]) -> list[tuple[str, str]]:
    ratios = result["overhead"]["ratios"]
    value = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    return [(f"a run of {ITERATIONS} meta-iterations over the bare loop", value)]


def _of_zoo(result: dict[str, Any]) -> list[tuple[str, str]]:
    return zoo_speed.lines(result["zoo"])


def main() -> None:
    """Measure part by part, write each as soon as it is done, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=USUAL, help="what to measure; the rest stays as --out has it"
    )
    parser.add_argument("--models", nargs="+", choices=ZOO, default=[], help="of the zoo; unset: all")
    arguments = parser.parse_args()
    tasks = 32 if pick_device(arguments.device).type == "cuda" else 8
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - began:5.0f} s] {line}", file=sys.stderr, flush=True)

    result = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    result.setdefault("commands", []).append("python -m benchmarks.suites.speed " + " ".join(sys.argv[1:]))
    for part in (part for part in PARTS if part in arguments.parts):
        say(part)
        measure = partial(PARTS[part], models=arguments.models) if part == "zoo" else PARTS[part]
        result[part] = measure(arguments.device, tasks, arguments.rounds, say)
        result["table"] = table(result)
        write_json(arguments.out, result)  # what comes next may be cut off
    for name, value in result["table"]:
        print(f"{name:55s} {value}")


if __name__ == "__main__":
    main()
