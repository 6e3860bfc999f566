"""Run directories made up in the form of the real ones, and a comparison of them, for the tests of figures and page."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import yaml

from harness.config import RunConfig
from harness.report.costs import MEASURES, Target, cost_to
from harness.report.groups import group_runs
from harness.report.runs import Run, read_runs
from harness.summary import SCHEMA

ENVIRONMENT = {
    "harness": "0.1.0",
    "python": "3.12.1",
    "packages": {"torch": "2.15.0", "numpy": "2.4.6"},
    "cpu": {"model": "A processor", "cores": 2, "threads": 1},
    "gpu": None,
}
# entries of one task and iteration: n_w of ANIL's last layer, and n
_SIZES = {"convex": (165, 28485), "nonconvex": (9500, 28485)}


def write_run(folder: Path, name: str = "", status: str = "completed", accuracy: bool = True, **settings) -> Path:
    """One run directory; its loss falls faster with N, and it ends at half of the way unless completed."""
    config = RunConfig(**{"geometry": "convex", "iterations": 60, "stationarity_every": 5, "threads": 1, **settings})
    values = config.model_dump()
    n, k, seed = config.inner_steps, config.iterations, config.seed
    path = folder / (name or f"{config.algo}-{config.geometry}_{config.benchmark}_N{n}_a{config.inner_lr}_s{seed}")
    path.mkdir(parents=True)
    done = k if status == "completed" else k // 2
    generator = np.random.default_rng([seed, n])
    decay = 0.6 * done / 60 if config.geometry == "convex" else 0.5
    decay -= 0.1 * (config.algo == "fomaml")
    speed = (1 - 0.7**n) * (4 + decay) / 60
    loss = 0.5 + 0.15 * 0.8**n + 1.1 * np.exp(-speed * np.arange(1, done + 1)) + 0.06 * generator.standard_normal(done)
    each = {"anil": 0.05, "maml": 0.09, "fomaml": 0.07}[config.algo] + 0.004 * n * (
        1 if config.geometry == "convex" else 4 + 2 * (config.algo == "maml")
    )
    each *= 1 + 0.05 * generator.random()
    gradient, second = _entries(config)
    counts = [{"gradient_entries": gradient * i, "second_order_entries": second * i} for i in range(done + 1)]
    metrics = [
        {
            "iteration": i + 1,
            "loss": float(loss[i]),
            "accuracy": 0.5,
            "counts": counts[i + 1],
            "seconds": each * (i + 1),
        }
        for i in range(done)
    ]
    if status == "diverged":
        metrics[-1]["loss"] = None
    norm = np.exp(-speed * np.arange(0, done + 1))
    stationarity = [
        {
            "iteration": i,
            "loss": float(loss[max(i - 1, 0)]),
            "accuracy": 0.5,
            "grad_w_squared_norm": float(norm[i]),
            "grad_phi_squared_norm": float(norm[i]) / 2,
            "squared_norms": {"head": float(norm[i])},
            "counts": counts[i],
            "seconds": each * i,
        }
        for i in range(0, done + 1, 5)
    ]
    mean = (
        {"anil": 0.3, "maml": 0.31, "fomaml": 0.28}[config.algo]
        + 0.2 * (1 - 0.7**n)
        + 0.01 * generator.standard_normal()
        if accuracy
        else None
    )
    summary = {
        "schema": SCHEMA,
        "status": status,
        "key": path.name,
        "algorithm": config.algo,
        "geometry": config.geometry,
        "benchmark": config.benchmark,
        "engine": config.engine,
        "inner_steps": n,
        "iterations": k,
        "iterations_done": done,
        "seed": seed,
        "device": "cpu",
        "w": ["head"],
        "counts": counts[-1],
        "train_loss": metrics[-1]["loss"],
        "accuracy": {"mean": mean if status == "completed" else None, "ci95": 0.01, "tasks": 600},
        "seconds": {"train": each * done},
        "peak_memory_bytes": int(2**20 * (60 + (n * 9 if config.algo == "maml" else n))),
        "flops_per_iteration": 10**9,
    }
    (path / "config.yaml").write_text(yaml.safe_dump(values))
    (path / "environment.json").write_text(json.dumps(ENVIRONMENT))
    (path / "summary.json").write_text(json.dumps(summary))
    for file, lines in (("metrics.jsonl", metrics), ("stationarity.jsonl", stationarity)):
        (path / file).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def _entries(config: RunConfig) -> tuple[int, int]:
    n_w, n = _SIZES[config.geometry] if config.algo == "anil" else (_SIZES["convex"][1],) * 2
    steps, tasks = config.inner_steps, config.meta_batch
    second = 0 if config.algo == "fomaml" else steps * n_w * n
    return tasks * (steps * n_w + n), tasks * second


METHODS = (("anil", "convex"), ("anil", "nonconvex"), ("maml", "nonconvex"), ("fomaml", "nonconvex"))


def write_grid(folder: Path, steps=(1, 3, 5, 10), seeds=5, benchmark="fc100", methods=METHODS, **settings) -> None:
    """A grid of completed runs, of which nonconvex ANIL diverges for some or all seeds at N >= 10."""
    for algo, geometry in methods:
        for n in steps:
            for seed in range(seeds):
                gone = (algo, geometry) == ("anil", "nonconvex") and (n > 10 or (n == 10 and seed == 1))
                given = {"algo": algo, "geometry": geometry, "inner_steps": n, "seed": seed, "benchmark": benchmark}
                write_run(folder, status="diverged" if gone else "completed", **given | settings)


@dataclass(frozen=True)
class Interval:
    value: float
    low: float
    high: float
    seeds: int = 5
    enough: bool = True


@dataclass
class StandIn:
    """A comparison with what figures and page ask of one."""

    groups: list
    targets: list[Target]
    headline: Target | None
    results: list
    findings: list[str] = field(default_factory=list)
    claims: list = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    factors: list = field(default_factory=list)


TARGETS = [Target("epsilon", 0.3), Target("epsilon", 0.05), Target("loss", 0.9)]


def compare(folder: Path, **more) -> StandIn:
    """What :func:`compare_runs` gives, in little."""
    runs, skipped = read_runs([folder])
    return compare_these(runs, **{"skipped": skipped} | more)


def compare_these(runs: list[Run], targets=TARGETS, **more) -> StandIn:
    groups = group_runs(runs)
    return StandIn(groups, targets, targets[0] if targets else None, [_result(g, targets) for g in groups], **more)


def _result(group, targets):
    costs = {}
    for target in targets:
        found = [cost_to(run, target) for run in group.runs]
        costs[target] = SimpleNamespace(**{m: _interval([getattr(cost, m) for cost in found]) for m in MEASURES})
    scores = [s for run in group.runs if (s := run.summary["accuracy"]["mean"]) is not None]
    return SimpleNamespace(
        group=group,
        costs=costs,
        accuracy=_interval(scores) if scores else None,
        diverged=sum(run.summary["status"] == "diverged" for run in group.runs),
    )


def _interval(values: list[float]) -> Interval:
    ordered = sorted(values)
    middle = ordered[len(ordered) // 2]
    return Interval(middle, ordered[0], ordered[-1], len(values), len(values) >= 5 and not math.isnan(middle))
