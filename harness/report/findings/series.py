"""Groups of one method that differ in N alone: what the paper's claims about N are tested on."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.report.findings.results import GroupResult

#: settings that may follow N, and how a report writes them
_STEPS = {"inner_lr": "α", "outer_lr_w": "β_w", "outer_lr_phi": "β_φ"}


@dataclass(frozen=True, eq=False)
class Series:
    """Results in order of N, at least two."""

    results: tuple[GroupResult, ...]
    #: what its step size is, and what sets it apart from other series of the method
    name: str

    @property
    def steps(self) -> tuple[int, ...]:
        """The values of N."""
        return tuple(result.group.inner_steps for result in self.results)


def series_of(results: Iterable[GroupResult], geometry: str) -> list[Series]:
    """The series of ANIL with this geometry, those of one step size first, then those whose steps vary with N.

    The theorems have alpha, beta_w and beta_phi depend on N. Runs whose inner loop is not known to be convex
    are none of the convex ones, whatever their geometry is called.
    """
    members = _members(results, geometry)
    constant = _alike(members, {"inner_steps"}, "inner_steps")
    taken = {id(result) for found in constant for result in found}
    rest = [result for result in members if id(result) not in taken]
    varying = _alike(rest, {"inner_steps", *_STEPS}, "inner_steps")
    return [Series(tuple(found), _name(found)) for found in (*constant, *varying)]


def batches_of(results: Iterable[GroupResult], geometry: str) -> list[Series]:
    """ANIL's results with SGD that differ in the meta-batch B alone, in order of B."""
    members = [each for each in _members(results, geometry) if each.group.setting.get("outer_optimizer") == "sgd"]
    found = _alike(members, {"meta_batch"}, "meta_batch")
    return [Series(tuple(each), f"N = {each[0].group.inner_steps}, {_name(each)}") for each in found]


def _members(results: Iterable[GroupResult], geometry: str) -> list[GroupResult]:
    return [
        result
        for result in results
        if (result.group.algorithm, result.group.geometry) == ("anil", geometry) and result.group.inner_steps
        if not (geometry == "convex" and any("convexity" in run.unknown for run in result.group.runs))
    ]


def _alike(results: Sequence[GroupResult], free: set[str], along: str) -> list[list[GroupResult]]:
    """Results whose settings agree but in ``free``, where that gives two values of ``along`` or more, each once."""
    found: dict[str, list[GroupResult]] = defaultdict(list)
    for result in sorted(results, key=lambda result: result.group.same(along)):
        setting = {name: value for name, value in result.group.setting.items() if name not in free}
        found[json.dumps(setting, sort_keys=True)].append(result)
    return [
        members
        for members in found.values()
        if len(members) > 1 and len({result.group.same(along) for result in members}) == len(members)
    ]


def _name(results: Sequence[GroupResult]) -> str:
    group = results[0].group
    others = group.label.removeprefix(f"{group.method} N={group.inner_steps}").split()
    kept = [other for other in others if not other.startswith(tuple(f"{name}=" for name in (*_STEPS, "meta_batch")))]
    changing = [
        symbol for name, symbol in _STEPS.items() if len({result.group.setting.get(name) for result in results}) > 1
    ]
    alpha = [] if "α" in changing else [f"α = {group.same('inner_lr'):g}"]
    differ = [f"{', '.join(changing)} differ{'s' * (len(changing) == 1)} between N"] if changing else []
    return ", ".join([*alpha, *differ, *kept])
