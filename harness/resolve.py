"""From a RunConfig to everything concrete: plugins, their options, defaults filled in. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from harness import registry
from harness.config import RunConfig, explain, origin, validate
from harness.errors import HarnessError, InputError

if TYPE_CHECKING:
    from harness.engines.engine import Engine
    from harness.problem.algorithm import Algorithm
    from harness.problem.benchmark import Benchmark
    from harness.problem.models import ModelFactory


@dataclass(frozen=True)
class Resolved:
    """A configuration without gaps, and the plugins that it names."""

    config: RunConfig
    algorithm: Algorithm
    benchmark: Benchmark
    engine: type[Engine]
    #: given as a Python object; None: ``config.model`` names it
    factory: ModelFactory | None = None
    #: names of what was given as Python objects instead of by name
    objects: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def directory(self) -> str:
        """Name of the run directory, up to the key."""
        c = self.config
        task = f"{c.ways}w{c.shots}s"
        return f"{c.algo}-{c.geometry}_{c.benchmark}_{task}_N{c.inner_steps}_s{c.seed}"


def resolve(
    config: RunConfig,
    *,
    model: ModelFactory | None = None,
    benchmark: Benchmark | None = None,
    algorithm: type[Algorithm] | None = None,
    origins: Mapping[str, str] | None = None,
) -> Resolved:
    """Look up the plugins of ``config``, check it against them, and fill in what it leaves open.

    ``model``, ``benchmark`` and ``algorithm`` replace what ``config`` names. Raises
    :class:`InputError`; ``origins`` says where a key was given (see :func:`harness.config.validate`).
    """
    given = {"model": model, "benchmark": benchmark, "algorithm": algorithm}
    objects = tuple(name for name, value in given.items() if value is not None)
    with blame("algo", origins):
        algorithm_type = algorithm or registry.algorithms().get(config.algo)
    with blame("benchmark", origins):
        benchmark_type = type(benchmark) if benchmark is not None else registry.benchmarks().get(config.benchmark)
    with blame("engine", origins):
        engine_type = registry.engines().get(config.engine)
    with blame("strategy", origins):
        check_strategy(engine_type, config.strategy)

    values = _with_defaults(config, benchmark_type)
    values |= {"algo": algorithm_type.name, "benchmark": benchmark_type.name}
    geometry = values["geometry"] or next(iter(algorithm_type.geometries))
    if geometry not in algorithm_type.geometries:
        names = ", ".join(algorithm_type.geometries)
        where = origin("geometry", origins)
        raise InputError(f"{where}: algorithm {algorithm_type.name!r} has no geometry {geometry!r}; allowed: {names}")
    values["geometry"] = geometry
    values["adapt"] = values["adapt"] or algorithm_type.geometries[geometry].adapt

    algo_options = options_of(algorithm_type, values["algo_options"], "algo_options", origins)
    if benchmark is None:
        benchmark = benchmark_type(
            options_of(benchmark_type, values["benchmark_options"], "benchmark_options", origins)
        )
    values["algo_options"] = algo_options.model_dump(mode="json")
    values["benchmark_options"] = benchmark.options.model_dump(mode="json")
    values["model"] = _model_name(model) if model else values["model"] or benchmark_type.model
    if values["model"] == benchmark_type.model:
        values["model_options"] = {**benchmark.model_options, **values["model_options"]}
    filled = validate(values, origins)
    with blame("ways", origins):
        benchmark.check(filled.ways, filled.shots, filled.queries)
    return Resolved(
        filled, algorithm_type(geometry, algo_options), benchmark, engine_type, model, objects, origins or {}
    )


def _with_defaults(config: RunConfig, benchmark: type[Benchmark]) -> dict[str, Any]:
    """The fields of ``config``, the benchmark's defaults standing in where the user set nothing."""
    values = config.model_dump()
    for name, default in benchmark.defaults.items():
        if name not in RunConfig.model_fields:
            raise HarnessError(f"benchmark {benchmark.name!r} has a default for {name!r}, which is no key of RunConfig")
        if isinstance(default, Mapping):
            values[name] = {**default, **values[name]}
        elif name not in config.model_fields_set:
            values[name] = default
    return values


def check_strategy(engine: type[Engine], strategy: str) -> None:
    """Raise :class:`InputError` unless ``engine`` knows ``strategy``."""
    choices = ("auto", *engine.strategies)
    if strategy not in choices:
        raise InputError(f"engine {engine.name!r} has no strategy {strategy!r}; allowed: {', '.join(choices)}")


def options_of(
    plugin: type[Algorithm] | type[Benchmark],
    values: Mapping[str, Any],
    key: str,
    origins: Mapping[str, str] | None = None,
) -> BaseModel:
    """The plugin's own options built from ``values``; faults are one line that names ``key``."""
    try:
        return plugin.Options(**values)
    except ValidationError as error:
        fault = explain(error, plugin.Options, f"option of {plugin.name}", origins, f"{key}.")
        raise fault from None


@contextmanager
def blame(key: str, origins: Mapping[str, str] | None) -> Iterator[None]:
    """Say in every :class:`InputError` from inside where ``key`` was given, if it was."""
    try:
        yield
    except InputError as error:
        if origins and key in origins:
            raise type(error)(f"{origin(key, origins)}: {error}") from error
        raise


def _model_name(factory: ModelFactory) -> str:
    name = getattr(factory, "__qualname__", type(factory).__qualname__)
    return f"{getattr(factory, '__module__', '?')}:{name}"
