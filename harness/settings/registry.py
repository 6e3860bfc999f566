"""Typed registries: the project's own plugins and other people's come through the same entry points."""

from __future__ import annotations

import functools
import importlib.metadata
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from harness.errors import InputError, unknown
from harness.store.foreign import one_line
from harness.strangers.blame import blamed
from harness.strangers.named import FORMS, is_named, load_named

if TYPE_CHECKING:
    from harness.engines.engine import Engine
    from harness.problem.algorithm import Algorithm
    from harness.problem.benchmark import Benchmark

log = logging.getLogger("harness")
T = TypeVar("T")
_OURS = "anil-vs-maml-harness"


@dataclass(frozen=True)
class Plugin(Generic[T]):
    """A class found through an entry point, and the distribution it came from."""

    name: str
    origin: str
    value: type[T]


class Registry(Generic[T]):
    """The plugins of one entry-point group. A broken one is warned about and left out; the others go on."""

    def __init__(
        self, kind: str, base: type[T], group: str, entry_points: Iterable[importlib.metadata.EntryPoint]
    ) -> None:
        self.kind = kind
        self.plugins: dict[str, Plugin[T]] = {}
        # The project's own come first, so that a colliding stranger is the one that is left out.
        for entry in sorted(entry_points, key=lambda entry: (_origin(entry) != _OURS, entry.name)):
            plugin = self._load(entry, base, group)
            if plugin is not None:
                self.plugins[plugin.name] = plugin

    def _load(self, entry: importlib.metadata.EntryPoint, base: type[T], group: str) -> Plugin[T] | None:
        origin = _origin(entry)
        where = f"{self.kind} {entry.name!r} from {origin} ({entry.value})"
        if (other := self.plugins.get(entry.name)) is not None:
            if (other.origin, f"{other.value.__module__}:{other.value.__qualname__}") != (origin, entry.value):
                log.warning("%s is left out: the name is taken by %s", where, other.origin)
            return None
        try:
            with blamed(f"{where} is left out: it"):
                value = entry.load()
        except InputError as error:
            log.warning("%s", error)
            return None
        if fault := _fault_of(value, base):
            log.warning("%s is left out: it %s", where, fault)
            return None
        if getattr(value, "name", None) != entry.name:
            log.warning("%s is left out: its class calls itself %r", where, getattr(value, "name", None))
            return None
        return Plugin(entry.name, origin, value)

    def names(self) -> list[str]:
        """Names of all plugins, sorted."""
        return sorted(self.plugins)

    def get(self, name: str) -> type[T]:
        """The class called ``name``; raises :class:`InputError` with the nearest name if there is none."""
        if name not in self.plugins:
            raise unknown(self.kind, name, self.plugins)
        return self.plugins[name].value


def _fault_of(value: object, base: type) -> str | None:
    """Why ``value`` is no class that ``base`` is the contract of."""
    if not (isinstance(value, type) and issubclass(value, base)):
        return f"is no subclass of {base.__module__}.{base.__name__}"
    undefined = [name for name in base.__annotations__ if not hasattr(value, name)]
    if missing := [*sorted(getattr(value, "__abstractmethods__", ())), *undefined]:
        return f"does not define {', '.join(missing)}"
    return None


def _origin(entry: importlib.metadata.EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "unknown"


@functools.cache
def own_benchmark(name: str) -> type[Benchmark] | None:
    """The project's own benchmark of that name; no other plugin is loaded."""
    group = importlib.metadata.entry_points(group="harness.benchmarks", name=name)
    return next((entry.load() for entry in group if _origin(entry) == _OURS), None)


def defaults_of(benchmark: str) -> Mapping[str, Any]:
    """What the project's own ``benchmark`` has for defaults."""
    kind = own_benchmark(benchmark)
    return kind.defaults if kind is not None else {}


@functools.cache
def algorithms() -> Registry[Algorithm]:
    """Every algorithm of the group ``harness.algorithms``."""
    from harness.problem.algorithm import Algorithm

    return _registry("algorithm", Algorithm, "harness.algorithms")  # type: ignore[type-abstract]


@functools.cache
def benchmarks() -> Registry[Benchmark]:
    """Every benchmark of the group ``harness.benchmarks``."""
    from harness.problem.benchmark import Benchmark

    return _registry("benchmark", Benchmark, "harness.benchmarks")  # type: ignore[type-abstract]


def benchmark_named(name: str) -> type[Benchmark] | Benchmark:
    """Benchmark called ``name``: a plugin's class, or a person's own class or object (:mod:`harness.strangers.named`).

    Raises :class:`InputError`.
    """
    if not is_named(name):
        if name not in (known := benchmarks()).plugins:
            raise unknown("benchmark", one_line(name), [*known.plugins, *FORMS.format("Class").split(" or ")])
        return known.get(name)
    from harness.problem.benchmark import Benchmark

    found = load_named("benchmark", name, "Class")
    if fault := _fault_of(found if isinstance(found, type) else type(found), Benchmark):
        raise InputError(f"benchmark {one_line(name)!r} {fault}; allowed: a class of that kind, or an object of one")
    return found  # type: ignore[no-any-return]


@functools.cache
def engines() -> Registry[Engine]:
    """Every engine of the group ``harness.engines``."""
    from harness.engines.engine import Engine

    return _registry("engine", Engine, "harness.engines")  # type: ignore[type-abstract]


def _registry(kind: str, base: type[T], group: str) -> Registry[T]:
    return Registry(kind, base, group, importlib.metadata.entry_points(group=group))
