"""The cells of the day: those of ``harness time`` on FC100 shapes, tiny ones where it is dry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.engines.agreement import Seen
from harness.settings import registry
from harness.timing.cells import Cell, Name, fixed_tasks, make_cell, names, resolved_of
from harness.timing.config import TimeConfig

if TYPE_CHECKING:
    from benchmarks.suites.gpu.bench import Bench

#: what was found of the models that were examined
_SEEN: defaultdict[str, dict[Name, Seen]] = defaultdict(dict)


def configuration(bench: Bench, **settings: Any) -> TimeConfig:
    """The four algorithms at N = 5 in the shapes of the speed table, as far as ``settings`` say nothing else."""
    usual: dict[str, Any] = {"inner_steps": (5,), "meta_batch": 32, "device": str(bench.device)}
    tiny = {"meta_batch": 2, "shots": 1, "queries": 1, "model_options": {"filters": 3}}
    return TimeConfig(**(usual | settings | (tiny if bench.dry else {})))


def cases(config: TimeConfig) -> Iterator[tuple[Name, str]]:
    """The cells of ``config``, each with every kind of batch statistics that its partition knows."""
    for name in names(config):
        shares = registry.algorithms().get(name.algorithm)(name.geometry).geometries[name.geometry].adapt != "all"
        yield from ((name, statistics) for statistics in (("separate", "joint") if shares else ("separate",)))


def cell_on(device: torch.device, name: Name, config: TimeConfig, statistics: str = "separate") -> Cell:
    """The cell called ``name``, with the same parameters and tasks on every device."""
    resolved = resolved_of(name, config.model_copy(update={"norm_statistics": statistics}))
    seen = _SEEN[f"{device} {resolved.config.model_dump_json(exclude={'inner_steps'})}"]
    return make_cell(name, resolved, fixed_tasks(resolved, device)[0], device, config.task_chunk, seen)


def gradient_of(cell: Cell) -> tuple[Tensor, Tensor]:
    """The meta-gradient in w and phi together, ``[n]``, and the losses of the tasks, ``[B]``."""
    gradient, outcome = cell.engine.meta_gradient(cell.w, cell.phi, cell.batch)
    return torch.cat([gradient.w, gradient.phi]), outcome.loss


def relative(found: Tensor, expected: Tensor) -> float:
    """The norm of the difference over that of ``expected``."""
    found, expected = (tensor.detach().double().cpu() for tensor in (found, expected))
    return float((found - expected).norm() / expected.norm().clamp_min(1e-30))


def label(name: Name) -> str:
    """Algorithm and geometry, as ``harness time`` takes them."""
    return f"{name.algorithm}:{name.geometry}"
