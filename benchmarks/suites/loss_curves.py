"""Training loss against meta-iterations and against seconds, a line for each N, from run directories.

python -m benchmarks.suites.loss_curves RUN_DIR... --out figure.png
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

#: meta-iterations that a point averages over
WINDOW = 10


def curves(directories: list[Path]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """For each N: losses and seconds ``[seeds, iterations]``, the losses as running means over WINDOW."""
    found: dict[int, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    for directory in directories:
        steps = json.loads((directory / "summary.json").read_text())["inner_steps"]
        lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
        loss = np.convolve([line["loss"] for line in lines], np.ones(WINDOW) / WINDOW, mode="valid")
        found[steps].append((loss, np.array([line["seconds"] for line in lines])[WINDOW - 1 :]))
    return {steps: tuple(np.stack(part) for part in zip(*runs, strict=True)) for steps, runs in sorted(found.items())}


def draw(directories: list[Path], out: Path) -> None:
    """Write the figure; the format follows from the name."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    styles = zip(["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#000000"], ["-", "--", "-.", ":", "-"], strict=True)
    for (steps, (loss, seconds)), (color, line) in zip(curves(directories).items(), styles, strict=False):
        iterations = np.arange(WINDOW, WINDOW + loss.shape[1])
        label = f"N = {steps}" + (f", {len(loss)} seeds" if len(loss) > 1 else "")
        for axis, x in zip(axes, (iterations, seconds.mean(0)), strict=True):
            axis.plot(x, loss.mean(0), line, color=color, label=label)
            axis.fill_between(x, loss.min(0), loss.max(0), color=color, alpha=0.15, linewidth=0)
    axes[0].set(xlabel="meta-iteration", ylabel=f"training loss L_D(w_N), mean of {WINDOW} iterations")
    axes[1].set(xlabel="seconds of training (mean over seeds)")
    axes[0].legend(title="line: mean, band: range", frameon=False)
    for axis in axes:
        axis.grid(alpha=0.3)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args()
    draw(arguments.runs, arguments.out)
