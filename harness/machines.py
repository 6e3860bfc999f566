"""What seconds depend on: GPU, processor, threads and torch, from what ``environment.json`` tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: name of a part, and where an environment has it
PARTS = {
    "GPU": ("gpu", "name"),
    "CPU": ("cpu", "model"),
    "threads": ("cpu", "threads"),
    "torch": ("packages", "torch"),
}


def machine_in(environment: Mapping[str, Any] | None) -> dict[str, str]:
    """Each of :data:`PARTS` in words, ``none`` where there is none; empty where no environment is known."""
    return {name: _text(environment, *keys) for name, keys in PARTS.items()} if environment else {}


def _text(environment: Mapping[str, Any], part: str, key: str) -> str:
    found = environment.get(part)
    value = found.get(key) if isinstance(found, dict) else None
    return "none" if value is None else str(value)[:80]
