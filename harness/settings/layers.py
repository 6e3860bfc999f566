"""Layers of settings: a YAML file, then flags, then --set, each value remembering where it was given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from harness.errors import InputError, unknown
from harness.settings.config import RunConfig
from harness.store.foreign import one_line, read_plain
from harness.store.yaml_core import MOST_BYTES, load, parse
from harness.strangers.values import S, validate_as


def gather(
    file: Path | None = None, flags: Mapping[str, str] | None = None, assignments: Iterable[str] = ()
) -> tuple[RunConfig, dict[str, str]]:
    """The run configuration from such layers, see :func:`gather_as`."""
    return gather_as(RunConfig, file, flags, assignments)


def gather_as(
    schema: type[S], file: Path | None = None, flags: Mapping[str, str] | None = None, assignments: Iterable[str] = ()
) -> tuple[S, dict[str, str]]:
    """The ``schema`` from a YAML ``file``, then ``flags``, then ``KEY=VALUE`` assignments, later ones winning.

    Returns it with the origin of every given key, for error messages. Raises :class:`InputError`
    in one line: where, what, and what is allowed.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if file is not None:
        values, origins = read(file)
    for name, value in (flags or {}).items():
        flag = "--" + name.replace("_", "-")
        values[name], origins[name] = parse(value, flag, name), flag
    for assignment in assignments:
        assign(schema, assignment, values, origins)
    return validate_as(schema, values, origins), origins


def read(file: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Keys and values of a YAML file, and ``file:line: key`` for each key; raises :class:`InputError`."""
    try:
        text = read_plain(file, MOST_BYTES).decode("utf-8")
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"{one_line(file)}: {reason}; allowed: a readable YAML file") from None
    where = one_line(file)
    node, values = load(text, where)
    if node is None:
        return {}, {}
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"{where}:1: not a mapping; allowed: lines of the form key: value")
    origins: dict[str, str] = {}
    _locate(where, node, "", origins)
    return values, origins


def _locate(file: str, node: yaml.MappingNode, prefix: str, origins: dict[str, str]) -> None:
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        origins[path] = f"{file}:{key.start_mark.line + 1}: {one_line(path)}"
        if isinstance(value, yaml.MappingNode):
            _locate(file, value, f"{path}.", origins)
        if isinstance(value, yaml.SequenceNode):
            for number, item in enumerate(value.value):
                if isinstance(item, yaml.MappingNode):
                    _locate(file, item, f"{path}.{number}.", origins)


def assign(schema: type[BaseModel], assignment: str, values: dict[str, Any], origins: dict[str, str]) -> None:
    """Put one ``KEY=VALUE`` of the command line into ``values``; raises :class:`InputError`."""
    key, equals, text = assignment.partition("=")
    where = f"--set {key}"
    if not equals or not key:
        raise InputError(f"--set {assignment!r}: allowed: KEY=VALUE, such as algo_options.l2=0.01")
    field, *rest = key.replace("-", "_").split(".", 1)
    if field not in schema.model_fields:
        raise InputError(f"{where}: {unknown('key', field, schema.model_fields)}")
    value = parse(text, where, field)
    if not rest:
        values[field], origins[field] = value, where
        return
    if not field.endswith("_options"):
        nested = ", ".join(name for name in schema.model_fields if name.endswith("_options"))
        raise InputError(f"{where}: {field} has no keys of its own; allowed: {nested}")
    current = values.get(field)
    values[field] = {**(current if isinstance(current, dict) else {}), rest[0]: value}
    origins[f"{field}.{rest[0]}"] = where
