"""Float32 against float64: the native engine and its peers, with the kernels of the CPU's libraries switched.

    HARNESS_DATA=../shared/data python -m benchmarks.suites.precision --out results/reference/float32.json

What `harness verify` compares in float32, in a process of its own for each choice of kernels and number of threads.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from harness.engines.native import Native
from harness.errors import InputError
from harness.measure.environment import environment
from harness.proof.float32 import FILTERS, MARGIN, STEPS, TASKS, cut, errors, installed_peers
from harness.settings import registry
from harness.store.directory import write_json

BENCHMARKS = ("glyphs", "omniglot", "fc100", "sinusoid")
#: MKL multiplies matrices, oneDNN convolves, ATen is torch's own sums
KERNELS = (
    "",
    "MKL_CBWR=COMPATIBLE",
    "MKL_CBWR=AVX2",
    "ONEDNN_MAX_CPU_ISA=AVX2",
    "ONEDNN_MAX_CPU_ISA=SSE41",
    "ATEN_CPU_CAPABILITY=default",
)
THREADS = (1, 2)
PROBLEMS = (("anil", "convex"), ("maml", "nonconvex"))


def measured() -> Iterator[dict[str, Any]]:
    """The median and the largest, over tasks, of each program's relative error in all that can be compared here."""
    programs = [Native, *installed_peers()]
    for name in BENCHMARKS:
        try:
            made = cut(name, seed=0)
        except InputError as error:
            yield {"benchmark": name, "missing": str(error)}
            continue
        for algorithm, geometry in PROBLEMS:
            of = registry.algorithms().get(algorithm)(geometry)
            for point in made.points:
                found = errors(made, point, of, geometry, programs)[1]
                yield {
                    "benchmark": name,
                    "point": point,
                    "problem": f"{algorithm} {geometry}",
                    "median": {program: _short(one.typical) for program, one in found.items()},
                    "largest": {program: _short(float(one.of_tasks.max())) for program, one in found.items()},
                }


def _short(error: float) -> float:
    return float(f"{error:.2g}")


def with_kernels(kernels: str, threads: int) -> list[dict[str, Any]]:
    """:func:`measured` in a process with these libraries' kernels: they are chosen when a library is loaded."""
    name, _, value = kernels.partition("=")
    # As in the program itself: threads that wait by spinning are slow where cores are shared with others.
    chosen = {"GOMP_SPINCOUNT": "2000"} | ({name: value} if name else {})
    command = [sys.executable, "-m", "benchmarks.suites.precision", "--threads", str(threads)]
    done = subprocess.run(command, env={**os.environ, **chosen}, stdout=subprocess.PIPE, text=True, check=True)
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def table(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each benchmark and choice of kernels: medians over problems, points and threads, and how native compares.

    ``worst_ratio`` is the largest of native's error over the best peer's.
    """
    medians: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for part in parts:
        for row in part["rows"]:
            if "median" in row:
                medians[row["benchmark"], part["kernels"]].append(row["median"])
    lines = []
    for (benchmark, kernels), of_rows in medians.items():
        programs = {of: _short(statistics.median(row[of] for row in of_rows)) for of in of_rows[0]}
        ratios = [row["native"] / min(error for of, error in row.items() if of != "native") for row in of_rows]
        lines.append({"benchmark": benchmark, "kernels": kernels, **programs, "worst_ratio": _short(max(ratios))})
    return lines


def main() -> None:
    """Measure every choice and write, or, with --threads, print one in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
        json.dump(list(measured()), sys.stdout)
        return
    parts = []
    for kernels in KERNELS:
        for threads in THREADS:
            print(f"{kernels or 'as they are'}, threads {threads}", file=sys.stderr, flush=True)
            parts.append({"kernels": kernels, "threads": threads, "rows": with_kernels(kernels, threads)})
    document = {
        "command": "python -m benchmarks.suites.precision " + " ".join(sys.argv[1:]),
        "environment": environment(torch.device("cpu")),
        "settings": {"tasks": TASKS, "inner_steps": STEPS, "filters": FILTERS, "seed": 0, "margin": MARGIN},
        "table": table(parts),
        "parts": parts,
    }
    write_json(arguments.out, document)
    for line in document["table"]:
        print(json.dumps(line))


if __name__ == "__main__":
    main()
