"""What seconds depend on, from what ``environment.json`` tells, and whether a run was made in one place."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

#: where ``environment.json`` keeps the environments of a run's earlier parts, the first one first
EARLIER = "earlier"
#: where it says when each part of the run began and under what load, the first one first
SITTINGS = "sittings"
#: where it says what the run started from, see :mod:`harness.experiment.start`
START = "start"
#: where it says on how many processes the run was shared out, if on several
DISTRIBUTED = "distributed"
#: name of a part, and where an environment has it
PARTS = {
    "GPU": ("gpu", "name"),
    "CPU": ("cpu", "model"),
    "threads": ("cpu", "threads"),
    "torch": ("packages", "torch"),
    "ranks": (DISTRIBUTED, "ranks"),
}


def machine_in(environment: Mapping[str, Any] | None) -> dict[str, str]:
    """Each of :data:`PARTS` in words, ``none`` where there is none; empty where no environment is known."""
    return {name: _text(environment, *keys) for name, keys in PARTS.items()} if environment else {}


def continued(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> dict[str, Any]:
    """``environment.json`` of a run that goes on: ``now``, and those of its earlier parts where they were others.

    ``before`` is what was there, None where it cannot be read.
    """
    *earlier, last = _parts(before or {})
    if _differences(last, _parts(now)[-1]):
        earlier.append(last)
    began = [*_sittings(before or {}), *_sittings(now)]
    return {**now, SITTINGS: began, **({EARLIER: earlier} if earlier else {})}


def changes(environment: Mapping[str, Any]) -> list[str]:
    """What differs from one part of a run to the next, such as ``torch: 2.14.0 -> 2.15.0``; empty in one place."""
    parts = _parts(environment)
    return list(dict.fromkeys(line for pair in pairwise(parts) for line in _differences(*pair)))


def _parts(environment: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The environments of a run's parts, the last one last."""
    earlier = environment.get(EARLIER)
    known = [part for part in earlier if isinstance(part, dict)] if isinstance(earlier, list) else []
    last = {name: value for name, value in environment.items() if name not in (EARLIER, SITTINGS, START)}
    return [{name: _shallow(value) for name, value in part.items()} for part in (*known, last)]


def _sittings(environment: Mapping[str, Any]) -> list[Any]:
    """What is known of the sittings: None for a part of which that is nothing."""
    found = environment.get(SITTINGS)
    return [_shallow(part, 1) for part in found] if isinstance(found, list) else [None]


def _shallow(value: Any, depth: int = 2) -> Any:
    """``value`` without what is nested deeper than environments are: a damaged file may hold anything."""
    if isinstance(value, dict):
        return {name: _shallow(part, depth - 1) for name, part in value.items()} if depth else None
    return None if isinstance(value, list) else value


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    if not before:
        return ["environment of the earlier part: unknown"]
    first, second = _leaves(before), _leaves(after)
    return [
        f"{name}: {old} -> {new}"
        for name in dict.fromkeys([*first, *second])
        if (old := first.get(name, "none")) != (new := second.get(name, "none"))
    ]


def _leaves(document: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Every value in words, ``packages`` by their name alone."""
    found: dict[str, str] = {}
    for name, value in document.items():
        if isinstance(value, dict):
            found |= _leaves(value, "" if name == "packages" else f"{name} ")
        else:
            found[f"{above}{name}"] = "none" if value is None else str(value)[:80]
    return found


def _text(environment: Mapping[str, Any], part: str, key: str) -> str:
    found = environment.get(part)
    value = found.get(key) if isinstance(found, dict) else None
    return "none" if value is None else str(value)[:80]
