"""Layers of settings: a YAML file, then flags, then --set, each value remembering where it was given."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from harness.config import RunConfig, S, validate_as
from harness.errors import InputError, unknown
from harness.foreign import one_line, read_plain

# More than any suite needs, and few enough to be read in a second or two.
_MOST_BYTES, _MOST_NODES, _DEEPEST, _MOST_DIGITS = 1 << 18, 20_000, 32, 100
_TAG = "tag:yaml.org,2002:"
_PLAIN = ("str", "int", "float", "bool", "null", "map", "seq", "merge")


class Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-3 as a number, as YAML 1.2 does, and not as text; and nothing nested without end."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """One value and all within it."""
        self.depth += 1
        if self.depth > _DEEPEST + 1:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(problem=f"nested deeper than {_DEEPEST} levels", problem_mark=mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)$"),
    list("-+.0123456789"),
)


def gather(
    file: Path | None = None, flags: Mapping[str, Any] | None = None, assignments: Iterable[str] = ()
) -> tuple[RunConfig, dict[str, str]]:
    """The run configuration from such layers, see :func:`gather_as`."""
    return gather_as(RunConfig, file, flags, assignments)


def gather_as(
    schema: type[S], file: Path | None = None, flags: Mapping[str, Any] | None = None, assignments: Iterable[str] = ()
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
        if name.endswith("_options") and isinstance(value, str):
            value = parse(value, flag)
        values[name], origins[name] = value, flag
    for assignment in assignments:
        assign(schema, assignment, values, origins)
    return validate_as(schema, values, origins), origins


def read(file: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Keys and values of a YAML file, and ``file:line: key`` for each key; raises :class:`InputError`."""
    try:
        text = read_plain(file, _MOST_BYTES).decode("utf-8")
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"{one_line(file)}: {reason}; allowed: a readable YAML file") from None
    where = one_line(file)
    node, values = _composed(text, where)
    if node is None:
        return {}, {}
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"{where}:1: not a mapping; allowed: lines of the form key: value")
    origins: dict[str, str] = {}
    _locate(where, node, "", origins)
    return values, origins


def parse(text: str, where: str) -> Any:
    """The YAML value that ``text`` of the command line says; raises :class:`InputError`."""
    return _composed(text, f"{where} {text!r}")[1]


def _composed(text: str, where: str) -> tuple[yaml.Node | None, Any]:
    """The nodes and the value of a YAML document, which is a small tree of plain values."""
    try:
        node = yaml.compose(text, Loader=Loader)
        if node is not None:
            _check(node, where)
        return node, yaml.load(text, Loader=Loader)
    except InputError:
        raise
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"{where}{line}: not readable as YAML: {one_line(problem)}") from None
    except RecursionError:
        raise InputError(f"{where}: nested too deeply; allowed: {_DEEPEST} levels") from None
    except Exception as error:  # its constructors raise whatever int(), float() and the like do
        raise InputError(f"{where}: not readable as YAML: {one_line(error)[:200]}") from None


def _check(root: yaml.Node, where: str) -> None:
    """Refuse types that are not plain, and aliases by which a few lines grow to a document without end."""
    waiting, seen = [(root, 0)], 0
    while waiting:
        node, depth = waiting.pop()
        seen += 1
        here = f"{where}:{node.start_mark.line + 1}"
        if seen > _MOST_NODES or depth > _DEEPEST:
            raise InputError(f"{here}: too large; allowed: {_MOST_NODES} values, aliases counted, {_DEEPEST} levels")
        if node.tag.removeprefix(_TAG) not in _PLAIN:
            kind = one_line(node.tag.removeprefix(_TAG))
            raise InputError(f"{here}: a value of type {kind} is not allowed; allowed: {', '.join(_PLAIN)}")
        if isinstance(node, yaml.ScalarNode):
            _whole(node.value, here)
            if node.tag == f"{_TAG}int" and len(node.value) > _MOST_DIGITS:
                raise InputError(f"{here}: a number of {len(node.value)} digits; allowed: {_MOST_DIGITS}")
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.tag not in (f"{_TAG}str", f"{_TAG}merge"):
                    raise InputError(f"{here}: a key of type {one_line(key.tag.removeprefix(_TAG))}; allowed: text")
                _whole(key.value, here)
                waiting.append((value, depth + 1))
        else:
            waiting.extend((part, depth + 1) for part in node.value)


def _whole(text: str, here: str) -> None:
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InputError(f"{here}: {one_line(text)!r} has half a character in it; allowed: text")


def _locate(file: str, node: yaml.MappingNode, prefix: str, origins: dict[str, str]) -> None:
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        where = f"{file}:{key.start_mark.line + 1}: {one_line(path)}"
        if path in origins:
            raise InputError(f"{where}: given twice; allowed: every key once")
        origins[path] = where
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
    value = parse(text, where)
    if not rest:
        values[field], origins[field] = value, where
        return
    if not field.endswith("_options"):
        nested = ", ".join(name for name in schema.model_fields if name.endswith("_options"))
        raise InputError(f"{where}: {field} has no keys of its own; allowed: {nested}")
    current = values.get(field)
    values[field] = {**(current if isinstance(current, dict) else {}), rest[0]: value}
    origins[f"{field}.{rest[0]}"] = where
