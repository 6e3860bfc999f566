"""A person's own model, tasks and step size held to the witnesses: how it is seen, and every route to its gradient."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from harness.engines.agreement import Route
from harness.engines.engine import Engine
from harness.engines.peer import PeerEngine
from harness.errors import AlgorithmFailed, InputError, NotSupported
from harness.experiment.setup import CHECKED_TASKS, assemble, complete
from harness.problem.adapt import names_of
from harness.problem.algorithm import Algorithm
from harness.problem.chain import children_of
from harness.problem.cuts import Headless
from harness.problem.models import give_back
from harness.problem.partition import Network, partitioned
from harness.problem.tasks import TaskBatch, draw
from harness.proof.chosen import chosen
from harness.proof.config import ProofConfig
from harness.proof.float32 import TASKS, Cut, compared, installed_peers
from harness.proof.problems import SmallProblem
from harness.proof.table import compared as in_float64
from harness.proof.table import engines_of
from harness.proof.witnesses import plain
from harness.settings.config import RunConfig, validate
from harness.settings.resolve import Resolved, check_algo_options, given_for, resolve
from harness.strangers.blame import blamed
from harness.strangers.values import origin

#: where the best program is further off than this, in float32 most tasks meet kinks (ReLU, max-pool) at other points
#: than in float64, and two right programs may be as far apart as the gradient is long
_KINKS, _LOST = 1e-3, 1.0
#: relative error in float32 that is told in words
_WORTH_A_WORD = 0.01


def own_rows(
    config: RunConfig | ProofConfig,
    algorithms: Sequence[str | type[Algorithm]] | None,
    engines: Sequence[str | type[Engine]] | None,
    progress: Callable[[str], None],
    objects: Mapping[str, Any],
    origins: Mapping[str, str] | None,
) -> dict[str, Any]:
    """See :func:`harness.proof.verify`; ``views`` beside its rows says how each partition sees the model."""
    if isinstance(config, RunConfig) and config.norm_statistics == "joint":
        raise InputError(
            f"{origin('norm_statistics', origins)}: the module's own forward, which is the witness, knows no joint "
            f"statistics; allowed: separate"
        )
    kinds = chosen(algorithms)
    check_algo_options(kinds, config, origins)
    skipped: list[dict[str, str]] = []
    installed = list(engines_of(engines, skipped))
    views: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    refused: list[InputError] = []
    for kind in kinds:
        for geometry in kind.geometries:
            given = given_for(kind, config) | {"geometry": geometry, "dtype": "float32"}
            if "inner_steps" in config.model_fields_set:
                given["inner_steps"] = config.inner_steps
            run = resolve(validate(given, origins), **objects, origins=origins)
            progress(f"{kind.name} {geometry} on {run.benchmark.name}")
            try:
                with run.blamed():
                    _look(run, installed, views, rows, skipped, progress)
            except (InputError, AlgorithmFailed) as error:
                refused += [error] if isinstance(error, InputError) else []
                skipped.append(_skipped("*", run.algorithm, run, error))
    if refused and not views:
        raise refused[0]
    warnings = [line for row in rows if row["dtype"] == "float32" for line in _warned(row, views)]
    ok = all(row["ok"] for row in rows)
    return {"ok": ok, "views": views, "rows": rows, "skipped": skipped, "warnings": warnings}


def _warned(row: Mapping[str, Any], views: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What a person who trains in float32 should know."""
    if row["relative_error"] > _WORTH_A_WORD:
        name = f"{row['algorithm']} {row['geometry']}"
        view = next(view for view in views if name == f"{view['algorithm']} {view['geometry']}")
        yield (
            f"{name}: in float32 the meta-gradient of {row['engine']} is off by {row['relative_error']:.0%} at "
            f"alpha = {view['inner_lr']:g}, N = {view['inner_steps']}, on the typical task; a smaller --inner-lr or "
            f"--dtype float64 is closer"
        )


def _look(
    run: Resolved,
    engines: Sequence[type[Engine]],
    views: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    skipped: list[dict[str, str]],
    progress: Callable[[str], None],
) -> None:
    """Everything about one algorithm and geometry."""
    run, factory = complete(run)
    config, algorithm = run.config, run.algorithm
    tasks = min(config.meta_batch, TASKS)
    drawn = draw(run.benchmark, config, "train", 0, tasks, torch.device(config.device), torch.float32)
    batch = drawn.groups[0]  # of one size, where sizes differ
    first = batch.chunk(0, min(CHECKED_TASKS, batch.tasks))
    route = assemble(run, factory, first)
    try:
        views.append(_view(run, route))
        problem = _exact(run, route, first.double())
        inner = route.problem.inner
        network = partitioned(algorithm, problem.module, problem.adapt or "all", inner)
        expected = plain(algorithm, network, inner, problem.batch)[1]
        if not bool(expected.isfinite().all()):
            alpha, N = config.inner_lr, config.inner_steps
            raise NotSupported(f"the plain loop has no finite meta-gradient at alpha = {alpha:g}, N = {N}")
        for engine in engines:
            progress(f"{engine.name} {algorithm.name} {algorithm.geometry} in float64")
            try:
                with blamed(f"engine {engine.name}", NotSupported):
                    rows += in_float64(engine, algorithm, algorithm.geometry, problem, config.seed)
            except (NotSupported, AlgorithmFailed) as error:
                skipped.append(_skipped(engine.name, algorithm, run, error))
        progress(f"{algorithm.name} {algorithm.geometry} in float32")
        own = [engine for engine in engines if not issubclass(engine, PeerEngine)]
        rows += _float32(run, route, batch, own) if own else ()
    finally:
        give_back(route.problem.network.module)


def _exact(run: Resolved, route: Route, batch: TaskBatch) -> SmallProblem:
    config, problem = run.config, route.problem
    return SmallProblem(
        run.benchmark.name,
        run.loss,
        copy.deepcopy(problem.network.module).double(),
        batch,
        tuple(sorted({1, config.inner_steps})),
        config.inner_lr,
        config.adapt,
        problem.network.cut,
        problem.distrust,
        differences=False,
    )


def _float32(run: Resolved, route: Route, batch: TaskBatch, own: Sequence[type[Engine]]) -> Iterator[dict[str, Any]]:
    """How far float32 is off at the run's own alpha and N: native beside the best of the others."""
    config, problem = run.config, route.problem
    points = {"initial": problem.network.module}
    made = Cut(
        run.benchmark.name,
        run.loss,
        config.inner_lr,
        points,
        batch,
        config.inner_steps,
        config.adapt,
        problem.network.cut,
        problem.distrust,
    )
    for row in compared(made, "initial", run.algorithm, run.algorithm.geometry, own, _that_work(installed_peers())):
        if row["tolerance"] > _KINKS:
            row["tolerance"] = max(_LOST, row["tolerance"])
        yield row | {"ok": row["relative_error"] <= row["tolerance"]}


def _that_work(peers: Sequence[type[Engine]]) -> list[type[Engine]]:
    """``peers``, whose own faults on a model are no reason to know nothing of it."""

    def guarded(peer: type[Engine]) -> type[Engine]:
        class Guarded(peer):  # type: ignore[misc,valid-type]
            def meta_gradient(self, *arguments: Any, **named: Any) -> Any:
                with blamed(f"engine {self.name}", NotSupported):
                    return super().meta_gradient(*arguments, **named)

        return Guarded

    return [guarded(peer) for peer in peers]


def _view(run: Resolved, route: Route) -> dict[str, Any]:
    """How a partition sees the model: names of parameters, what is never trained, body and head, and the route."""
    network = route.problem.network
    module, trained = network.module, {slot.name for slot in (*network.w_slots, *network.phi_slots)}
    body, head = _parts(network)
    return {
        "algorithm": run.algorithm.name,
        "geometry": run.algorithm.geometry,
        "model": run.config.model,
        "benchmark": run.config.benchmark,
        "adapt": run.config.adapt,
        "inner_lr": run.config.inner_lr,
        "inner_steps": run.config.inner_steps,
        "n_w": network.n_w,
        "n_phi": network.n_phi,
        "w": [slot.name for slot in network.w_slots],
        "phi": [slot.name for slot in network.phi_slots],
        "frozen": [name for name, _ in module.named_parameters() if name not in trained],
        "tied": [names for names in names_of(module).values() if len(names) > 1],
        "buffers": [name for name, _ in module.named_buffers()],
        "body": body,
        "head": head,
        "strategy": route.engine.strategy,
        **route.words,
    }


def _parts(network: Network) -> tuple[str | None, str]:
    """Body and head in words; no body where nothing is computed once a task."""
    if isinstance(network.body, Headless):
        path = next(name for name, layer in network.module.named_modules() if layer is network.tail)
        return f"what enters {path!r}", f"{path} ({type(network.tail).__name__})"
    body = None if network.body is None else _layers(network.body)
    return body, type(network.tail).__name__ if network.tail is network.module else _layers(network.tail)


def _layers(part: nn.Module) -> str:
    return ", ".join(f"{name} ({type(child).__name__})" for name, child in children_of(part))


def _skipped(engine: str, algorithm: Algorithm, run: Resolved, error: Exception) -> dict[str, str]:
    where = {"engine": engine, "algorithm": algorithm.name, "geometry": algorithm.geometry}
    return {**where, "problem": run.benchmark.name, "reason": str(error)}
