"""What can be named: algorithms, benchmarks, engines and suites, as ``harness list`` shows them. Free of torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from harness import registry
from harness.errors import InputError
from harness.strangers import blamed


def listing() -> dict[str, list[dict[str, Any]]]:
    """Everything that is installed, with its origin; ``missing`` of a benchmark is None or what is."""
    return {
        "algorithms": [
            {
                "name": plugin.name,
                "geometries": {name: geometry.summary for name, geometry in plugin.value.geometries.items()},
                "options": list(plugin.value.Options.model_fields),
                "summary": plugin.value.summary,
                "origin": plugin.origin,
            }
            for plugin in _sorted(registry.algorithms())
        ],
        "benchmarks": [
            {
                "name": plugin.name,
                "model": plugin.value.model,
                "options": list(plugin.value.Options.model_fields),
                "summary": plugin.value.summary,
                "missing": missing(plugin.value),
                "origin": plugin.origin,
            }
            for plugin in _sorted(registry.benchmarks())
        ],
        "engines": [
            {
                "name": plugin.name,
                "strategies": list(plugin.value.strategies),
                "summary": plugin.value.summary,
                "installed": plugin.value.requires is None or _importable(plugin.value.requires[0]),
                "origin": plugin.origin,
            }
            for plugin in _sorted(registry.engines())
        ],
        "suites": [{"name": path.stem, "path": str(path)} for path in suites()],
    }


def suites() -> list[Path]:
    """The suites that come with the project."""
    spec = importlib.util.find_spec("benchmarks")
    folders = list(spec.submodule_search_locations or []) if spec else []
    return sorted(path for folder in folders for path in (Path(folder) / "suites").glob("*.yaml"))


def _sorted(found: registry.Registry[Any]) -> list[registry.Plugin[Any]]:
    return [found.plugins[name] for name in found.names()]


def missing(benchmark: type[Any]) -> str | None:
    """What of its data is not there, or why that is not known; None where nothing is missing."""
    try:
        with blamed(f"benchmark {benchmark.name!r}"):
            found: str | None = getattr(benchmark(), "missing", lambda: None)()
    except InputError as error:
        return str(error)
    return found


def _importable(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False
