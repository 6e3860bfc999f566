"""What MAML, FOMAML and ANIL cost, how fast they converge, and whether their gradients are right."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.datasets.class_images import ClassImages
    from harness.datasets.images import ImageBenchmark
    from harness.datasets.tasks_of import tasks_of
    from harness.errors import HarnessError, InputError, NotSupported
    from harness.experiment.run import run
    from harness.problem.algorithm import Algorithm, Geometry
    from harness.problem.benchmark import Benchmark, RegressionBenchmark, TaskShape
    from harness.problem.tasks import TaskBatch
    from harness.proof import verify
    from harness.report.inline import report
    from harness.report.reading.frame import results
    from harness.settings.config import RunConfig
    from harness.store.directory import load_parameters
    from harness.theory.estimate import estimate
    from harness.timing.config import TimeConfig
    from harness.timing.session import time_meta_gradients

__version__ = "0.1.0"

# Public name -> module. Loaded on first use, so that `import harness` stays free of torch.
_HOMES = {
    "Algorithm": "harness.problem.algorithm",
    "Benchmark": "harness.problem.benchmark",
    "ClassImages": "harness.datasets.class_images",
    "Geometry": "harness.problem.algorithm",
    "HarnessError": "harness.errors",
    "ImageBenchmark": "harness.datasets.images",
    "InputError": "harness.errors",
    "NotSupported": "harness.errors",
    "RegressionBenchmark": "harness.problem.benchmark",
    "RunConfig": "harness.settings.config",
    "TaskBatch": "harness.problem.tasks",
    "TaskShape": "harness.problem.benchmark",
    "TimeConfig": "harness.timing.config",
    "estimate": "harness.theory.estimate",
    "load_parameters": "harness.store.directory",
    "results": "harness.report.reading.frame",
    "run": "harness.experiment.run",
    "tasks_of": "harness.datasets.tasks_of",
    "time_meta_gradients": "harness.timing.session",
    "verify": "harness.proof",
}

__all__ = [
    "Algorithm",
    "Benchmark",
    "ClassImages",
    "Geometry",
    "HarnessError",
    "ImageBenchmark",
    "InputError",
    "NotSupported",
    "RegressionBenchmark",
    "RunConfig",
    "TaskBatch",
    "TaskShape",
    "TimeConfig",
    "estimate",
    "load_parameters",
    "report",
    "results",
    "run",
    "tasks_of",
    "time_meta_gradients",
    "verify",
]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "report":  # a room that can be called, see there
        return importlib.import_module("harness.report")
    if name not in _HOMES:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
