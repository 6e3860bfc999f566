"""Runs that differ in nothing but the seed form a group: one point of a grid, one line of a figure."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.report.reading.runs import Run
from harness.settings.registry import algorithms
from harness.store.foreign import one_line
from harness.store.records import Status

# What may differ within a group, or says nothing about what was computed.
_FREE = {"seed", "checkpoint_every", "task_chunk", "device", "threads", "label"}
#: settings that make another problem of it, on which numbers of methods do not compare
PROBLEM = (
    "benchmark",
    "benchmark_options",
    "ways",
    "shots",
    "queries",
    "eval_ways",
    "eval_shots",
    "eval_queries",
    "eval_inner_steps",
    "model",
    "model_options",
    "norm_statistics",
    "dtype",
)
_METHOD = ("algo", "geometry", "benchmark", "inner_steps")
_ORDER = ("maml", "fomaml", "anil convex", "anil nonconvex")

Setting = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Group:
    """Runs of one setting, in order of their seeds."""

    algorithm: str
    geometry: str
    benchmark: str
    inner_steps: int
    #: algorithm and geometry, with whatever else sets this group apart from others in the report
    label: str
    runs: tuple[Run, ...]
    #: such as ``anil convex`` or ``maml`` (see :func:`methods_of`)
    method: str
    #: benchmark, with whatever else sets its problem apart from others in the report
    problem: str = ""

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its runs, each as often as there are runs of it."""
        return tuple(run.seed for run in self.runs)

    @cached_property
    def by_seed(self) -> dict[int, Run]:
        """The run that counts for each seed: the first by path where there are several."""
        found: dict[int, Run] = {}
        for run in self.runs:
            found.setdefault(run.seed, run)
        return found

    @cached_property
    def completed(self) -> list[Run]:
        """Its runs that came to their last iteration, one a seed."""
        return [run for run in self.by_seed.values() if run.summary.status == Status.COMPLETED]

    @cached_property
    def setting(self) -> Setting:
        """The configuration that its runs share."""
        return setting_of(self.runs[0])

    @property
    def key(self) -> str:
        """The setting as text: the same for groups of other reports that compute the same."""
        return _text(self.setting)

    def same(self, key: str) -> Any:
        """What every run's summary has under ``key``, taken from the first."""
        return getattr(self.runs[0].summary, key)


def group_runs(runs: Iterable[Run]) -> list[Group]:
    """Groups by problem, then MAML before FOMAML before ANIL convex and nonconvex, then N.

    Of two runs with one seed (made on two machines, say) both stay, so that a report can warn.
    """
    found: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        found[_text(setting_of(run))].append(run)
    settings = [setting_of(members[0]) for members in found.values()]
    given = [members[0].config.get("label") for members in found.values()]
    labelled = [{**setting, "label": name} for setting, name in zip(settings, given, strict=True)]
    labels = [
        (f" {name}" if isinstance(name, str) else "") + label
        for name, label in zip(given, _labels(labelled, (*_METHOD, "label")), strict=True)
    ]
    problems = _labels([{name: setting.get(name) for name in PROBLEM} for setting in settings], ("benchmark",))
    named = [
        (one_line(members[0].summary.algorithm), one_line(members[0].summary.geometry)) for members in found.values()
    ]
    methods = methods_of(named)
    groups = []
    for (algorithm, geometry), label, problem, members in zip(named, labels, problems, found.values(), strict=True):
        summary, method = members[0].summary, methods[algorithm, geometry]
        benchmark = one_line(summary.benchmark)
        ordered = tuple(sorted(members, key=lambda run: (run.seed, str(run.path))))
        groups.append(
            Group(
                algorithm,
                geometry,
                benchmark,
                summary.inner_steps,
                one_line(f"{method} N={summary.inner_steps}{label}"),
                ordered,
                method,
                one_line(f"{benchmark}{problem}"),
            )
        )
    return sorted(groups, key=lambda group: (group.problem, rank(group.method), group.inner_steps, group.label))


def setting_of(run: Run) -> Setting:
    """A run's configuration without what may differ within a group, and without what is left to torch."""
    return {name: value for name, value in run.config.items() if name not in _FREE and value is not None}


def methods_of(named: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """What each algorithm and geometry is called: ``anil convex``, ``maml``.

    The geometry is named where the algorithm has several: among these, or as its class says, where it is installed.
    """
    named = list(dict.fromkeys(named))
    known = algorithms().plugins
    several = Counter(algorithm for algorithm, _ in named)
    for name in several.keys() & known.keys():
        several[name] = max(several[name], len(known[name].value.geometries))
    return {
        (algorithm, geometry): f"{algorithm} {geometry}" if several[algorithm] > 1 else algorithm
        for algorithm, geometry in named
    }


def rank(method: str) -> tuple[int, str]:
    """Sorts methods as the paper's tables do, others behind them by name."""
    return (_ORDER.index(method) if method in _ORDER else len(_ORDER), method)


def _labels(settings: Sequence[Setting], same: Sequence[str]) -> list[str]:
    """For each setting, those values in which settings that agree in ``same`` differ: `` inner_lr=0.1``."""
    settings = [_flat(setting) for setting in settings]
    values: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    siblings = [_text([setting.get(name) for name in same]) for setting in settings]
    names = dict.fromkeys(name for setting in settings for name in setting if name not in same)
    for setting, sibling in zip(settings, siblings, strict=True):
        for name in names:
            values[sibling][name].add(_text(setting.get(name)))

    def labels(digits: str) -> list[str]:
        return [
            "".join(f" {name}={_value(setting.get(name), digits)}" for name in names if len(values[sibling][name]) > 1)
            for setting, sibling in zip(settings, siblings, strict=True)
        ]

    short = labels(".4g")
    return short if len(set(zip(siblings, short, strict=True))) == len(settings) else labels("")


def _flat(setting: Setting) -> Setting:
    """``{"algo_options": {"l2": 0.01}}`` as ``{"algo_options.l2": 0.01}``."""
    parts = (
        {f"{name}.{key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
        for name, value in setting.items()
    )
    return {name: value for part in parts for name, value in part.items()}


def _value(value: object, digits: str) -> str:
    if isinstance(value, float):
        return format(value, digits)
    return value if isinstance(value, str) else _text(value)


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)
