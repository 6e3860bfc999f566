"""Run directories written in a moment: valid, without any training, and with a K(epsilon) that is known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from harness.store.directory import digests
from harness.store.records import Summary

# n = 100 parameters in three layers; ANIL convex adapts the last, ANIL nonconvex the last two.
SIZES = {"block1.weight": 60, "block2.weight": 30, "head.weight": 10}
_LAYERS = {"all": 3, "last:2": 2, "last:1": 1}


def write_run(results: Path, **settings: Any) -> Path:
    """Write one run and return its directory.

    Besides keys of the configuration: ``rate``, at which the squared norm in every parameter falls from 1 as
    exp(-rate·iteration); ``status``; ``accuracy``; ``seconds``, of one iteration; ``done``, iterations until a
    divergence; ``L``; ``error``, the standard error of the squared norm in every parameter, None for a run of an older
    version, which has none; ``secants`` of both partial gradients; ``environment``, to be changed in it; ``name`` of
    the directory.
    """
    extra = {
        key: settings.pop(key, default)
        for key, default in {
            "rate": 0.1,
            "status": "completed",
            "accuracy": 0.5,
            "seconds": 0.01,
            "done": None,
            "L": None,
            "error": 0.0,
            "secants": (None, None),
            "environment": {},
            "name": None,
        }.items()
    }
    config = _config(settings)
    done = config["iterations"] if extra["done"] is None else extra["done"]
    name = (
        extra["name"]
        or (
            f"{config['algo']}-{config['geometry']}_{config['benchmark']}_{config['ways']}w{config['shots']}s"
            f"_N{config['inner_steps']}_s{config['seed']}-{abs(hash(json.dumps(config, sort_keys=True))):010x}"[:120]
        )
    )
    folder = results / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "environment.json").write_text(json.dumps(_environment(extra["environment"])))
    (folder / "metrics.jsonl").write_text("".join(_metrics(config, extra, done)))
    (folder / "evaluations.jsonl").write_text(json.dumps({"iteration": done, "split": "test"}) + "\n")
    if config["stationarity_every"]:
        (folder / "stationarity.jsonl").write_text("".join(_stationarity(config, extra, done)))
    (folder / "summary.json").write_text(
        json.dumps(Summary.model_validate(_summary(config, extra, done, folder)).document())
    )
    seal(folder)
    return folder


def seal(folder: Path) -> None:
    """Let its summary know its files as they are now."""
    path = folder / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "files": digests(folder)}))


def write_grid(results: Path, seeds: int = 5, steps: tuple[int, ...] = (1, 3, 5), **settings: Any) -> None:
    """Every method at every N: MAML and FOMAML need twice as many iterations as ANIL."""
    methods = [("maml", "nonconvex"), ("fomaml", "nonconvex"), ("anil", "convex"), ("anil", "nonconvex")]
    for algo, geometry in methods:
        for inner_steps in steps:
            for seed in range(seeds):
                rate = (0.1 if algo == "anil" else 0.05) * (1 + 0.02 * seed)
                given = {"rate": rate, **settings}
                write_run(results, algo=algo, geometry=geometry, inner_steps=inner_steps, seed=seed, **given)


def first_below(epsilon: float, rate: float, layers: int = 1, every: int = 5) -> int:
    """K(epsilon) of a fabricated run whose larger block has that many layers."""
    return next(k for k in range(0, 10**6, every) if layers * math.exp(-rate * k) < epsilon)


def _config(settings: dict[str, Any]) -> dict[str, Any]:
    algo = settings.get("algo", "anil")
    geometry = settings.get("geometry", "convex" if algo == "anil" else "nonconvex")
    adapt = "all" if algo != "anil" else "last:1" if geometry == "convex" else "last:2"
    return {
        "algo": algo,
        "geometry": geometry,
        "adapt": adapt,
        "benchmark": "fc100",
        "model": "cnn",
        "model_options": {"filters": 8},
        "loss": "cross_entropy",
        "loss_options": {},
        "algo_options": {"l2": 0.001} if algo == "anil" else {},
        "benchmark_options": {},
        "ways": 5,
        "shots": 5,
        "queries": 5,
        "inner_steps": 5,
        "inner_lr": 0.1,
        "meta_batch": 4,
        "iterations": 100,
        "outer_optimizer": "adam",
        "outer_schedule": "constant",
        "outer_lr_w": 0.001,
        "outer_lr_phi": 0.001,
        "norm_statistics": "separate",
        "model_mode": "train",
        "seed": 0,
        "device": "cpu",
        "dtype": "float32",
        "tf32": None,
        "engine": "native",
        "strategy": "auto",
        "threads": None,
        "task_chunk": "auto",
        "eval_tasks": 600,
        **dict.fromkeys(("eval_ways", "eval_shots", "eval_queries", "eval_inner_steps")),
        "eval_every": 0,
        "stationarity_every": 5,
        "stationarity_tasks": 64,
        "checkpoint_every": 50,
        "label": None,
        **settings,
    }


def _environment(changes: dict[str, Any]) -> dict[str, Any]:
    return {
        "harness": "0.1.0",
        "git": {"commit": "0" * 40, "dirty": False},
        "python": "3.11.7",
        "platform": "Linux",
        "packages": {"torch": "2.15.0", "numpy": "2.4.6"},
        "cpu": {"model": "Some CPU", "cores": 2, "threads": 1},
        "gpu": None,
        "determinism": {"deterministic_algorithms": False},
    } | changes


def _adapted(config: dict[str, Any]) -> list[str]:
    return list(SIZES)[-_LAYERS[config["adapt"]] :]


def _each(config: dict[str, Any]) -> dict[str, int]:
    """Entries and products of one task and meta-iteration, as Table 2 counts them."""
    steps, n = config["inner_steps"], sum(SIZES.values())
    n_w = sum(SIZES[name] for name in _adapted(config))
    second = 0 if config["algo"] == "fomaml" else steps
    return {
        "gradient_entries": steps * n_w + n,
        "second_order_entries": second * n_w * n,
        "hessian_vector_products": second,
        "mixed_products": second if n_w < n else 0,
        "query_gradients": 1,
        "solves": 0,
        "pseudo_gradients": 0,
    }


def _counts(config: dict[str, Any], iteration: int) -> dict[str, int]:
    return {name: value * config["meta_batch"] * iteration for name, value in _each(config).items()}


def _loss(config: dict[str, Any], extra: dict[str, Any], iteration: int) -> float:
    return 1 + 0.6 * math.exp(-extra["rate"] * iteration)


def _metrics(config: dict[str, Any], extra: dict[str, Any], done: int) -> list[str]:
    noise = 0.01 * np.random.default_rng(config["seed"]).standard_normal(done + 1)
    lines = []
    for k in range(1, done + 1):
        broken = extra["status"] == "diverged" and k == done
        line = {
            "iteration": k,
            "loss": None if broken else _loss(config, extra, k) + noise[k],
            "accuracy": 0.4,
            "grad_w_norm": 0.1,
            "grad_phi_norm": 0.1,
            "counts": _counts(config, k),
            "seconds": k * extra["seconds"],
        }
        lines.append(json.dumps(line) + "\n")
    return lines


def _stationarity(config: dict[str, Any], extra: dict[str, Any], done: int) -> list[str]:
    every, adapted = config["stationarity_every"], _adapted(config)
    iterations = [k for k in range(done + 1) if k % every == 0 or k == done]
    lines = []
    for k in iterations[: -1 if extra["status"] == "diverged" else None]:
        norms = dict.fromkeys(SIZES, math.exp(-extra["rate"] * k))
        line = {
            "iteration": k,
            "loss": _loss(config, extra, k),
            "accuracy": 0.6 - 0.4 * math.exp(-extra["rate"] * k),
            "grad_w_squared_norm": sum(norms[name] for name in adapted),
            "grad_phi_squared_norm": sum(norm for name, norm in norms.items() if name not in adapted),
            "squared_norms": norms,
            **({} if extra["error"] is None else {"unbiased": _unbiased(norms, extra["error"])}),
            **dict(zip(("smoothness_w", "smoothness_phi"), extra["secants"] if k else (None, None), strict=True)),
            **({} if extra["L"] is None else {"L": extra["L"]}),
            "counts": _counts(config, k),
            "seconds": k * extra["seconds"],
        }
        lines.append(json.dumps(line) + "\n")
    return lines


def _unbiased(norms: dict[str, float], error: float) -> dict[str, Any]:
    """Products of four groups whose mean is each norm, and whose standard error is ``error``."""
    apart = error / 3**0.5
    return {"products": {name: [norm + apart, norm - apart] * 2 for name, norm in norms.items()}}


def _summary(config: dict[str, Any], extra: dict[str, Any], done: int, folder: Path) -> dict[str, Any]:
    completed = extra["status"] == "completed"
    n_w = sum(SIZES[name] for name in _adapted(config))
    accuracy, loss = (extra["accuracy"], 1.0) if completed else (None, None)
    shares = {"features": 0.2, "inner_gradient": 0.1, "outer_gradient": 0.3, "second_order": 0.3, "outer_update": 0.1}
    train = done * extra["seconds"]
    same = ("geometry", "engine", "benchmark", "model", "adapt", "ways", "shots", "queries", "inner_steps", "inner_lr")
    return {
        "schema": 2,
        "status": extra["status"],
        "run_dir": str(folder),
        "key": "0" * 10,
        "algorithm": config["algo"],
        "strategy": "linearised",
        "loss_function": "cross_entropy",
        "loss_options": {},
        "metrics": {
            name: dict.fromkeys(("mean", "ci95", "before_adaptation", "before_adaptation_ci95"))
            for name in ("rmse", "r2")
        },
        "route": {"layers": "written out", "why": None, "shared_body": True, "relative_error": 1e-15},
        **{name: config[name] for name in (*same, "meta_batch", "iterations", "seed", "device", "dtype")},
        "iterations_done": done,
        "n_w": n_w,
        "n_phi": sum(SIZES.values()) - n_w,
        "w": _adapted(config),
        "counts": _counts(config, done),
        "counts_per_task": _each(config),
        "train_loss": _loss(config, extra, done) if completed else None,
        "accuracy": {
            "mean": accuracy,
            "ci95": 0.01,
            "before_adaptation": 0.2,
            "before_adaptation_ci95": 0.01,
            "tasks": 600,
        },
        "loss": {"mean": loss, "ci95": 0.01, "before_adaptation": 1.6, "before_adaptation_ci95": 0.01},
        "diverged": {"iteration": done, "quantity": "loss"} if extra["status"] == "diverged" else None,
        "out_of_memory": None,
        "task_chunk": config["meta_batch"],
        "stopped": None,
        "trial": False,
        "unknown": {},
        "resumed_elsewhere": [],
        "seconds": {
            "train": train,
            "wall": 1.5 * train,
            "first_iteration": extra["seconds"],
            **{name: share * train for name, share in shares.items()},
        },
        "flops_per_iteration": 1_000_000,
        "peak_memory_bytes": 50 * 2**20,
    }
