"""What can be named: algorithms, benchmarks, engines and suites, as ``harness list`` shows them. Free of torch."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.settings import registry
from harness.strangers.blame import blamed

log = logging.getLogger("harness")


def listing() -> dict[str, list[dict[str, Any]]]:
    """Everything that is installed, with its origin; ``missing`` of a benchmark is None or what is."""
    return {
        "algorithms": _rows(registry.algorithms(), _algorithm),
        "benchmarks": _rows(registry.benchmarks(), _benchmark),
        "engines": _rows(registry.engines(), _engine),
        "suites": [_suite(path) for path in suites()],
    }


def _rows(found: registry.Registry[Any], row: Callable[[Any], dict[str, Any]]) -> list[dict[str, Any]]:
    """What ``row`` says of each plugin, by name; one whose class is not what it has to be is warned about instead."""
    rows = []
    for name in found.names():
        plugin = found.plugins[name]
        try:
            with blamed(f"{found.kind} {name!r} from {plugin.origin}"):
                rows.append({"name": name, **row(plugin.value), "origin": plugin.origin})
        except InputError as error:
            log.warning("%s", error)
    return rows


def _algorithm(value: type[Any]) -> dict[str, Any]:
    return {
        "geometries": {name: geometry.summary for name, geometry in value.geometries.items()},
        "options": list(value.Options.model_fields),
        "summary": value.summary,
    }


def _benchmark(value: type[Any]) -> dict[str, Any]:
    return {
        "model": value.model,
        "options": list(value.Options.model_fields),
        "summary": value.summary,
        "missing": missing(value),
    }


def _engine(value: type[Any]) -> dict[str, Any]:
    return {
        "strategies": list(value.strategies),
        "summary": value.summary,
        "installed": value.requires is None or _importable(value.requires[0]),
    }


def _suite(path: Path) -> dict[str, Any]:
    """What a suite holds, without looking for its data."""
    from harness.settings.suites import overview

    return {"name": path.stem, "path": str(path), **overview(path)}


def suites() -> list[Path]:
    """The suites that come with the project."""
    spec = importlib.util.find_spec("benchmarks")
    folders = list(spec.submodule_search_locations or []) if spec else []
    return sorted(path for folder in folders for path in (Path(folder) / "suites").glob("*.yaml"))


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
