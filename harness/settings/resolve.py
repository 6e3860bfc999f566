"""From a RunConfig to everything concrete: plugins, their options, defaults filled in. Free of torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from harness.errors import HarnessError, InputError, unknown
from harness.problem.losses import Loss, stated
from harness.settings import registry
from harness.settings.config import ProblemConfig, RunConfig, WorkConfig, validate
from harness.store.foreign import one_line
from harness.store.yaml_core import MOST_BYTES, dumped
from harness.strangers.blame import blamed, strange
from harness.strangers.named import absolute, is_named
from harness.strangers.values import blame, origin, validate_as

if TYPE_CHECKING:
    from harness.engines.engine import Engine
    from harness.problem.algorithm import Algorithm
    from harness.problem.benchmark import Benchmark
    from harness.problem.nets import ModelFactory


@dataclass(frozen=True)
class Resolved:
    """A configuration without gaps, and the plugins that it names."""

    config: RunConfig
    algorithm: Algorithm
    benchmark: Benchmark
    engine: type[Engine]
    loss: Loss
    #: given as a Python object; None: ``config.model`` names it
    factory: ModelFactory | None = None
    #: names of what was given as Python objects instead of by name
    objects: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def directory(self) -> str:
        """Name of the run directory, up to the key."""
        c = self.config
        task = f"{self.benchmark.name}_{c.ways}w{c.shots}s"
        return f"{c.algo}-{c.geometry}_{task}_N{c.inner_steps}_s{c.seed}"

    def blamed(self, raises: type[HarnessError] = InputError) -> AbstractContextManager[None]:
        """Inside, what code of other people lets through is one line that names the model or plugin, if there is one.

        Without one a fault is the project's own, and stays as it is.
        """
        model = self.config.model or self.benchmark.model
        own = [f"model {one_line(model)!r}"] if self.factory is not None or is_named(model) else []
        own += [f"loss {one_line(self.loss.name)!r}"] if self.loss.own else []
        plugins: dict[str, Any] = {
            "benchmark": type(self.benchmark),
            "algorithm": type(self.algorithm),
            "engine": self.engine,
        }
        own += [f"{kind} {plugin.name!r}" for kind, plugin in plugins.items() if strange(plugin)]
        return blamed(" or ".join(own), raises) if own else nullcontext()


def resolve(
    config: RunConfig,
    *,
    model: ModelFactory | None = None,
    benchmark: Benchmark | None = None,
    algorithm: type[Algorithm] | None = None,
    loss: Callable[..., Any] | None = None,
    origins: Mapping[str, str] | None = None,
    check: bool = True,
) -> Resolved:
    """Look up the plugins of ``config``, check it against them, and fill in what it leaves open.

    ``model``, ``benchmark``, ``algorithm`` and ``loss`` replace what ``config`` names. Without ``check`` nobody asks
    whether the benchmark has data for such tasks. Raises :class:`InputError`; ``origins`` says where a key was given
    (see :func:`harness.settings.config.validate`).
    """
    given = {"model": model, "benchmark": benchmark, "algorithm": algorithm, "loss": loss}
    objects = tuple(name for name, value in given.items() if value is not None)
    with blame("algo", origins):
        algorithm_type = algorithm or registry.algorithms().get(config.algo)
    with blame("benchmark", origins):
        found = benchmark if benchmark is not None else registry.benchmark_named(config.benchmark)
        tasks = config.benchmark if benchmark is None and is_named(config.benchmark) else ""
        tasks = absolute("benchmark", tasks, "Class")
        made, benchmark_type = (None, found) if isinstance(found, type) else (found, type(found))
        _check_name(benchmark_type)
    with blame("model", origins):
        own = absolute("model", benchmark_type.model, "function")
        asked = absolute("model", config.model, "function") if config.model else own
        named = asked if model is None else _name_of(model)
    own_model = named == own
    values = _with_defaults(config, benchmark_type, algorithm_type, own_model)
    values |= {"algo": algorithm_type.name, "benchmark": tasks or benchmark_type.name, "model": named}
    with blame("engine", origins):
        engine_type = registry.engines().get(values["engine"])
    with blame("strategy", origins):
        check_strategy(engine_type, values["strategy"])
    with blamed(f"algorithm {algorithm_type.name!r}"):
        geometries = {name: shape.adapt for name, shape in algorithm_type.geometries.items()}
        geometry = values["geometry"] or next(iter(geometries), None)
    if geometry not in geometries:
        names = ", ".join(geometries) or "none"
        where = origin("geometry", origins)
        raise InputError(f"{where}: algorithm {algorithm_type.name!r} has no geometry {geometry!r}; allowed: {names}")
    values["geometry"] = geometry
    values["adapt"] = values["adapt"] or geometries[geometry]

    algo_options = options_of(algorithm_type, values["algo_options"], "algo_options", origins)
    options = None if made else options_of(benchmark_type, values["benchmark_options"], "benchmark_options", origins)
    with blamed(f"benchmark {benchmark_type.name!r}"):
        benchmark = made or benchmark_type(options)
        values["benchmark_options"] = benchmark.options.model_dump(mode="json")
        own_options = dict(benchmark.model_options)
        judged = _loss_of(config, benchmark, loss, origins)
    values |= {"loss": judged.name, "loss_options": dict(judged.options)}
    if made and config.benchmark_options not in ({}, values["benchmark_options"]):
        where = origin("benchmark_options", origins)
        raise InputError(f"{where}: benchmark {benchmark.name!r} is made already; allowed: its own, or its class")
    values["algo_options"] = algo_options.model_dump(mode="json")
    if own_model:
        values["model_options"] = {**own_options, **values["model_options"]}
    filled = validate(values, origins)
    _refuse_giant(filled)
    if (ways := filled.held_out.ways) > filled.ways:
        where = origin("eval_ways", origins)
        raise InputError(f"{where}: {ways} for a model with outputs for {filled.ways} classes; allowed: at most those")
    with blame("ways", origins), blamed(f"benchmark {benchmark.name!r}"):
        if check:
            for shape in (filled, filled.held_out):
                benchmark.check(shape.ways, shape.shots, shape.queries)
        if strange(benchmark_type):
            str(benchmark.version)  # of our own it may take long, and raises nothing
    with blamed(f"algorithm {algorithm_type.name!r}"):
        rule = algorithm_type(geometry, algo_options)
    return Resolved(filled, rule, benchmark, engine_type, judged, model, objects, origins or {})


def _loss_of(
    config: RunConfig,
    benchmark: Benchmark,
    function: Callable[..., Any] | None,
    origins: Mapping[str, str] | None,
) -> Loss:
    """The loss with all its options, a person's own not imported yet."""
    if function is not None:
        return Loss(_name_of(function), config.loss_options, function)
    with blame("loss", origins):
        name = stated(benchmark, config.model_copy(update={"loss_options": {}})).name
        name = absolute("loss", name, "function")
    with blame("loss_options", origins):
        return replace(stated(benchmark, config), name=name)


def _with_defaults(
    config: RunConfig, benchmark: type[Benchmark], algorithm: type[Algorithm], own_model: bool
) -> dict[str, Any]:
    """The fields of ``config``, the algorithm's and the benchmark's defaults standing in where the user set nothing.

    What a benchmark says of its own model's options is left out for other models, of options that this algorithm does
    not have, for this one.
    """
    values, own = config.model_dump(), f"algorithm {algorithm.name!r}"
    for who, defaults in (f"benchmark {benchmark.name!r}", benchmark.defaults), (own, algorithm.defaults):
        if odd := defaults.keys() - RunConfig.model_fields.keys():
            raise HarnessError(f"{who} has a default for {min(odd)!r}, which is no key of RunConfig")
    for name, default in {**benchmark.defaults, **algorithm.defaults}.items():
        if isinstance(default, Mapping):
            if name == "loss_options" or (name == "model_options" and not own_model):
                continue
            if name == "algo_options":
                default = {key: part for key, part in default.items() if key in algorithm.Options.model_fields}
            values[name] = {**default, **values[name]}
        elif name == "geometry" and default not in algorithm.geometries:
            continue
        elif name not in config.model_fields_set:
            values[name] = default
    return values


def given_for(algorithm: type[Algorithm], config: ProblemConfig) -> dict[str, Any]:
    """Settings of a run of ``algorithm`` that ``config``, which is for several, was given; of options those it has."""
    given = {name: getattr(config, name) for name in config.model_fields_set & WorkConfig.model_fields.keys()}
    known = algorithm.Options.model_fields
    options = {name: value for name, value in config.algo_options.items() if name in known}
    return {**given, "algo": algorithm.name, "algo_options": options}


def check_algo_options(
    algorithms: Iterable[type[Algorithm]], config: ProblemConfig, origins: Mapping[str, str] | None = None
) -> None:
    """Raise :class:`InputError` for an option in ``config`` that none of the ``algorithms`` has."""
    kinds = dict.fromkeys(algorithms)
    known = {name for kind in kinds for name in kind.Options.model_fields}
    if odd := [name for name in config.algo_options if name not in known]:
        fault = unknown(f"option of {', '.join(kind.name for kind in kinds)}", odd[0], known)
        raise InputError(f"{origin(f'algo_options.{odd[0]}', origins)}: {fault}")


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
    kind = f"option of {plugin.name}"
    with blamed(f"{plugin.name!r}"):
        known = plugin.Options.model_fields
        for name in values:
            if name not in known and plugin.Options.model_config.get("extra") in (None, "ignore"):  # as by default
                raise InputError(f"{origin(f'{key}.{name}', origins)}: {unknown(kind, name, known)}")
        return validate_as(plugin.Options, values, origins, kind, f"{key}.")


def _refuse_giant(config: RunConfig) -> None:
    """Raise :class:`InputError` for what could be written, but not read again."""
    if len(config.model_dump_json()) > MOST_BYTES >> 6 and (size := len(dumped(config.model_dump()))) > MOST_BYTES:
        raise InputError(f"a configuration of {size} bytes; allowed: {MOST_BYTES}")


def _check_name(benchmark: type[Benchmark]) -> None:
    """Raise :class:`InputError` unless its name can be a part of a folder's."""
    name = getattr(benchmark, "name", None)
    if not (isinstance(name, str) and re.fullmatch(r"[\w-][\w. -]{0,99}", name)):
        raise InputError(
            f"benchmark {benchmark.__qualname__} is called {one_line(repr(name))}; "
            f"allowed: a name of up to 100 letters, digits, hyphens and underscores"
        )


def _name_of(function: Callable[..., Any]) -> str:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '?')}:{name}"
