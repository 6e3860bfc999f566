"""A cell of a timing table: one algorithm, N and engine on fixed tasks, ready to be evaluated."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from harness.engines.agreement import Seen
from harness.engines.chunks import TaskChunks
from harness.engines.engine import Engine, blamed
from harness.engines.native import Native
from harness.errors import InputError
from harness.experiment.setup import CHECKED_TASKS, DTYPES, assemble, complete
from harness.problem.benchmark import Benchmark
from harness.problem.nets import ModelFactory
from harness.problem.tasks import TaskBatch, draw
from harness.settings import registry
from harness.settings.config import TaskChunk, validate
from harness.settings.resolve import Resolved, given_for, resolve
from harness.timing.config import TimeConfig


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
    resolved: Resolved
    seen: Seen

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
            yield from self.batch.chunk(first, first + self.chunks.size).groups


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


def resolved_of(
    name: Name,
    config: TimeConfig,
    model: ModelFactory | None = None,
    benchmark: Benchmark | None = None,
    loss: Callable[..., Any] | None = None,
    origins: Mapping[str, str] | None = None,
) -> Resolved:
    """The cell called ``name`` as a run has it, with the benchmark's defaults where ``config`` sets nothing.

    Of the options of an algorithm it gets those that it has. Data may be missing. Raises :class:`InputError`.
    """
    given = given_for(registry.algorithms().get(name.algorithm), config) | {"benchmark": config.benchmark}
    given |= {"geometry": name.geometry, "inner_steps": name.inner_steps}
    given |= {"engine": name.engine, "strategy": name.strategy}
    return resolve(validate(given, origins), model=model, benchmark=benchmark, loss=loss, origins=origins, check=False)


def about(name: Name) -> Name:
    """Which cells are of the same model, partition and route as ``name``: N has no part in it."""
    return dataclasses.replace(name, inner_steps=1)


def make_cell(
    name: Name,
    resolved: Resolved,
    batch: TaskBatch,
    device: torch.device,
    task_chunk: TaskChunk | None = None,
    seen: dict[Name, Seen] | None = None,
) -> Cell:
    """Build the cell called ``name``; raises :class:`InputError` where its model or engine cannot.

    ``seen``: what was found when models were examined, by :func:`about`; added to.
    """
    seen = {} if seen is None else seen
    resolved, factory = complete(resolved)
    resolved.engine.require()
    route = assemble(resolved, factory, batch.chunk(0, CHECKED_TASKS).groups[0], seen.get(about(name)))
    seen[about(name)] = route.seen
    chunks = TaskChunks(task_chunk, batch.tasks, route.engine.tasks_at_once(batch.tasks, device))
    return Cell(name, route.engine, *route.problem.network.initial(), batch, chunks, resolved, route.seen)


def fixed_tasks(resolved: Resolved, device: torch.device) -> tuple[TaskBatch, str]:
    """The tasks that every cell gets, and whether they are the benchmark's own or random of its shape."""
    config, benchmark = resolved.config, resolved.benchmark
    dtype = DTYPES[config.dtype]
    missing = getattr(benchmark, "missing", lambda: None)()
    told_where = any(getattr(benchmark.options, place) for place in benchmark.places)
    if missing is None or told_where:  # and wrongly, which is no reason for other tasks
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
