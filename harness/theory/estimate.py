"""What ``harness theory`` prints: the bounds, and the constants in them for one benchmark and algorithm."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from harness.errors import InputError
from harness.experiment.setup import Setup, set_up
from harness.problem.benchmark import Benchmark
from harness.problem.convexity import not_convex
from harness.problem.curvature import InnerConstants, curvature, inner_constants
from harness.problem.lanczos import Extremes
from harness.problem.nets import ModelFactory
from harness.problem.oracle import Oracle
from harness.problem.tasks import TaskBatch
from harness.settings.config import RunConfig
from harness.settings.resolve import Resolved, resolve
from harness.theory.advice import advise, first_tasks
from harness.theory.bounds import TABLE_1, TABLE_2, THEOREMS
from harness.theory.formulas import TABLE_1_NOTES, TABLE_2_NOTES, THEOREM_NOTES
from harness.theory.lipschitz import Lipschitz, Point, sampled_lipschitz
from harness.theory.predicted import predictions, smoothness_rows, step_sizes

#: the N that factors are predicted for, beside the configuration's own
INNER_STEPS = (1, 3, 5, 10)


def estimate(
    config: RunConfig,
    *,
    smooth: bool = False,
    advice: bool = False,
    model: ModelFactory | None = None,
    benchmark: Benchmark | None = None,
    loss: Callable[..., Any] | None = None,
    origins: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Constants at the initialisation on the first B = ``config.meta_batch`` training tasks, and what follows.

    The problem is built as a run builds it, in float64 unless ``config`` sets ``dtype``. L and mu are extremes over
    tasks and over both ends of the inner loop, of the inner objective with its regulariser; M, rho and tau are sampled
    lower bounds around them. ``L_all`` is the L of all parameters, MAML's, and ``kappa_L`` that times kappa = alpha.
    ``steps`` sets the theorem's step sizes beside the configuration's. With ``smooth``, the smoothness of L_meta for
    every N, its decay and the proposition's bound, which takes hundreds of meta-gradients each; with ``advice``, what
    :mod:`harness.theory.advice` proposes. ``model``, ``benchmark`` and ``loss`` are objects in place of those that
    ``config`` names, as :func:`harness.run` takes them.

    Returns a document for JSON, None standing for what is not finite. Raises :class:`InputError`.
    """
    resolved = _resolved(config, model, benchmark, loss, origins)

    def asked(changes: dict[str, Any]) -> Resolved:
        asked_for = config.model_copy(update=changes)
        return resolve(asked_for, model=model, benchmark=benchmark, loss=loss, origins=origins)

    with resolved.blamed():
        document = _estimate(resolved, smooth)
        document["advice"] = advise(asked) if advice else None
    cleaned: dict[str, Any] = _finite(document)
    return cleaned


def _estimate(resolved: Resolved, smooth: bool) -> dict[str, Any]:
    setup, batch = _prepared(resolved)
    config = setup.config
    generator = torch.Generator().manual_seed(config.seed)
    floor = _floor(resolved, setup, batch, generator)
    inner, lipschitz = _constants(setup, batch, generator, floor)
    L_all = inner.L.value if not setup.problem.network.n_phi else _maml(resolved, config, generator).L.value
    kappa_L = config.inner_lr * L_all
    steps = sorted({*INNER_STEPS, config.inner_steps})
    network = setup.problem.network
    return {
        "algorithm": config.algo,
        "geometry": config.geometry,
        "benchmark": config.benchmark,
        "model": config.model,
        "adapt": config.adapt,
        "tasks": batch.tasks,
        "seed": config.seed,
        "dtype": config.dtype,
        "device": config.device,
        "inner_steps": config.inner_steps,
        "inner_lr": config.inner_lr,
        "lambda": resolved.algorithm.l2,
        "n_w": network.n_w,
        "n_phi": network.n_phi,
        "constants": {
            "L": asdict(inner.L),
            "mu": asdict(inner.mu),
            "mu_at_least": floor,
            "xi": inner.xi,
            "L_all": L_all,
            "kappa_L": kappa_L,
            **asdict(lipschitz),
        },
        "steps": step_sizes(config, inner),
        "predictions": predictions(setup, steps, kappa_L, config.inner_lr),
        "table_1": [asdict(row) for row in TABLE_1],
        "table_2": [asdict(row) for row in TABLE_2],
        "theorems": [asdict(row) for row in THEOREMS],
        "notes": {"table_1": TABLE_1_NOTES, "table_2": TABLE_2_NOTES, "theorems": THEOREM_NOTES},
        "smoothness": smoothness_rows(setup, batch, steps, inner, L_all, lipschitz, generator) if smooth else None,
    }


def _resolved(
    config: RunConfig,
    model: ModelFactory | None,
    benchmark: Benchmark | None,
    loss: Callable[..., Any] | None,
    origins: Mapping[str, str] | None = None,
) -> Resolved:
    if "dtype" not in config.model_fields_set:
        config = config.model_copy(update={"dtype": "float64"})
    return resolve(config, model=model, benchmark=benchmark, loss=loss, origins=origins)


def _prepared(resolved: Resolved) -> tuple[Setup, TaskBatch]:
    setup = set_up(resolved)
    if not setup.problem.network.n_w:
        raise InputError(f"adapt {setup.config.adapt!r} adapts nothing; allowed: at least one parameter in w")
    return setup, first_tasks(resolved, setup)


def _floor(resolved: Resolved, setup: Setup, batch: TaskBatch, generator: torch.Generator) -> float | None:
    """lambda, which mu is at least where L_S is convex in w; None where that is not known."""
    at = setup.w, setup.phi, batch.support_x[0]
    why = not_convex(resolved.loss, setup.problem.network, *at, generator)
    return None if why else resolved.algorithm.l2


def _constants(
    setup: Setup, batch: TaskBatch, generator: torch.Generator, floor: float | None
) -> tuple[InnerConstants, Lipschitz]:
    """Task by task: Lanczos keeps its whole basis, and sampling needs each task's own gradient in phi."""
    seen: list[Extremes] = []
    sampled = Lipschitz(0.0, 0.0, 0.0)
    for task in range(batch.tasks):
        one = batch.chunk(task, task + 1)

        def at(w: Tensor, phi: Tensor, one: TaskBatch = one) -> Oracle:
            return setup.evaluator.oracle(w, phi, one)

        start = Point(setup.w, setup.phi)
        oracle = at(start.w, start.phi)
        seen.append(curvature(oracle, start.w[None], generator=generator))
        end = Point(_adapted(setup, oracle), setup.phi)
        # A diverged inner loop ends nowhere: its constants become None instead of those of a smaller region.
        seen.append(curvature(oracle, end.w[None], generator=generator))
        reach = start.distance(end)
        if not math.isfinite(reach):
            sampled = Lipschitz(math.nan, math.nan, math.nan)
            continue
        radius = reach or 0.01 * max(1.0, float(start.w.norm()))
        pairs = [(point, point.moved(radius, generator)) for point in (start, end)]
        pairs += [(start, end)] if reach else []
        sampled = sampled.joined(sampled_lipschitz(at, pairs, generator=generator))
    return inner_constants(seen, floor), sampled


def _adapted(setup: Setup, oracle: Oracle) -> Tensor:
    """w_N of one task, ``[n_w]``, by the algorithm's own inner loop."""
    config = setup.config
    return setup.problem.algorithm.adapt(oracle, config.inner_steps, config.inner_lr)[0].detach()


def _maml(resolved: Resolved, config: RunConfig, generator: torch.Generator) -> InnerConstants:
    """L over all parameters at the initialisation, on the same model and tasks."""
    changes: dict[str, Any] = {
        "algo": "maml",
        "geometry": None,
        "adapt": None,
        "algo_options": {},
        "norm_statistics": "separate",
    }
    benchmark = resolved.benchmark if "benchmark" in resolved.objects else None
    loss = resolved.loss.function if "loss" in resolved.objects else None
    setup, batch = _prepared(_resolved(config.model_copy(update=changes), resolved.factory, benchmark, loss))
    seen = []
    for task in range(batch.tasks):
        oracle = setup.evaluator.oracle(setup.w, setup.phi, batch.chunk(task, task + 1))
        seen.append(curvature(oracle, setup.w[None], generator=generator, steps=24, tolerance=1e-2))
    return inner_constants(seen)


def _finite(value: Any) -> Any:
    """``value`` with None for every number that JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
