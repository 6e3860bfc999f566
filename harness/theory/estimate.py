"""What ``harness theory`` prints: the bounds, and the constants in them for one benchmark and algorithm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from harness.errors import InputError
from harness.experiment.setup import Setup, set_up
from harness.problem.benchmark import Benchmark
from harness.problem.curvature import InnerConstants, curvature, inner_constants
from harness.problem.lanczos import Extremes, random_like
from harness.problem.meta_gradient import exact
from harness.problem.models import ModelFactory
from harness.problem.oracle import MetaGradient, Oracle
from harness.problem.partition import Network
from harness.problem.tasks import TaskBatch, draw
from harness.settings import registry
from harness.settings.config import RunConfig
from harness.settings.resolve import Resolved, resolve
from harness.theory.bounds import TABLE_1, TABLE_2, THEOREMS, decay, evaluations, predicted_factor
from harness.theory.conditions import Steps, advice, conditions, factor_condition
from harness.theory.fits import fit_decay
from harness.theory.formulas import TABLE_1_NOTES, TABLE_2_NOTES, THEOREM_NOTES
from harness.theory.lipschitz import Lipschitz, Point, sampled_lipschitz
from harness.theory.propositions import proposition_2, proposition_3
from harness.theory.smoothness import smoothness

#: the N that factors are predicted for, beside the configuration's own
INNER_STEPS = (1, 3, 5, 10)


def estimate(
    config: RunConfig,
    *,
    smooth: bool = False,
    model: ModelFactory | None = None,
    benchmark: Benchmark | None = None,
    origins: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Constants at the initialisation on the first B = ``config.meta_batch`` training tasks, and what follows.

    The problem is built as a run builds it, in float64 unless ``config`` sets ``dtype``. L and mu are extremes over
    tasks and over both ends of the inner loop, of the inner objective with its regulariser; M, rho and tau are sampled
    lower bounds around them. ``L_all`` is the L of all parameters, MAML's, and ``kappa_L`` that times kappa = alpha.
    ``steps`` sets the theorem's step sizes beside the configuration's. With ``smooth``, the smoothness of L_meta for
    every N, its decay and the proposition's bound, which takes hundreds of meta-gradients each. ``model`` and
    ``benchmark`` are objects in place of those that ``config`` names, as :func:`harness.run` takes them.

    Returns a document for JSON, None standing for what is not finite. Raises :class:`InputError`.
    """
    resolved = _resolved(config, model, benchmark, origins)
    with resolved.blamed():
        return _estimate(resolved, smooth)


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
    document: dict[str, Any] = {
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
        "steps": _steps(config, inner),
        "predictions": _predictions(setup, steps, kappa_L, config.inner_lr),
        "table_1": [asdict(row) for row in TABLE_1],
        "table_2": [asdict(row) for row in TABLE_2],
        "theorems": [asdict(row) for row in THEOREMS],
        "notes": {"table_1": TABLE_1_NOTES, "table_2": TABLE_2_NOTES, "theorems": THEOREM_NOTES},
        "smoothness": _smoothness(setup, batch, steps, inner, L_all, lipschitz, generator) if smooth else None,
    }
    cleaned: dict[str, Any] = _finite(document)
    return cleaned


def _resolved(
    config: RunConfig,
    model: ModelFactory | None,
    benchmark: Benchmark | None,
    origins: Mapping[str, str] | None = None,
) -> Resolved:
    if "dtype" not in config.model_fields_set:
        config = config.model_copy(update={"dtype": "float64"})
    return resolve(config, model=model, benchmark=benchmark, origins=origins)


def _prepared(resolved: Resolved) -> tuple[Setup, TaskBatch]:
    setup = set_up(resolved)
    if not setup.problem.network.n_w:
        raise InputError(f"adapt {setup.config.adapt!r} adapts nothing; allowed: at least one parameter in w")
    tasks = setup.config.meta_batch
    return setup, draw(resolved.benchmark, setup.config, "train", 0, tasks, setup.device, setup.w.dtype)


def _floor(resolved: Resolved, setup: Setup, batch: TaskBatch, generator: torch.Generator) -> float | None:
    """lambda, which mu is at least where L_S is convex in w; None where that is not known.

    A loss that is convex in the predictions is so in w where these are affine in it: seen at a random pair of points.
    """
    if not resolved.loss.convex:
        return None
    network, tail = setup.problem.network, setup.problem.network.tail_phi(setup.phi)
    h = network.features(setup.phi, batch.support_x[0])
    a, b = (setup.w + 10 * random_like(setup.w, generator) for _ in range(2))
    ends = (network.predict(a, tail, h) + network.predict(b, tail, h)) / 2
    affine = (network.predict((a + b) / 2, tail, h) - ends).norm() <= 1e-4 * ends.norm()
    return resolved.algorithm.l2 if affine else None


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
    setup, batch = _prepared(_resolved(config.model_copy(update=changes), resolved.factory, benchmark))
    seen = []
    for task in range(batch.tasks):
        oracle = setup.evaluator.oracle(setup.w, setup.phi, batch.chunk(task, task + 1))
        seen.append(curvature(oracle, setup.w[None], generator=generator, steps=24, tolerance=1e-2))
    return inner_constants(seen)


def _steps(config: RunConfig, inner: InnerConstants) -> dict[str, Any]:
    """The theorem's conditions on this configuration, and beta without the polynomials, whose values are not known."""
    L, mu, N = inner.L.value, inner.mu.value, config.inner_steps
    runs = [Steps(N, config.inner_lr, config.outer_lr_w, config.outer_lr_phi)]
    found = conditions(config.algo, str(config.geometry), config.outer_optimizer, runs, L=L, mu=mu)
    over: dict[str, float | None] = {"outer_lr_w": None, "outer_lr_phi": None, "decay": None}
    if found.theorem == 1 and inner.xi is not None:
        left = decay(N, mu, L)
        over = {"outer_lr_w": mu**2 / left if left else math.inf, "outer_lr_phi": mu**3, "decay": left}
    elif found.theorem == 2 and N:
        over |= {"outer_lr_w": 1 / N, "outer_lr_phi": 1 / N}
    own = {"outer_optimizer": config.outer_optimizer, "outer_lr_w": config.outer_lr_w}
    own["outer_lr_phi"] = config.outer_lr_phi
    said = advice(L, mu) if found.theorem == 1 and inner.xi is not None else ""
    return {"conditions": asdict(found), "over_poly": over, "run": own, "advice": said}


def _predictions(setup: Setup, inner_steps: Iterable[int], kappa_L: float, kappa: float) -> list[dict[str, Any]]:
    rows = []
    for geometry, (n_w, n_phi) in _partitions(setup).items():
        for N in inner_steps:
            factor = predicted_factor(geometry, n_w, n_phi, N, math.inf if math.isnan(kappa_L) else kappa_L)
            rows.append(
                {"geometry": geometry, "inner_steps": N, "n_w": n_w, "n_phi": n_phi}
                | {
                    f"{algorithm}_entries": asdict(evaluations(algorithm, n_w, n_phi, N))
                    for algorithm in ("maml", "fomaml", "anil")
                }
                | {"factor": asdict(factor), "factor_condition": factor_condition(geometry, N, kappa)}
            )
    return rows


def _partitions(setup: Setup) -> dict[str, tuple[int, int]]:
    """(n_w, n_phi) of ANIL in each geometry on this model; a model with too few layers for one is left out."""
    sizes = {}
    for geometry, shape in registry.algorithms().get("anil").geometries.items():
        try:
            network = Network(setup.problem.network.module, shape.adapt)
        except InputError:
            continue
        sizes[geometry] = (network.n_w, network.n_phi)
    if setup.config.algo == "anil" and setup.config.geometry:
        sizes[setup.config.geometry] = (setup.problem.network.n_w, setup.problem.network.n_phi)
    return sizes


def _smoothness(
    setup: Setup,
    batch: TaskBatch,
    inner_steps: Iterable[int],
    inner: InnerConstants,
    L_all: float,
    lipschitz: Lipschitz,
    generator: torch.Generator,
) -> dict[str, Any]:
    """Measured for every N, and the bound of Proposition 2 or 3 with the constants as measured (so no proof)."""
    alpha, mu = setup.config.inner_lr, inner.mu.value
    strongly = setup.config.geometry == "convex" and inner.xi is not None
    # Assumption 1's L is in (w, phi), and at least that in w.
    L, sampled = max(inner.L.value, L_all), asdict(lipschitz)
    known = all(math.isfinite(value) for value in (L, *sampled.values()))
    bounded = known and (not strongly or alpha * L <= 1)
    rows = []
    for N in inner_steps:

        def gradient(w: Tensor, phi: Tensor, N: int = N) -> MetaGradient:
            return exact(setup.evaluator.oracle(w, phi, batch), N, alpha)

        row = {"inner_steps": N} | asdict(smoothness(gradient, setup.w, setup.phi, generator=generator))
        bound = None
        if bounded:
            bound = proposition_2(N, alpha, mu, L, **sampled) if strongly else proposition_3(N, alpha, L, **sampled)
        rows.append(row | {"bound": asdict(bound) if bound else None})
    fit = fit_decay([row["inner_steps"] for row in rows], [row["w"] for row in rows])
    measured = {"parameters": fit.parameters, "r_squared": fit.r_squared, "holds": fit.holds, "reason": fit.reason}
    proposition = {"proposition": 2 if strongly else 3, "alpha_L": alpha * L}
    return proposition | {
        "rows": rows,
        "decay": measured | {"predicted_rate": 1 - alpha * mu if strongly else None},
    }


def _finite(value: Any) -> Any:
    """``value`` with None for every number that JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
