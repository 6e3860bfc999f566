"""Runs that differ in nothing but the seed form a group: one point of a grid, one line of a figure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from harness.report.runs import Run

# What may differ within a group, or says nothing about what was computed.
_FREE = {"seed", "checkpoint_every", "device", "threads"}


@dataclass(frozen=True)
class Group:
    """Runs of one setting, in order of their seeds."""

    algorithm: str
    geometry: str
    benchmark: str
    inner_steps: int
    #: algorithm and geometry, with whatever else sets this group apart from others in the report
    label: str
    runs: tuple[Run, ...]

    @property
    def method(self) -> str:
        """Algorithm and geometry, such as ``anil convex``; MAML and FOMAML go by their own name."""
        return self.algorithm if self.algorithm != "anil" else f"{self.algorithm} {self.geometry}"

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its runs."""
        return tuple(int(run.summary["seed"]) for run in self.runs)

    def same(self, key: str) -> Any:
        """What every run's summary has under ``key``, taken from the first."""
        return self.runs[0].summary.get(key)


def group_runs(runs: Iterable[Run]) -> list[Group]:
    """Groups by benchmark, then MAML before FOMAML before ANIL convex and nonconvex, then N.

    Of two runs with one seed (made on two machines, say) both stay, so that a report can warn.
    """
    found: dict[str, list[Run]] = {}
    for run in runs:
        setting = {name: value for name, value in run.config.items() if name not in _FREE}
        found.setdefault(json.dumps(setting, sort_keys=True, default=str), []).append(run)
    settings = [json.loads(key) for key in found]
    groups = [
        Group(
            str(setting.get("algo")),
            str(setting.get("geometry")),
            str(setting.get("benchmark")),
            int(setting.get("inner_steps", 0)),
            _label(setting, settings),
            tuple(sorted(members, key=lambda run: (run.summary["seed"], str(run.path)))),
        )
        for setting, members in zip(settings, found.values(), strict=True)
    ]
    return sorted(groups, key=lambda group: (group.benchmark, _rank(group), group.inner_steps, group.label))


def _rank(group: Group) -> tuple[int, str]:
    order = ("maml", "fomaml", "anil convex", "anil nonconvex")
    return (order.index(group.method) if group.method in order else len(order), group.method)


def _label(setting: dict[str, Any], settings: list[dict[str, Any]]) -> str:
    """``anil convex N=5``, and those other settings that differ between groups of this method and N."""
    same = ("algo", "geometry", "benchmark", "inner_steps")
    siblings = [other for other in settings if all(other.get(key) == setting.get(key) for key in same)]
    differing = [
        f"{name}={value}"
        for name, value in setting.items()
        if name not in same and any(other.get(name) != value for other in siblings)
    ]
    geometry = f" {setting.get('geometry')}" if setting.get("algo") == "anil" else ""
    return " ".join([f"{setting.get('algo')}{geometry} N={setting.get('inner_steps')}", *differing])
