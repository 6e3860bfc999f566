"""Made-up runs with everything that figures and page have to show: N that helps, misses, divergences, few seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fabricated import write_run

from harness.report.findings.comparison import Comparison, compare_runs
from harness.report.findings.costs import Target
from harness.report.reading.runs import read_runs

METHODS = (("anil", "convex"), ("anil", "nonconvex"), ("maml", "nonconvex"), ("fomaml", "nonconvex"))
SECONDS = {"anil": 0.05, "maml": 0.12, "fomaml": 0.08}
TARGETS = (Target("epsilon", 0.1), Target("epsilon", 0.01), Target("loss", 1.1))


def write_grid(folder: Path, steps=(1, 3, 5, 10), seeds=5, methods=METHODS, **settings) -> None:
    """A grid whose K falls with N and saturates; nonconvex ANIL diverges for seed 1 at N = 10, for all beyond."""
    for algo, geometry in methods:
        for n in steps:
            for seed in range(seeds):
                noise = np.random.default_rng([seed, n]).random()
                gone = (algo, geometry) == ("anil", "nonconvex") and (n > 10 or (n == 10 and seed == 1))
                given = {
                    "algo": algo,
                    "geometry": geometry,
                    "inner_steps": n,
                    "seed": seed,
                    "iterations": 60,
                    "rate": (0.02 + 0.1 * (1 - 0.6**n)) * (1 + 0.1 * noise) * (1 if algo == "anil" else 0.7),
                    "seconds": SECONDS[algo] + (0.004 if geometry == "convex" else 0.012) * n * (1 + 0.1 * noise),
                    "accuracy": 0.3 + 0.2 * (1 - 0.7**n) + 0.01 * noise - (0.03 if algo == "fomaml" else 0),
                    "status": "diverged" if gone else "completed",
                    "done": 30 if gone else None,
                }
                write_run(folder, **given | settings)


def compare(folder: Path, targets=TARGETS) -> Comparison:
    """A comparison of all runs in ``folder``."""
    runs, skipped = read_runs([folder])
    return compare_runs(runs, list(targets), skipped=skipped)
