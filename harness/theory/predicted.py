"""What the bounds say of one configuration: step sizes, entries of every algorithm, and smoothness beside its bound."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from harness.errors import InputError
from harness.experiment.setup import Setup
from harness.problem.curvature import InnerConstants
from harness.problem.meta_gradient import exact
from harness.problem.oracle import MetaGradient
from harness.problem.partition import Network
from harness.problem.tasks import TaskBatch
from harness.settings import registry
from harness.settings.config import RunConfig
from harness.theory.bounds import decay, evaluations, predicted_factor
from harness.theory.conditions import Steps, advice, conditions, factor_condition, outer_loop
from harness.theory.fits import fit_decay
from harness.theory.lipschitz import Lipschitz
from harness.theory.propositions import proposition_2, proposition_3
from harness.theory.smoothness import smoothness


def step_sizes(config: RunConfig, inner: InnerConstants) -> dict[str, Any]:
    """The theorem's conditions on this configuration, and beta without the polynomials, whose values are not known."""
    L, mu, N = inner.L.value, inner.mu.value, config.inner_steps
    runs = [Steps(N, config.inner_lr, config.outer_lr_w, config.outer_lr_phi)]
    found = conditions(config.algo, str(config.geometry), outer_loop(config.model_dump()), runs, L=L, mu=mu)
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


def predictions(setup: Setup, inner_steps: Iterable[int], kappa_L: float, kappa: float) -> list[dict[str, Any]]:
    """Entries of MAML, FOMAML and ANIL in each geometry, and by how many times fewer ANIL's are, by N."""
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


def smoothness_rows(
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
