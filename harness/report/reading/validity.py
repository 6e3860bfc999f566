"""Whether a run's summary and configuration say what it is, without contradiction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from harness.experiment.summary import SCHEMA
from harness.report.reading.documents import number

#: runs of these are shown; an interrupted or stopped one is no result
SHOWN = ("completed", "diverged", "out_of_memory")
#: kinds of work whose seconds add up over a run, as the summary names them
PHASES = ("features", "inner_gradient", "outer_gradient", "second_order", "outer_update")
_SAME = {"algorithm": "algo", **{name: name for name in ("geometry", "benchmark", "inner_steps", "seed", "meta_batch")}}


def fault_of(summary: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    """Why a run cannot be reported, in a few words; None where it can.

    What names a run and what its entries follow from has to be there. Measured numbers may be missing:
    they are then reported as not measured.
    """
    if summary.get("schema") != SCHEMA:
        return f"schema {_short(summary.get('schema'))} of another version; this one reads {SCHEMA}"
    status = summary.get("status")
    if status in ("interrupted", "stopped"):
        done, of = _short(summary.get("iterations_done")), _short(summary.get("iterations"))
        why = f" ({_short(summary['stopped'])})" if summary.get("stopped") else ""
        return f"{status}{why} after {done} of {of} meta-iterations; go on with --resume"
    for name, (holds, allowed) in _NEEDED.items():
        if not holds(summary.get(name)):
            return f"summary.json: {name} is {_short(summary.get(name))}; allowed: {allowed}"
    done, of = summary["iterations_done"], summary["iterations"]
    if done > of or (summary["status"] == "completed" and done < of):
        return f"summary.json: {summary['status']} with {done} of {of} meta-iterations"
    for name, setting in _SAME.items():
        if config.get(setting) != summary[name]:
            there, here = _short(config.get(setting)), _short(summary[name])
            return f"config.yaml says {setting} {there} and summary.json {here}"
    return None


def cleaned(summary: Mapping[str, Any]) -> dict[str, Any]:
    """``summary`` with every measured key of the schema there: a finite number in its range, or None.

    Seconds and memory of a run that went on elsewhere are those of no one machine: they are unknown.
    """
    if summary.get("resumed_elsewhere"):
        summary = {**summary, "seconds": None, "peak_memory_bytes": None}
    parts = {part: summary[part] if isinstance(summary.get(part), dict) else {} for part in _PARTS}
    return {
        **summary,
        **{name: _measured(name, summary.get(name)) for name in _MEASURED},
        **{part: {name: _measured(part, parts[part].get(name)) for name in names} for part, names in _PARTS.items()},
    }


def _measured(name: str, value: object) -> Any:
    found = number(value)
    low, high = _RANGES.get(name, (0.0, math.inf))
    return value if low <= found <= high else None


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _positive(value: object) -> bool:
    return _count(value) and value != 0


def _name(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _names(value: object) -> bool:
    return isinstance(value, list) and all(map(_name, value))


_COUNTS = ("gradient_entries", "second_order_entries", "hessian_vector_products", "mixed_products")
_HELD_OUT = ("mean", "ci95", "before_adaptation", "before_adaptation_ci95")
_MEASURED = ("train_loss", "flops_per_iteration", "peak_memory_bytes")
_PARTS = {
    "counts": _COUNTS,
    "counts_per_task": _COUNTS,
    "accuracy": (*_HELD_OUT, "tasks"),
    "loss": _HELD_OUT,
    "seconds": ("train", "first_iteration", *PHASES),
}
_RANGES = {"train_loss": (-math.inf, math.inf), "loss": (-math.inf, math.inf)}

_Rule = tuple[Callable[[object], bool], str]
_NEEDED: dict[str, _Rule] = {
    "status": (lambda value: value in SHOWN, ", ".join(SHOWN)),
    **dict.fromkeys(("algorithm", "geometry", "benchmark"), (_name, "a name")),
    **dict.fromkeys(("inner_steps", "seed", "n_w", "n_phi", "iterations_done"), (_count, "an integer >= 0")),
    **dict.fromkeys(("meta_batch", "iterations"), (_positive, "an integer >= 1")),
    "inner_lr": (lambda value: number(value) > 0, "a number > 0"),
    "w": (_names, "names of parameters"),
}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
