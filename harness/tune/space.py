"""The space of a study: what the algorithm declares, narrowed, widened or fixed by a person. Free of Optuna."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.errors import InputError, unknown
from harness.problem.search_space import Choice, Range
from harness.settings.config import RunConfig
from harness.settings.layers import read
from harness.store.yaml_core import parse

Space = dict[str, Range | Choice]

#: settings that may be searched, besides options of the algorithm and the model; the rest is the problem itself
TUNABLE = (
    *("inner_lr", "inner_steps", "meta_batch", "outer_lr_w", "outer_lr_phi"),
    *("outer_optimizer", "norm_statistics", "adapt", "strategy"),
)
_NESTED = ("algo_options", "model_options")
_FORMS = "a value to fix it, LOW..HIGH, LOW..HIGH log, or A,B,C"
_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_RANGE = re.compile(rf"^\s*({_NUMBER})\s*\.\.\s*({_NUMBER})\s*(log|linear)?\s*$")


class Override:
    """What a person asks of one parameter: a value to fix it at, or a range or choice; and where it was asked."""

    def __init__(self, name: str, value: Any, where: str) -> None:
        self.name, self.value, self.where = name, value, where

    def distribution(self, declared: Range | Choice | None) -> Range | Choice | None:
        """The range or choice that is asked for, None where it is to be fixed; raises :class:`InputError`."""
        value = self.value
        if isinstance(value, str) and (found := _RANGE.match(value)):
            low, high = (_number(found.group(part)) for part in (1, 2))
            return self._range(low, high, found.group(3), declared)
        if isinstance(value, Mapping):
            if not {"low", "high"} <= set(value) <= {"low", "high", "log"}:
                raise InputError(f"{self.where}: keys {', '.join(map(str, value))}; allowed: low, high and log")
            log = value.get("log")
            if not (log is None or isinstance(log, bool)):
                raise InputError(f"{self.where}: log {log!r} is not allowed; allowed: true or false")
            scale = None if log is None else "log" if log else "linear"
            return self._range(value["low"], value["high"], scale, declared)
        if isinstance(value, list):
            if len(set(map(repr, value))) != len(value) or not value or not all(map(_plain, value)):
                raise InputError(f"{self.where}: {value!r} is not allowed; allowed: a list of different values")
            return Choice(tuple(value)) if len(value) > 1 else None
        if not _plain(value):
            raise InputError(f"{self.where}: {value!r} is not allowed; allowed: {_FORMS}")
        return None

    @property
    def fixed(self) -> Any:
        """The value to fix it at, where :meth:`distribution` is None."""
        return self.value[0] if isinstance(self.value, list) else self.value

    def _range(self, low: Any, high: Any, scale: str | None, declared: Range | Choice | None) -> Range:
        for end in (low, high):
            if not isinstance(end, int | float) or isinstance(end, bool) or not math.isfinite(end):
                raise InputError(f"{self.where}: {end!r} is no end of a range; allowed: a number")
        if low >= high:
            fault = "has its ends swapped" if low > high else "is empty"
            raise InputError(f"{self.where}: {low}..{high} {fault}; allowed: LOW..HIGH with LOW < HIGH")
        log = scale == "log" if scale else isinstance(declared, Range) and declared.log
        if log and low <= 0:
            raise InputError(f"{self.where}: {low} on a log scale; allowed: numbers > 0, or LOW..HIGH linear")
        field = RunConfig.model_fields.get(self.name)
        if field is not None and field.annotation is int and not (isinstance(low, int) and isinstance(high, int)):
            raise InputError(f"{self.where}: {low}..{high} is not allowed; allowed: integers")
        if (field is not None and field.annotation is float) or (isinstance(declared, Range) and not declared.whole):
            low, high = float(low), float(high)
        return Range(low, high, log)


def overrides(file: Path | None, assignments: Iterable[str]) -> list[Override]:
    """What ``--space FILE.yaml`` and ``--set-space NAME=...`` ask for, later ones winning."""
    found: dict[str, Override] = {}
    if file is not None:
        values, origins = read(file)
        for name, value in values.items():
            nested = name in _NESTED and isinstance(value, Mapping)
            for key, part in value.items() if nested else [(None, value)]:
                full = f"{name}.{key}" if nested else name
                found[full] = Override(full, part, origins.get(full, f"{file}: {full}"))
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip().replace("-", "_")
        where = f"--set-space {name}"
        if not equals or not name:
            raise InputError(f"--set-space {assignment!r}: allowed: NAME={_FORMS}")
        found[name] = Override(name, _value(text, where), where)
    return list(found.values())


def narrowed(declared: Mapping[str, Range | Choice], asked: Iterable[Override]) -> tuple[Space, dict[str, Any]]:
    """The space with every override met, and the values that are fixed; raises :class:`InputError`."""
    space, fixed = dict(declared), dict[str, Any]()
    for override in asked:
        check_name(override, declared)
        distribution = override.distribution(declared.get(override.name))
        if distribution is None:
            space.pop(override.name, None)
            fixed[override.name] = override.fixed
        else:
            space[override.name] = distribution
    return space, fixed


def check_name(override: Override, declared: Iterable[str]) -> None:
    """Raise :class:`InputError` unless the name is a setting that may be searched."""
    if (
        override.name in TUNABLE
        or (override.name.partition(".")[0] in _NESTED and "." in override.name)
        or override.name in declared
    ):
        return
    if override.name in RunConfig.model_fields:
        kinds = ", ".join([*TUNABLE, *(f"{name}.KEY" for name in _NESTED)])
        raise InputError(f"{override.where}: {override.name!r} is part of the problem or its budget; allowed: {kinds}")
    raise InputError(f"{override.where}: {unknown('parameter', override.name, {*TUNABLE, *declared})}")


def put(settings: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """``settings`` of a run with ``values`` in it, whose names may be nested as ``algo_options.l2``."""
    result = dict(settings)
    for name, value in values.items():
        field, dot, key = name.partition(".")
        result[field] = {**result.get(field, {}), key: value} if dot else value
    return result


def lookup(settings: Mapping[str, Any], name: str) -> Any:
    """The value of ``name``, which may be nested, in ``settings``; None where there is none."""
    field, dot, key = name.partition(".")
    return settings.get(field, {}).get(key) if dot else settings.get(field)


def as_document(space: Space) -> dict[str, Any]:
    """``space`` as JSON can hold it, see :func:`from_document`."""
    return {
        name: list(part.values) if isinstance(part, Choice) else {"low": part.low, "high": part.high, "log": part.log}
        for name, part in space.items()
    }


def from_document(document: Mapping[str, Any]) -> Space:
    """The inverse of :func:`as_document`."""
    return {name: Choice(tuple(part)) if isinstance(part, list) else Range(**part) for name, part in document.items()}


def _value(text: str, where: str) -> Any:
    if _RANGE.match(text):
        return text
    return parse(f"[{text}]", where)


def _number(text: str) -> float:
    return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)
