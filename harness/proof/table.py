"""Runs every comparison of ``verify`` and collects its rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness.engines.comparison import cut_error, engine_error, oracle_error
from harness.engines.engine import Engine, Problem, blamed
from harness.engines.native import Native
from harness.errors import AlgorithmFailed, InputError, NotSupported
from harness.problem.algorithm import Algorithm
from harness.problem.autograd_oracle import AutogradOracle
from harness.problem.meta_loss import disagreement, error_of
from harness.problem.oracle import Inner, MetaGradient, Slot
from harness.problem.own_forward import own_forward
from harness.problem.partition import Network, partitioned
from harness.proof.chosen import chosen
from harness.proof.float32 import float32_rows
from harness.proof.problems import SmallProblem, small_problems
from harness.proof.witnesses import by_closed_form, by_finite_differences, by_plain_oracle, plain
from harness.settings.registry import engines as registered_engines

TOLERANCE = {
    "own_forward": 1e-9,
    "autograd": 1e-9,
    "closed_form": 1e-9,
    "plain_oracle": 1e-9,
    "finite_differences": 1e-6,
    "through_adapt": 1e-6,
}


def rows_of(
    algorithms: Sequence[str | type[Algorithm]] | None,
    engines: Sequence[str | type[Engine]] | None,
    seed: int,
    progress: Callable[[str], None] | None,
) -> dict[str, Any]:
    """See :func:`harness.proof.verify`."""
    kinds = chosen(algorithms)
    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    problems = small_problems(seed)
    installed = list(engines_of(engines, skipped))
    progress = progress or (lambda line: None)
    for engine in installed:
        for algorithm in kinds:
            for geometry in algorithm.geometries:
                for problem in problems:
                    progress(f"{engine.name} {algorithm.name} {geometry} on {problem.name}")
                    made = algorithm(geometry)
                    try:
                        rows += compared(engine, made, geometry, problem, seed)
                    except (NotSupported, AlgorithmFailed) as error:
                        skipped.append(_skipped(engine.name, made, problem, str(error)))
    rows += float32_rows(kinds, installed, seed, skipped, progress)
    if not rows:
        reasons = "; ".join(dict.fromkeys(entry["reason"] for entry in skipped))
        raise InputError(f"nothing to verify: {reasons}")
    for algorithm in kinds:
        for geometry in algorithm.geometries if algorithm.derivative != "exact" else ():
            skipped += _unclaimed(algorithm(geometry), problems)
    return {"ok": all(row["ok"] for row in rows), "rows": rows, "skipped": skipped}


def engines_of(asked: Sequence[str | type[Engine]] | None, skipped: list[dict[str, str]]) -> Iterator[type[Engine]]:
    """Those that were ``asked`` for, else all that are installed; the others are added to ``skipped``."""
    registry = registered_engines()
    for item in asked or registry.names():
        engine = registry.get(item) if isinstance(item, str) else item
        try:
            engine.require()
        except NotSupported as error:
            if asked:
                raise
            skipped.append({"engine": engine.name, "algorithm": "*", "geometry": "*", "reason": str(error)})
            continue
        yield engine


def compared(
    engine: type[Engine], algorithm: Algorithm, geometry: str, problem: SmallProblem, seed: int
) -> Iterator[dict[str, Any]]:
    """The rows of one engine, algorithm and problem: the worst error over N for each strategy and witness."""
    adapt = problem.adapt or algorithm.geometries[geometry].adapt
    # Without second-order terms all strategies are one.
    strategies = ("auto",) if algorithm.derivative == "first_order" else engine.strategies
    refusals = []
    for strategy in strategies:
        worst: dict[str, float] = {}
        try:
            for steps in problem.inner_steps:
                inner = Inner(problem.loss, steps, problem.inner_lr, algorithm.l2)
                network = partitioned(algorithm, problem.module, adapt, inner, problem.cut)
                made = engine(Problem(algorithm, network, inner, problem.distrust), strategy)
                gradient, _ = made.meta_gradient(*network.initial(), problem.batch)
                for witness, error in _errors(algorithm, network, inner, problem, gradient.w, gradient.phi, seed):
                    worst[witness] = max(worst.get(witness, 0.0), error)
            of = Problem(algorithm, network, inner, problem.distrust)
            worst["own_forward"] = _from_own_forward(engine, strategy, of, problem)
        except AlgorithmFailed:
            by_plain_oracle(
                algorithm, network, inner, problem.batch
            )  # raises where the rule cannot do this problem at all
            worst = {"plain_oracle": float("inf")}
        except NotSupported as refusal:
            refusals.append(refusal)
            continue  # the engine may have another strategy for such a model
        for witness, error in worst.items():
            yield {
                "algorithm": algorithm.name,
                "geometry": geometry,
                "engine": engine.name,
                "strategy": made.strategy,
                "problem": problem.name,
                "witness": witness,
                "relative_error": error,
                "tolerance": TOLERANCE[witness],
                "ok": error <= TOLERANCE[witness],
                "dtype": "float64",
                "peer": None,
            }
    if len(refusals) == len(strategies):
        raise refusals[-1]


def _from_own_forward(engine: type[Engine], strategy: str, of: Problem, problem: SmallProblem) -> float:
    """Error of cut, oracle and meta-gradient against the module's own forward, as before every run."""
    inner = dataclasses.replace(of.inner, inner_steps=1)
    own = own_forward(of.network, inner, problem.batch, of.algorithm.derivative != "first_order")
    at_one = dataclasses.replace(of, inner=inner)
    made = engine(at_one, strategy)
    errors = [cut_error(of.network, own, problem.batch), engine_error(made, own, problem.batch)]
    if isinstance(made, Native):
        errors.append(oracle_error(Native(at_one, "recursion"), own, problem.batch))
    return max(errors)


def _errors(
    algorithm: Algorithm, network: Network, inner: Inner, problem: SmallProblem, w: Tensor, phi: Tensor, seed: int
) -> Iterator[tuple[str, float]]:
    module, batch = problem.module, problem.batch
    found = torch.cat([w, phi])
    witness, expected = plain(algorithm, network, inner, batch)
    yield witness, _relative(found, expected)
    if witness == "plain_oracle":
        if algorithm.derivative == "exact":
            yield "through_adapt", _off(algorithm, network, inner, problem, MetaGradient(w, phi))
        return
    first_order = algorithm.derivative == "first_order"
    if not problem.differences:
        return
    names = [slot.name for slot in network.w_slots]
    generator = torch.Generator().manual_seed(seed)
    directions = [found / found.norm().clamp_min(1e-30)]
    for _ in range(2):
        random = torch.randn(len(found), dtype=found.dtype, generator=generator)
        directions.append(random / random.norm())
    slopes = partial(by_finite_differences, module, names, inner, batch, first_order, directions)
    yield "finite_differences", error_of(torch.stack([found @ direction for direction in directions]), slopes)
    if problem.name == "quadratic":
        columns = _columns(network.w_slots), _columns(network.phi_slots)
        exact = by_closed_form(*network.initial(), inner, batch, columns, first_order)
        yield "closed_form", _relative(found, torch.cat(exact))


def _off(
    algorithm: Algorithm, network: Network, inner: Inner, problem: SmallProblem, gradient: MetaGradient | None = None
) -> float:
    """Error of ``gradient``, or of the rule on the plain oracle, against L_meta through the algorithm's ``adapt``."""

    def oracle_at(w: Tensor, phi: Tensor) -> AutogradOracle:
        return AutogradOracle(network, inner, w, phi, problem.batch)

    with blamed(algorithm):
        return disagreement(algorithm, oracle_at, *network.initial(), inner.inner_steps, inner.inner_lr, gradient)


def _unclaimed(algorithm: Algorithm, problems: Sequence[SmallProblem]) -> Iterator[dict[str, str]]:
    """What a rule that claims no exact derivative is to L_meta, measured: entries of ``skipped``."""
    for problem in problems:
        inner = Inner(problem.loss, problem.inner_steps[-1], problem.inner_lr, algorithm.l2)
        network = partitioned(algorithm, problem.module, algorithm.geometries[algorithm.geometry].adapt, inner)
        try:
            error = _off(algorithm, network, inner, problem)
        except (NotSupported, AlgorithmFailed):
            continue  # the engines' entries say so
        if error > TOLERANCE["through_adapt"]:
            found = f"no gradient of L_meta, off by {error:.2g} from central differences of it, and claims none"
        else:
            found = "the gradient of L_meta by central differences, and does not claim it"
        yield _skipped("*", algorithm, problem, f"{found} (derivative = {algorithm.derivative!r})")


def _skipped(engine: str, algorithm: Algorithm, problem: SmallProblem, reason: str) -> dict[str, str]:
    where = {"engine": engine, "algorithm": algorithm.name, "geometry": algorithm.geometry, "problem": problem.name}
    return {**where, "reason": reason}


def _columns(slots: tuple[Slot, ...]) -> list[int]:
    """Input columns that parameters of the coupled linear model see: the shared ones come first."""
    at = {"shared.weight": 0, "head.weight": 3}
    return [at[slot.name] + offset for slot in slots for offset in range(slot.shape.numel())]


def _relative(found: Tensor, expected: Tensor) -> float:
    error = float((found - expected).norm() / expected.norm().clamp_min(1e-30))
    return error if error == error else float("inf")
