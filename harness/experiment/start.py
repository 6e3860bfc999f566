"""What a run starts from, measured: whether a finished run had the same model and data where no source shows it.

A model may read its weights from a file, a benchmark its tasks. Numbers are compared to a tolerance and not hashed as
they are: processors round the same initialisation and the same prediction a little differently.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.experiment.evaluate import finite
from harness.problem.losses import Loss
from harness.problem.objective import task_loss
from harness.problem.partition import Network
from harness.problem.tasks import TaskBatch
from harness.store.directory import read_json
from harness.store.environments import START

#: relative: parameters and tasks are the same numbers to rounding, predictions are made in float32 or TF32
_GIVEN, _COMPUTED = 1e-5, 5e-3
_AT_ONCE = 1 << 20
_TASKS = frozenset(TaskBatch.__dataclass_fields__)


def start_of(network: Network, w: Tensor, phi: Tensor, batches: Iterable[TaskBatch], loss: Loss) -> dict[str, Any]:
    """``model``, a hash of names, shapes and layers; sizes and directions of ``given`` tensors; ``computed`` numbers.

    What is computed is the module's own prediction for the support set of the first task in ``batches``.
    """
    batches = list(batches)
    with torch.no_grad():
        prediction = network.module(batches[0].support_x[0])
    slots = [(slot.name, tuple(slot.shape)) for slot in (*network.w_slots, *network.phi_slots)]
    layers = re.sub(r" at 0x[0-9a-f]+", "", repr(network.module))
    parts = {"w": w, "phi": phi, **{f"fixed {name}": part for name, part in network.fixed().items()}}
    parts |= {f"{name} {number}": part for number, batch in enumerate(batches) for name, part in vars(batch).items()}
    return {
        "model": hashlib.sha256(f"{slots} {layers}".encode("utf-8", "surrogatepass")).hexdigest()[:16],
        "given": {name: _measured(part) for name, part in parts.items()},
        "computed": {
            "loss": finite(float(task_loss(loss, prediction, batches[0].support_y[0]))),
            "prediction": finite(float(prediction.double().square().mean().sqrt())),
        },
    }


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """What differs between two starts, in words; None where they are the same, or where ``before`` cannot be read."""
    try:
        if before["model"] != now["model"]:
            return "other layers or shapes"
        for name, (size, direction) in now["given"].items():
            there = before["given"][name]
            if not math.isclose(there[0], size, rel_tol=_GIVEN) or abs(there[1] - direction) > _GIVEN:
                return "other tasks" if name.partition(" ")[0] in _TASKS else "other initial parameters"
        for name, value in now["computed"].items():
            there = before["computed"][name]
            if (there is None) != (value is None) or (value and not math.isclose(there, value, rel_tol=_COMPUTED)):
                return f"at the start a {name} of {there} instead of {value}"
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        pass
    return None


def place_of(path: Path, start: Mapping[str, Any]) -> tuple[Path, str | None]:
    """``path``, where a run of this start belongs, or another place and why, where the run in ``path`` had another."""
    before = (read_json(path / "environment.json") or {}).get(START)
    why = difference(before, start) if isinstance(before, dict) else None
    return (path if why is None else path.with_name(f"{path.name}{digest(start, computed=True)[:6]}")), why


def digest(start: Mapping[str, Any], computed: bool = False) -> str:
    """A hash of a start, numbers to six digits; those that were ``computed`` are in it, to three digits, on request."""
    given = {name: [f"{size:.6g}", round(direction, 6) + 0.0] for name, (size, direction) in start["given"].items()}
    seen = {name: f"{value or 0.0:.3g}" for name, value in start["computed"].items()} if computed else {}
    return hashlib.sha256(repr((start["model"], sorted(given.items()), sorted(seen.items()))).encode()).hexdigest()


def _measured(part: Tensor) -> list[float]:
    """Size of a tensor, and its share in a fixed direction in which no two entries weigh the same; 0 if not finite."""
    squares = share = 0.0
    for number, some in enumerate(part.detach().flatten().split(_AT_ONCE)):
        values = some.to("cpu", torch.float64)
        fixed = torch.arange(1, len(values) + 1, dtype=torch.float64).add_(number * _AT_ONCE).mul_(0.7).cos_()
        squares += float(values @ values)
        share += float(values @ fixed)
    if not (math.isfinite(squares) and math.isfinite(share)):
        return [0.0, 0.0]
    size = math.sqrt(squares)
    return [size, share / size if size else 0.0]
