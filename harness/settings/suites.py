"""Suites: YAML files that describe a grid of runs, and what each of its settings rests on. Free of torch."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from harness.errors import InputError, MissingData, unknown
from harness.settings.config import RunConfig, Settings, validate
from harness.settings.layers import assign, read
from harness.settings.listing import suites
from harness.settings.resolve import Resolved, resolve
from harness.strangers.values import validate_as

_MOST_RUNS = 10_000


class Published(Settings):
    """A number in print, to stand beside the measured one of the runs that have these ``settings``."""

    settings: dict[str, Any]
    accuracy: float = Field(gt=0, le=1, description="mean accuracy on held-out tasks")
    ci95: float | None = Field(default=None, ge=0, description="half width of its 95 % interval")
    source: str = Field(min_length=1, description="where it is in print")


class Suite(Settings):
    """A grid: every entry of ``grid`` on top of ``base``, lists crossed, once with every seed."""

    title: str = Field(min_length=1, description="what the suite shows")
    source: str = Field(default="", description="where the settings are stated")
    chosen_here: dict[str, str] = Field(default={}, description="settings that the source leaves open, and why so")
    base: dict[str, Any] = Field(default={}, description="settings of every run")
    grid: tuple[dict[str, Any], ...] = Field(min_length=1, description="settings to cross, one grid an entry")
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1, description="seeds of every setting")
    published: tuple[Published, ...] = Field(default=(), description="numbers in print for these settings")


@dataclass(frozen=True)
class Plan:
    """The runs of a suite, in the order in which they are started; one seed of everything comes first."""

    runs: tuple[Resolved, ...]
    #: why runs were left out: data sets that are not there
    missing: tuple[str, ...] = ()


def plan(name: str, assignments: Iterable[str] = (), seeds: Sequence[int] | None = None) -> Plan:
    """The runs of the suite called ``name`` (or in the file ``name``), settings of ``assignments`` on top.

    ``seeds`` are instead of the suite's own.

    Raises :class:`InputError` that names file and line for the first setting that no run can have.
    """
    path = find(name)
    values, origins = read(path)
    suite = validate_as(Suite, values, {name: f"{path}: {name}" for name in Suite.model_fields} | origins)
    over: dict[str, Any] = {}
    over_origins: dict[str, str] = {}
    for assignment in assignments:
        assign(RunConfig, assignment, over, over_origins)
    if seeds is not None:
        if "seed" in over:
            raise InputError(f"--seeds with {over_origins['seed']}: give one of them")
        suite = suite.model_copy(update={"seeds": tuple(seeds)})
    _refuse_many(suite, path)
    runs: dict[str, Resolved] = {}
    missing: dict[str, MissingData] = {}
    for seed in suite.seeds:
        for settings, places in _crossed(suite, origins, path.parent):
            settings = {**settings, "seed": seed, **over}
            where = {"seed": origins.get("seeds", "seeds"), **places, **over_origins}
            try:
                run = resolve(validate(settings, where), origins=where)
            except MissingData as error:
                missing[str(settings.get("benchmark"))] = error
                continue
            runs[run.config.model_dump_json()] = run  # what two entries share is run once
    if not runs:
        raise next(iter(missing.values()))
    return Plan(tuple(runs.values()), tuple(map(str, missing.values())))


def overview(path: Path) -> dict[str, Any]:
    """What the suite in a file holds, as it says: ``title``, ``benchmarks``, ``seeds`` and the number of ``runs``."""
    values, origins = read(path)
    suite = validate_as(Suite, values, origins)
    _refuse_many(suite, path)
    crossed = [settings for settings, _ in _crossed(suite, origins, path.parent)]
    default = RunConfig.model_fields["benchmark"].default
    return {
        "title": suite.title,
        "benchmarks": list(dict.fromkeys(str(settings.get("benchmark", default)) for settings in crossed)),
        "seeds": list(suite.seeds),
        "runs": len({json.dumps(settings, sort_keys=True) for settings in crossed}) * len(set(suite.seeds)),
    }


def published() -> list[Published]:
    """Every number in print that the project's suites know."""
    return [entry for path in suites() for entry in validate_as(Suite, *read(path)).published]


def find(name: str) -> Path:
    """The file of a suite that comes with the project, or a file of one's own."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path
    known = {suite.stem: suite for suite in suites()}
    if name not in known:
        raise unknown("suite", name, [*known, "FILE.yaml"])
    return known[name]


def _refuse_many(suite: Suite, path: Path) -> None:
    """A few lists of a few values each are more runs than anybody can wait for."""
    lists = ([value for value in entry.values() if isinstance(value, list)] for entry in suite.grid)
    runs = len(suite.seeds) * sum(math.prod(map(len, values)) for values in lists)
    if runs > _MOST_RUNS:
        many = f"{runs:,}" if runs < 10**15 else "more than 10^15"
        raise InputError(f"{path}: grid: {many} runs; allowed: {_MOST_RUNS:,}")


def _crossed(suite: Suite, origins: Mapping[str, str], folder: Path) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """Settings of one run each, with where every setting was given. ``config`` names a file of more of them."""
    base = {key: origins.get(f"base.{key}", key) for key in suite.base}
    for number, entry in enumerate(suite.grid):
        here = {key: origins.get(f"grid.{number}.{key}", key) for key in entry}
        entry, filed, places = dict(entry), dict[str, Any](), dict[str, str]()
        if (file := entry.pop("config", None)) is not None:
            if not isinstance(file, str):
                raise InputError(f"{here['config']}: {file!r} is not allowed; allowed: a YAML file of settings")
            filed, places = read(folder / file)
        choices = [value if isinstance(value, list) else [value] for value in entry.values()]
        if empty := next((key for key, value in zip(entry, choices, strict=True) if not value), None):
            raise InputError(f"{here[empty]}: an empty list; allowed: a value or a list of values")
        for values in itertools.product(*choices):
            yield {**suite.base, **filed, **dict(zip(entry, values, strict=True))}, {**base, **places, **here}
