"""Section 3's guidelines for a model and its tasks, beside what some meta-gradients say: ``harness theory --advise``.

The theorems choose step sizes and N by orders whose polynomials they leave open. What stands beside them here is
measured at the initialisation, on the first B training tasks, for ANIL in each geometry that the model has:

- alpha = 1/L with the largest L that the inner loop meets on its way, so that no step overshoots;
- the descent lemma by block: S_b is the norm of the Hessian of L_meta in block b, and where L_meta is convex its
  Hessian is at most twice its blocks on the diagonal. With beta_b = 1/(2 S_b) a meta-iteration then lowers L_meta by
  |grad_b|^2 / (4 S_b) of each block, and a loss is not below 0, so K(epsilon) <= 4 L_meta max_b S_b / epsilon. N is
  where that times the seconds of a meta-gradient is least;
- lambda, the largest that costs at most 1 % of L_meta.

All of it is about full gradient descent near the initialisation; Adam has other steps, and training moves L and S.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch

from harness.errors import InputError
from harness.experiment.setup import Setup, set_up
from harness.measure.clocks import seconds_of
from harness.problem.curvature import curvature, inner_constants, largest_eigenvalue
from harness.problem.meta_gradient import exact
from harness.problem.oracle import MetaGradient, Oracle
from harness.problem.tasks import TaskBatch, draw
from harness.settings import registry
from harness.settings.resolve import Resolved
from harness.theory.bounds import decay
from harness.theory.predicted import step_sizes
from harness.theory.smoothness import block_norms

#: the N that are looked at
STEPS = (1, 2, 3, 5, 10)
#: the lambda that are looked at where the geometry is convex
LAMBDAS = (0.0, 1e-4, 1e-3, 1e-2, 1e-1)
_SPENT = 0.01
_ROUNDS, _LANCZOS, _TOLERANCE, _HALVINGS = 3, 6, 0.1, 20


@dataclass(frozen=True)
class Probe:
    """ANIL at the initialisation with one N and the advised alpha: L_meta, its smoothness by block, and its price."""

    inner_steps: int
    loss: float
    smoothness_w: float
    smoothness_phi: float
    #: of a meta-gradient on B tasks in the run's dtype, median of interleaved rounds
    seconds: float

    @property
    def seconds_over_epsilon(self) -> float:
        """Seconds of K(epsilon) meta-iterations, times epsilon, by the descent lemma; infinite for no number."""
        value = self.seconds * 4 * self.loss * max(self.smoothness_w, self.smoothness_phi)
        return value if value >= 0 else math.inf


def advise(asked: Callable[[dict[str, Any]], Resolved]) -> dict[str, Any]:
    """For each geometry of ANIL: what was measured at each N, what follows, and what the theorem would choose.

    ``asked``: the configuration of the run, resolved with changes. Returns ``{"geometries": {NAME: {...}},
    "geometry": the one of least time}`` for JSON; a geometry that the model does not have says why under ``refused``.
    """
    found: dict[str, Any] = {}
    for geometry in registry.algorithms().get("anil").geometries:
        own = asked({}).config
        changes: dict[str, Any] = {"algo": "anil", "geometry": geometry}
        if (own.algo, own.geometry) != ("anil", geometry):
            changes |= {"adapt": None, "algo_options": {}}
        try:
            found[geometry] = _of_geometry(asked, changes)
        except InputError as error:
            found[geometry] = {"refused": str(error)}
    times = {name: part["seconds_over_epsilon"] for name, part in found.items() if "refused" not in part}
    finite = [name for name, value in times.items() if math.isfinite(value)]
    return {"geometries": found, "geometry": min(finite, key=lambda name: times[name], default=None)}


def _of_geometry(asked: Callable[[dict[str, Any]], Resolved], changes: dict[str, Any]) -> dict[str, Any]:
    resolved = asked(changes | {"dtype": "float64"})
    setup, as_run = set_up(resolved), set_up(asked(changes))
    batch = first_tasks(resolved, setup)
    config, most = setup.config, max(STEPS)
    oracle = setup.evaluator.oracle(setup.w, setup.phi, batch)
    alpha, L = contracting(oracle, most)
    seconds = _seconds(as_run, first_tasks(resolved, as_run))
    probes = [_probe(setup, batch, N, alpha, seconds[N]) for N in STEPS]
    best = min(probes, key=lambda probe: probe.seconds_over_epsilon)
    return {
        "alpha_L": config.inner_lr * max(curvature_along(oracle, config.inner_steps, config.inner_lr)),
        "probes": [asdict(probe) | {"seconds_over_epsilon": probe.seconds_over_epsilon} for probe in probes],
        "seconds_over_epsilon": best.seconds_over_epsilon,
        "L": L,
        "measured": {
            "inner_steps": best.inner_steps,
            "inner_lr": alpha,
            "outer_lr_w": _half_over(best.smoothness_w),
            "outer_lr_phi": _half_over(best.smoothness_phi),
            "lambda": _lambda(asked, changes, batch, best.inner_steps, alpha),
        },
        "theorem": _theorem(resolved, setup, oracle, seconds),
        "run": {
            "inner_steps": config.inner_steps,
            "inner_lr": config.inner_lr,
            "outer_lr_w": config.outer_lr_w,
            "outer_lr_phi": config.outer_lr_phi,
            "lambda": resolved.algorithm.l2,
            "outer_optimizer": config.outer_optimizer,
        },
    }


def first_tasks(resolved: Resolved, setup: Setup) -> TaskBatch:
    """The first B training tasks, of one size where sizes differ."""
    tasks = setup.config.meta_batch
    drawn = draw(resolved.benchmark, setup.config, "train", 0, tasks, setup.device, setup.w.dtype)
    return drawn.groups[0]


def _theorem(resolved: Resolved, setup: Setup, oracle: Oracle, seconds: Mapping[int, float]) -> dict[str, Any]:
    """What Theorem 1 or 2 takes with its polynomials as 1 and L and mu as they are at the initialisation."""
    generator = torch.Generator().manual_seed(0)
    inner = inner_constants([curvature(oracle, oracle.initial().detach(), generator=generator)])
    L, mu = inner.L.value, inner.mu.value
    N = min(seconds, key=lambda n: seconds[n] * n)  # K of order N
    if setup.config.geometry == "convex":
        if inner.xi is None:
            return {"L": L, "mu": mu}
        N = min(seconds, key=lambda n: seconds[n] * (decay(n, mu, L) + L / mu))
    of = step_sizes(setup.config.model_copy(update={"inner_steps": N}), inner)
    betas = {name: of["over_poly"][name] for name in ("outer_lr_w", "outer_lr_phi")}
    return {"L": L, "mu": mu, "inner_steps": N, "inner_lr": of["conditions"]["alpha"], **betas}


def curvature_along(oracle: Oracle, inner_steps: int, inner_lr: float) -> list[float]:
    """L at each iterate w_0 .. w_N of the inner loop, the largest over tasks (a few Lanczos steps: lower bounds)."""
    generator = torch.Generator().manual_seed(0)
    w, found = oracle.initial().detach(), []
    for _ in range(inner_steps + 1):
        found.append(float(largest_eigenvalue(oracle, w, generator=generator).max()))
        w = w - inner_lr * oracle.inner_gradient(w).detach()
    return found


def contracting(oracle: Oracle, inner_steps: int) -> tuple[float, float]:
    """alpha = 1/L with the largest L along the loop of ``inner_steps`` steps of that very alpha, and that L."""
    L = curvature_along(oracle, 0, 0.0)[0]
    for _ in range(_HALVINGS):
        met = curvature_along(oracle, inner_steps, 1 / L) if L > 0 else [math.nan]
        largest = max(met) if all(map(math.isfinite, met)) else math.inf
        if largest <= L * (1 + _TOLERANCE):
            return 1 / L, L
        L = min(largest, 2 * L)
    return math.nan, math.nan


def _seconds(setup: Setup, batch: TaskBatch) -> dict[int, float]:
    """Of a meta-gradient at every N, in rounds; the first of them is not kept."""
    algorithm = setup.problem.algorithm
    times: dict[int, list[float]] = {N: [] for N in STEPS}
    for _ in range(_ROUNDS + 1):
        for N, taken in times.items():

            def step(N: int = N) -> None:
                oracle = setup.evaluator.oracle(setup.w, setup.phi, batch)
                algorithm.meta_gradient(oracle, N, setup.config.inner_lr)

            taken.append(seconds_of(step, setup.device))
    return {N: median(taken[1:]) for N, taken in times.items()}


def _probe(setup: Setup, batch: TaskBatch, N: int, alpha: float, seconds: float) -> Probe:
    def gradient(w: torch.Tensor, phi: torch.Tensor) -> MetaGradient:
        return exact(setup.evaluator.oracle(w, phi, batch), N, alpha)

    norm = block_norms(
        gradient,
        setup.w,
        setup.phi,
        generator=torch.Generator().manual_seed(0),
        steps=_LANCZOS,
        tolerance=_TOLERANCE,
    )
    return Probe(N, _loss(setup, batch, N, alpha), norm(0, (0,))[0], norm(1, (1,))[0], seconds)


def _loss(setup: Setup, batch: TaskBatch, N: int, alpha: float) -> float:
    """L_meta at the initialisation: the mean of L_D(w_N)."""
    oracle = setup.evaluator.oracle(setup.w, setup.phi, batch)
    return float(oracle.evaluate(setup.problem.algorithm.adapt(oracle, N, alpha).detach()).loss.mean())


def _lambda(
    asked: Callable[[dict[str, Any]], Resolved], changes: dict[str, Any], batch: TaskBatch, N: int, alpha: float
) -> float | None:
    """The largest lambda whose L_meta is within 1 % of the least; None in a geometry without one."""
    if changes["geometry"] != "convex":
        return None
    losses = []
    for value in LAMBDAS:
        setup = set_up(asked(changes | {"dtype": "float64", "algo_options": {"l2": value}}))
        losses.append(_loss(setup, batch, N, alpha))
    enough = min(losses) * (1 + _SPENT)
    return max(value for value, loss in zip(LAMBDAS, losses, strict=True) if loss <= enough)


def _half_over(smoothness: float) -> float:
    return 1 / (2 * smoothness) if smoothness > 0 else math.inf
