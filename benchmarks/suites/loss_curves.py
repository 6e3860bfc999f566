"""Training loss against meta-iterations, a line for each N, from run directories.

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


def curves(directories: list[Path]) -> dict[int, np.ndarray]:
    """For each N the losses ``[seeds, iterations]``, as running means over WINDOW."""
    found: dict[int, list[np.ndarray]] = defaultdict(list)
    for directory in directories:
        steps = json.loads((directory / "summary.json").read_text())["inner_steps"]
        losses = [json.loads(line)["loss"] for line in (directory / "metrics.jsonl").read_text().splitlines()]
        found[steps].append(np.convolve(losses, np.ones(WINDOW) / WINDOW, mode="valid"))
    return {steps: np.stack(runs) for steps, runs in sorted(found.items())}


def draw(directories: list[Path], out: Path) -> None:
    """Write the figure; the format follows from the name."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    styles = zip(["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#000000"], ["-", "--", "-.", ":", "-"], strict=True)
    for (steps, loss), (color, line) in zip(curves(directories).items(), styles, strict=False):
        iterations = np.arange(WINDOW, WINDOW + loss.shape[1])
        axis.plot(iterations, loss.mean(0), line, color=color, label=f"N = {steps}, {len(loss)} seeds")
        axis.fill_between(iterations, loss.min(0), loss.max(0), color=color, alpha=0.15, linewidth=0)
    axis.set(xlabel="meta-iteration", ylabel=f"training loss $L_D(w_N)$\nrunning mean of {WINDOW} iterations")
    axis.legend(title="line: mean, band: range", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.grid(alpha=0.3)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args()
    draw(arguments.runs, arguments.out)
