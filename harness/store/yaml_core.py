"""YAML by version 1.2's core schema: the one reader of what people and runs write, and the one writer of it."""

from __future__ import annotations

import re
from typing import Any

import yaml

from harness.errors import InputError
from harness.store.foreign import one_line

#: more than any suite needs, and few enough to be read in a second or two; what is written keeps to them too
MOST_BYTES, MOST_NODES, DEEPEST, MOST_DIGITS = 1 << 18, 20_000, 32, 100
_TAG = "tag:yaml.org,2002:"
_PLAIN = ("str", "int", "float", "bool", "null", "map", "seq", "merge")
# https://yaml.org/spec/1.2.2/#1032-tag-resolution; merge keys, which only 1.1 has, hurt nobody.
_FORMS = {
    "null": r"null|Null|NULL|~|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "merge": "<<",
}
_RULES = {kind: re.compile(rf"(?:{form})\Z") for kind, form in _FORMS.items()}


class _Loader(yaml.SafeLoader):
    """SafeLoader with the core schema's types and no others; nothing nested without end."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """One value and all within it."""
        self.depth += 1
        if self.depth > DEEPEST + 1:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(problem=f"nested deeper than {DEEPEST} levels", problem_mark=mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def _scalar(self, node: yaml.Node, kind: str) -> str:
        text = str(self.construct_scalar(node))  # type: ignore[arg-type]
        if not _RULES[kind].match(text):
            raise yaml.constructor.ConstructorError(problem=f"{text!r} is no {kind}", problem_mark=node.start_mark)
        return text

    def construct_null(self, node: yaml.Node) -> None:
        self._scalar(node, "null")

    def construct_bool(self, node: yaml.Node) -> bool:
        return self._scalar(node, "bool").lower() == "true"

    def construct_int(self, node: yaml.Node) -> int:
        text = self._scalar(node, "int")
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))

    def construct_float(self, node: yaml.Node) -> float:
        return float(re.sub(r"\.(?=inf|nan)", "", self._scalar(node, "float").lower()))


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes text which either version of YAML would take for something else."""


for _kind, _rule in _RULES.items():
    _Loader.add_implicit_resolver(_TAG + _kind, _rule, None)
    _Dumper.add_implicit_resolver(_TAG + _kind, _rule, None)
for _kind in ("null", "bool", "int", "float"):
    _Loader.add_constructor(_TAG + _kind, getattr(_Loader, f"construct_{_kind}"))


def dumped(document: Any) -> bytes:
    """``document`` of plain values as YAML."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False).encode()


def load(text: str, where: str, advice: str = "") -> tuple[yaml.Node | None, Any]:
    """The nodes and the value of a YAML document, a small tree of plain values.

    Raises :class:`InputError` in one line; ``advice`` follows where it is no YAML.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, None
        _check(node, where)
        return node, loader.construct_document(node)
    except InputError:
        raise
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"{where}{line}: not readable as YAML: {one_line(problem)}{advice}") from None
    except RecursionError:
        raise InputError(f"{where}: nested too deeply; allowed: {DEEPEST} levels") from None
    except Exception as error:  # its constructors raise whatever int(), float() and the like do
        raise InputError(f"{where}: not readable as YAML: {one_line(error)[:200]}") from None


def parse(text: str, where: str, key: str = "value") -> Any:
    """The value that a file has with ``text`` after ``key: ``; raises :class:`InputError`.

    Flags and assignments are read so, and thus as files are.
    """
    where = f"{where}: {text!r}"
    node, values = load(f"{key}: {text}", where, "; text that YAML has a meaning for goes into quotes")
    if not isinstance(node, yaml.MappingNode) or len(node.value) != 1:
        raise InputError(f"{where}: more than one line; allowed: one YAML value")
    return values[key]


def _check(root: yaml.Node, where: str) -> None:
    """Refuse types that are not plain, and aliases by which a few lines grow to a document without end."""
    waiting, seen = [(root, 0)], 0
    while waiting:
        node, depth = waiting.pop()
        seen += 1
        here = f"{where}:{node.start_mark.line + 1}"
        if seen > MOST_NODES or depth > DEEPEST:
            raise InputError(f"{here}: too large; allowed: {MOST_NODES} values, aliases counted, {DEEPEST} levels")
        if node.tag.removeprefix(_TAG) not in _PLAIN:
            kind = one_line(node.tag.removeprefix(_TAG))
            raise InputError(f"{here}: a value of type {kind} is not allowed; allowed: {', '.join(_PLAIN)}")
        if isinstance(node, yaml.ScalarNode):
            _whole(node.value, here)
            if node.tag == f"{_TAG}int" and len(node.value) > MOST_DIGITS:
                raise InputError(f"{here}: a number of {len(node.value)} digits; allowed: {MOST_DIGITS}")
        elif isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                if key.tag not in (f"{_TAG}str", f"{_TAG}merge"):
                    raise InputError(f"{here}: a key of type {one_line(key.tag.removeprefix(_TAG))}; allowed: text")
                _whole(key.value, here)
                if key.value in keys:
                    line = f"{where}:{key.start_mark.line + 1}"
                    raise InputError(f"{line}: {one_line(key.value)}: given twice; allowed: every key once")
                keys.add(key.value)
                waiting.append((value, depth + 1))
        else:
            waiting.extend((part, depth + 1) for part in node.value)


def _whole(text: str, here: str) -> None:
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InputError(f"{here}: {one_line(text)!r} has half a character in it; allowed: text")
