"""Float32, in which everybody trains: how far programs are from float64 on real tasks, and how far an engine may be."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.engines.engine import Engine, Problem
from harness.engines.peer import PeerEngine
from harness.errors import AlgorithmFailed, InputError, NotSupported
from harness.problem.algorithm import Algorithm
from harness.problem.losses import Loss
from harness.problem.models import build, load_factory
from harness.problem.oracle import Inner
from harness.problem.partition import partitioned
from harness.problem.tasks import TaskBatch, draw
from harness.proof.witnesses import by_autograd, plain
from harness.settings.config import RunConfig
from harness.settings.registry import benchmarks, engines
from harness.settings.resolve import resolve

CPU = torch.device("cpu")
TASKS, STEPS, FILTERS = 7, 2, 4
#: an engine may be this many times as far off as the best of the others
MARGIN = 2.0
#: below this an error is that of rounding the result, and the ratio of two of them says nothing
FLOOR = 16 * torch.finfo(torch.float32).eps
#: a later point: meta-iterations of FOMAML, their tasks, and a step of Adam that is large, since they are few
ITERATIONS, META_BATCH, OUTER_LR = 10, 2, 0.02


@dataclass(frozen=True)
class Cut:
    """A few held-out tasks of a benchmark in float32, and its model, with few filters, at two points of training."""

    benchmark: str
    loss: Loss | str
    inner_lr: float
    points: dict[str, nn.Module]
    batch: TaskBatch
    inner_steps: int = STEPS
    adapt: str | None = None
    #: how a run would go about it, see :mod:`harness.engines.agreement`
    cut: str = "layers"
    distrust: str = ""


@dataclass(frozen=True)
class Measured:
    """One program's relative errors, ``[tasks]``, and the strategy that it took."""

    strategy: str
    of_tasks: Tensor

    @property
    def typical(self) -> float:
        """The median over tasks, which no kink moves that a few tasks meet; infinite where a gradient is not finite."""
        median = float(self.of_tasks.median())
        return median if math.isfinite(median) else math.inf


def cut(benchmark: str, seed: int, filters: int = FILTERS, tasks: int = TASKS) -> Cut:
    """Tasks of full size, since what float32 loses grows with the length of sums; raises InputError without data."""
    config = RunConfig(benchmark=benchmark, seed=seed, inner_steps=STEPS, model_options={})
    resolved = resolve(config)
    config, source = resolved.config, resolved.benchmark
    options = config.model_options | ({"filters": filters} if config.model == "cnn" else {})
    factory, outputs = load_factory(config.model or source.model), source.outputs(config.ways)
    module = build(factory, source.input_shape, outputs, options, seed=seed, device=CPU, dtype=torch.float32)
    inner = Inner(source.loss, STEPS, config.inner_lr)

    def training(iteration: int) -> TaskBatch:
        return draw(source, config, "train", META_BATCH * iteration, META_BATCH, CPU, torch.float64).groups[0]

    points = {"initial": module, "trained": _trained(module, inner, training)}
    batch = draw(source, config, "test", 0, tasks, CPU, torch.float32).groups[0]
    return Cut(benchmark, source.loss, config.inner_lr, points, batch)


def _trained(module: nn.Module, inner: Inner, batch: Callable[[int], TaskBatch]) -> nn.Module:
    """``module`` after a few meta-iterations in float64, so that every machine comes to the same point."""
    module = copy.deepcopy(module).double()
    names = [name for name, _ in module.named_parameters()]
    optimizer = torch.optim.Adam(module.parameters(), lr=OUTER_LR)
    for iteration in range(ITERATIONS):
        gradient, _ = by_autograd(module, names, inner, batch(iteration), first_order=True)
        sizes = [parameter.numel() for parameter in module.parameters()]
        for parameter, part in zip(module.parameters(), gradient.split(sizes), strict=True):
            parameter.grad = part.view_as(parameter)
        optimizer.step()
    return module.float()


def errors(
    made: Cut, point: str, algorithm: Algorithm, geometry: str, programs: Sequence[type[Engine]]
) -> tuple[str, dict[str, Measured]]:
    """The witness, and relative errors ``[tasks]`` against it of ``programs`` and of its own loop, all in float32.

    The witness takes the same parameters and images, exactly, to float64. A program that does not support the problem
    is left out. One task at a time: a kink (ReLU, max-pool) that rounding turns over moves the meta-gradient of one
    task by 1e-4 to 1, in any program, and what is left of the others' errors is rounding.
    """
    inner = Inner(made.loss, made.inner_steps, made.inner_lr, algorithm.l2)
    adapt = made.adapt or algorithm.geometries[geometry].adapt
    tasks = [made.batch.chunk(task, task + 1) for task in range(made.batch.tasks)]
    network = partitioned(algorithm, made.points[point], adapt, inner, made.cut)
    exactly = partitioned(algorithm, copy.deepcopy(network.module).double(), adapt, inner)
    expected = [plain(algorithm, exactly, inner, task.double())[1] for task in tasks]
    witness = plain(algorithm, network, inner, tasks[0])[0]
    found = {witness: ("unrolled", [plain(algorithm, network, inner, task)[1] for task in tasks])}
    for program in programs:
        try:
            engine = program(Problem(algorithm, network, inner, made.distrust))
            gradients = [engine.meta_gradient(*network.initial(), task)[0] for task in tasks]
        except NotSupported:
            continue
        flat = [torch.cat([gradient.w, gradient.phi]).detach() for gradient in gradients]
        found[program.name] = engine.strategy, flat
    reference = torch.stack(expected)
    scale = reference.norm(dim=1).clamp_min(1e-30)
    return witness, {
        name: Measured(strategy, (torch.stack(flat).double() - reference).norm(dim=1) / scale)
        for name, (strategy, flat) in found.items()
    }


def float32_rows(
    algorithms: Sequence[type[Algorithm]],
    chosen: Sequence[type[Engine]],
    seed: int,
    skipped: list[dict[str, str]],
    progress: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """A row for every engine of ``chosen`` that is no peer: its error may be :data:`MARGIN` times the best peer's.

    The peers are the witness's own loop in float32, which is always there, and the installed libraries. An engine
    whose sums lose digits is off on every task, and fails; where it only meets other kinks than its peers it does not,
    as long as that is less than half of the tasks: few filters and steps make kinks few. Tasks, images and with them
    the rows that are summed over are as many as in a run.
    """
    own = [engine for engine in chosen if not issubclass(engine, PeerEngine)]
    if not own:
        return
    peers = installed_peers()
    for name in benchmarks().names():
        try:
            made = cut(name, seed)
        except InputError as error:
            skipped.append({"engine": "*", "algorithm": "*", "geometry": "*", "problem": name, "reason": str(error)})
            continue
        for algorithm in algorithms:
            for geometry in algorithm.geometries:
                for point in made.points:
                    progress(f"float32 {algorithm.name} {geometry} on {name}, {point}")
                    try:
                        yield from compared(made, point, algorithm(geometry), geometry, own, peers)
                    except (AlgorithmFailed, InputError, NotSupported) as error:
                        where = {"engine": "*", "algorithm": algorithm.name, "geometry": geometry, "problem": name}
                        skipped.append({**where, "reason": str(error)})


def installed_peers() -> list[type[Engine]]:
    """The engines on other people's libraries that can be imported here."""
    found: list[type[Engine]] = []
    for name in engines().names():
        engine = engines().get(name)
        with suppress(NotSupported):
            engine.require()
            found += [engine] if issubclass(engine, PeerEngine) else []
    return found


def compared(
    made: Cut,
    point: str,
    algorithm: Algorithm,
    geometry: str,
    own: Sequence[type[Engine]],
    peers: Sequence[type[Engine]],
) -> Iterator[dict[str, Any]]:
    """A row for each of ``own`` that supports the problem, see :func:`float32_rows`."""
    witness, found = errors(made, point, algorithm, geometry, [*own, *peers])
    of_peers = {name: found[name].typical for name in (witness, *(peer.name for peer in peers)) if name in found}
    best = min(of_peers, key=lambda name: of_peers[name])
    tolerance = max(FLOOR, MARGIN * of_peers[best])
    for engine in own:
        if engine.name in found:
            error = found[engine.name].typical
            yield {
                "algorithm": algorithm.name,
                "geometry": geometry,
                "engine": engine.name,
                "strategy": found[engine.name].strategy,
                "problem": f"{made.benchmark} {point}",
                "witness": witness,
                "relative_error": error,
                "tolerance": tolerance,
                "ok": error <= tolerance,
                "dtype": "float32",
                "peer": best,
            }
