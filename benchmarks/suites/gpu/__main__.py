"""A GPU's figures in parts, each in a file of its own.

    python -m benchmarks.suites.gpu info correct engines micro graph figures --out results/gpu --seconds 400

- info: the machine, the ceilings in each kind of float32, what launching an operation costs
- correct: float64 on the device against the CPU; then float32 and TF32 against float64
- engines: meta-gradients of native and learn2learn interleaved, and where native's time goes
- micro: the convolutions of MAML and of the first block, in every way there is
- graph: the native meta-gradient as one CUDA graph
- figures: training as Figures 1 and 2 ask for it

A file is written anew after every row, so that a process cut off loses the row in hand; a part that fails says so in
its file, and the others go on. ``--dry`` does all of it on the CPU with tiny shapes, to find faults before there is a
GPU: its figures mean nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.suites.gpu.bench import Bench, Part
from benchmarks.suites.gpu.convolutions import micro
from benchmarks.suites.gpu.figures import figures
from benchmarks.suites.gpu.machine import info
from benchmarks.suites.gpu.meta_gradients import correct, engines, graph
from harness.errors import InputError
from harness.experiment.setup import pick_device

PARTS: dict[str, Callable[[Part], None]] = {
    "info": info, "correct": correct, "engines": engines, "micro": micro, "graph": graph, "figures": figures
}  # fmt: skip


def main(words: Sequence[str] | None = None) -> int:
    """Measure the parts that are named; returns 1 where one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=PARTS, metavar="part", help=", ".join(PARTS))
    parser.add_argument("--out", required=True, type=Path, help="folder of the files")
    parser.add_argument("--seconds", type=float, default=400, help="begin nothing that would not be done by then")
    parser.add_argument("--dry", action="store_true", help="tiny shapes on the CPU")
    arguments = parser.parse_args(words)
    try:
        device = torch.device("cpu") if arguments.dry else pick_device("cuda")
    except InputError as error:
        parser.error(f"{error}, or --dry")
    bench = Bench(device, arguments.dry, arguments.out, time.monotonic() + arguments.seconds)
    done = [Part(bench, name).measured(PARTS[name]) for name in arguments.parts]
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
