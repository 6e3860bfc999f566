"""A hash of what a syntax tree computes, without docstrings, comments and formatting."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterator


def tree_digest(tree: ast.AST) -> str:
    """A hash of what a syntax tree computes."""
    tokens: list[str] = []
    _write(tree, tokens.append)
    return hashlib.sha256("\0".join(tokens).encode("utf-8", "surrogatepass")).hexdigest()


def _write(node: ast.AST, out: Callable[[str], None]) -> None:
    kind = type(node)
    out(kind.__name__)
    for name in kind._fields:
        value = getattr(node, name, None)
        if value is None or value == [] or name in ("kind", "type_comment"):
            if kind is ast.Constant and name == "value":
                out("None")
            continue
        out(name)
        if isinstance(value, ast.AST):
            _write(value, out)
        elif isinstance(value, list):
            for part in _pieces(value) if kind is ast.JoinedStr else value:
                if not isinstance(part, ast.AST):
                    out(repr(part))
                elif not _idle(part):
                    _write(part, out)
            out("]")
        else:
            out(repr(value))
    out(")")


def _idle(node: ast.AST) -> bool:
    """Whether a statement computes nothing: a docstring, or what only type checkers read."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.If) and for_types(node) and not node.orelse


def for_types(node: ast.If) -> bool:
    """Whether ``node`` is an ``if TYPE_CHECKING``."""
    name = node.test.attr if isinstance(node.test, ast.Attribute) else getattr(node.test, "id", None)
    return name == "TYPE_CHECKING"


def _pieces(values: list[ast.expr]) -> Iterator[ast.expr]:
    """Parts of an f-string, the text between two of them in one piece: versions of Python split it differently."""
    text = ""
    for value in values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            text += value.value
            continue
        if text:
            yield ast.Constant(text)
        text = ""
        yield value
    if text:
        yield ast.Constant(text)
