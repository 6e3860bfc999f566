"""The run key: a hash of what determines the numbers of a run, not of where they are stored."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness

if TYPE_CHECKING:
    from harness.problem.models import ModelFactory
    from harness.resolve import Resolved

#: Raised whenever training, evaluation or timing change so that old numbers no longer compare.
PROTOCOL = 2

# Settings that change the numbers by no more than rounding. What task_chunk does to the seconds, the summary says.
_NOT_HASHED = {"checkpoint_every", "task_chunk", "label"}


def run_key(resolved: Resolved, factory: ModelFactory, fingerprint: str = "") -> str:
    """Ten hexadecimal digits over configuration, plugin sources, data-set version and protocol.

    ``fingerprint`` stands for what no source shows: the parameters and tasks of Python objects.
    """
    config = {name: value for name, value in resolved.config.model_dump().items() if name not in _NOT_HASHED}
    config["device"] = config["device"].partition(":")[0]
    document = {
        "config": config,
        "benchmark_version": resolved.benchmark.version,
        "sources": {
            "algorithm": class_source(type(resolved.algorithm)),
            "benchmark": class_source(type(resolved.benchmark)),
            "engine": class_source(resolved.engine),
            "model": _factory_source(factory),
        },
        "harness": harness.__version__,
        "protocol": PROTOCOL,
        "fingerprint": fingerprint,
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def class_source(cls: type) -> str:
    """Source text of the modules of a plugin class and of the plugin classes that it builds on."""
    modules = [base.__module__ for base in cls.__mro__ if base.__module__ not in ("builtins", "abc", "typing")]
    return "\n".join(_module_source(module, cls) for module in dict.fromkeys(modules))


def _module_source(name: str, value: Any) -> str:
    """Text of a module; of ``value`` alone where it was typed into a notebook or a prompt."""
    module = sys.modules.get(name)
    if folders := getattr(module, "__path__", None):
        files = sorted(file for folder in folders for file in Path(folder).glob("*.py"))
        return "\n".join(file.read_text(encoding="utf-8") for file in files)
    for candidate in (value, module) if name == "__main__" else (module, value):
        try:
            return inspect.getsource(candidate)  # type: ignore[arg-type]
        except (OSError, TypeError):
            continue
    return name


def _factory_source(factory: ModelFactory) -> str:
    while isinstance(factory, functools.partial):
        factory = factory.func
    return _module_source(getattr(factory, "__module__", "?"), factory)
