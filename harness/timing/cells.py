"""A cell of a timing table: one algorithm, N and engine on fixed tasks, ready to be evaluated."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from harness import registry
from harness.draw import draw
from harness.engines.agreement import examined
from harness.engines.chunks import TaskChunks
from harness.engines.engine import Engine, Problem, blamed
from harness.engines.native import Native
from harness.errors import InputError
from harness.problem.benchmark import Benchmark
from harness.problem.losses import stated
from harness.problem.models import build, check_options, load_factory
from harness.problem.objective import loaded
from harness.problem.oracle import Inner
from harness.problem.partition import Network
from harness.problem.tasks import TaskBatch
from harness.setup import DTYPES
from harness.timing.config import TimeConfig

#: what was found of the models that were examined in this process
_SEEN: dict[tuple[object, ...], tuple[bool, str]] = {}


@dataclass(frozen=True)
class Name:
    """Which cell it is."""

    algorithm: str
    geometry: str
    inner_steps: int
    engine: str
    strategy: str


@dataclass
class Cell:
    """An engine with its problem, parameters and tasks."""

    name: Name
    engine: Engine
    w: Tensor
    phi: Tensor
    batch: TaskBatch
    chunks: TaskChunks
    #: whether its network is cut, and why its layers are not written out, if they are not
    seen: tuple[bool, str]

    def meta_gradient(self) -> None:
        """Evaluate once."""
        self.chunks.meta_gradient(self.engine, self.w, self.phi, self.batch)

    @cached_property
    def kinds(self) -> set[str]:
        """The kinds of evaluation that the algorithm's rule asks the native oracle for, seen on the first task."""
        assert isinstance(self.engine, Native)
        algorithm, inner = self.engine.problem.algorithm, self.engine.problem.inner
        oracle = self.engine.oracle(self.w, self.phi, self.batch.chunk(0, 1))
        with blamed(algorithm):
            algorithm.meta_gradient(oracle, inner.inner_steps, inner.inner_lr)
        return oracle.made

    def chunked(self) -> Iterator[TaskBatch]:
        """The tasks as they are evaluated together, one chunk after the other."""
        for first in range(0, self.batch.tasks, self.chunks.size):
            yield self.batch.chunk(first, first + self.chunks.size)


def names(config: TimeConfig) -> list[Name]:
    """Every combination that ``config`` asks for; raises :class:`InputError` for names that are not there."""
    result = []
    for item in config.algo:
        algorithm_name, _, geometry = item.partition(":")
        algorithm = registry.algorithms().get(algorithm_name)
        geometry = geometry or next(iter(algorithm.geometries))
        if geometry not in algorithm.geometries:
            allowed = ", ".join(f"{algorithm_name}:{name}" for name in algorithm.geometries)
            raise InputError(f"algo {item!r}: there is no such geometry; allowed: {allowed}")
        for steps in config.inner_steps:
            if steps < 0:
                raise InputError(f"inner_steps {steps}: allowed: integers >= 0")
            for engine in config.engine:
                registry.engines().get(engine)
                for strategy in config.strategy if engine == "native" else ("auto",):
                    result.append(Name(algorithm_name, geometry, steps, engine, strategy))
    return result


def make_cell(
    name: Name,
    config: TimeConfig,
    benchmark: Benchmark,
    batch: TaskBatch,
    device: torch.device,
    seen: tuple[bool, str] | None = None,
) -> Cell:
    """Build the cell called ``name``; raises :class:`NotSupported` where its engine cannot.

    ``seen``: what was found when its model was examined, where it was.
    """
    algorithm = registry.algorithms().get(name.algorithm)(name.geometry)
    options = check_options(benchmark.model, {**benchmark.model_options, **config.model_options})
    module = build(
        load_factory(benchmark.model),
        benchmark.input_shape,
        benchmark.outputs(config.ways),
        options,
        seed=config.seed,
        device=device,
        dtype=batch.support_x.dtype,
    )
    network = Network(module, algorithm.geometries[name.geometry].adapt)
    inner = Inner(loaded(stated(benchmark, config)), name.inner_steps, config.inner_lr, algorithm.l2)
    kind = registry.engines().get(name.engine)
    kind.require()
    problem = Problem(algorithm, network, inner)
    if seen is None:  # N has no part in it
        about = (dataclasses.replace(name, inner_steps=1), config.model_dump_json(exclude={"inner_steps"}), str(device))
        if about not in _SEEN:
            outputs, second_order = benchmark.outputs(config.ways), algorithm.derivative != "first_order"
            route = examined(problem, kind, name.strategy, batch.chunk(0, 2), outputs, second_order, benchmark.model)
            _SEEN[about] = route.problem.network.cut, route.problem.distrust
        seen = _SEEN[about]
    problem = dataclasses.replace(problem, network=network if seen[0] else network.whole(), distrust=seen[1])
    engine = kind(problem, name.strategy)
    chunks = TaskChunks(config.task_chunk, batch.tasks, engine.tasks_at_once(batch.tasks, device))
    return Cell(name, engine, *network.initial(), batch, chunks, seen)


def fixed_tasks(config: TimeConfig, benchmark: Benchmark, device: torch.device) -> tuple[TaskBatch, str]:
    """The tasks that every cell gets, and whether they are the benchmark's own or random of its shape."""
    dtype = DTYPES[config.dtype]
    missing = getattr(benchmark, "missing", lambda: None)()
    if missing is None:
        benchmark.check(config.ways, config.shots, config.queries)
        batch = draw(benchmark, config, "train", 0, config.meta_batch, device, dtype)
        return batch, f"tasks of {benchmark.name}"
    generator = torch.Generator().manual_seed(config.seed)

    def random(each: int) -> tuple[Tensor, Tensor]:
        shape = (config.meta_batch, config.ways * each, *benchmark.input_shape)
        labels = torch.arange(config.ways).repeat_interleave(each).expand(config.meta_batch, -1)
        return torch.rand(shape, generator=generator).to(device, dtype), labels.to(device)

    batch = TaskBatch(*random(config.shots), *random(config.queries))
    return batch, f"random tensors of the shape of {benchmark.name} ({missing})"
