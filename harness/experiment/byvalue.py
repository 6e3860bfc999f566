"""What Python objects are, wherever they lie: functions and classes by code and what they hold, data by value."""

from __future__ import annotations

import ast
import dis
import enum
import functools
import hashlib
import inspect
import logging
import re
import secrets
import sys
import threading
import types
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from harness.experiment.trees import tree_digest

_MOST = 100_000
_FUNCTIONS = (types.FunctionType, staticmethod, classmethod, property)
_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_PLAIN = (type(None), int, float, complex, str, bytes, range, slice, PurePath, enum.Enum, type(Ellipsis))


class Description:
    """Collects what objects are: ``modules`` to be read as a whole, and :attr:`parts`, in order.

    What is in an importable module is told by that module's source, and by what closures, defaults and partial
    arguments hold; what was typed into a notebook or a script, by its own source and the globals that it names, by
    its bytecode where there is no source. ``unknown`` names what cannot be told apart from another of its kind.
    """

    def __init__(self) -> None:
        self.modules: dict[str, None] = {}
        self.parts: list[str] = []
        self.unknown: list[str] = []
        self._seen: dict[int, tuple[int, Any]] = {}

    def digest(self) -> str:
        """A hash of the parts."""
        return hashlib.sha256("\0".join(self.parts).encode("utf-8", "surrogatepass")).hexdigest()

    def add(self, value: Any) -> None:
        """Describe ``value`` and everything in it."""
        if isinstance(value, _PLAIN):
            self.parts.append(f"{type(value).__name__} {value!r}")
            return
        if id(value) in self._seen:
            self.parts.append(f"again {self._seen[id(value)][0]}")
            return
        self._seen[id(value)] = (len(self._seen), value)  # held, so that no other gets its id
        if len(self._seen) > _MOST:
            self._unknown(value)
        elif isinstance(value, types.ModuleType):
            self.modules[value.__name__] = None
            self.parts.append(f"module {value.__name__}")
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, functools.partial):
            self._all("partial", value.func, value.args, value.keywords)
        elif isinstance(value, types.MethodType):
            self._all("method", value.__func__, value.__self__)
        elif isinstance(value, staticmethod | classmethod):
            self._all("method", value.__func__)
        elif isinstance(value, property):
            self._all("property", value.fget, value.fset, value.fdel)
        elif isinstance(value, Mapping):
            self._all(f"mapping {len(value)}", *(part for item in value.items() for part in item))
        elif isinstance(value, list | tuple):
            self._all(f"sequence {len(value)}", *value)
        elif isinstance(value, set | frozenset):
            self._all(f"set {len(value)}", *sorted(value, key=repr))
        elif not self._numbers(value):
            self._object(value)

    def _all(self, kind: str, *values: Any) -> None:
        self.parts.append(kind)
        for value in values:
            self.add(value)

    def _numbers(self, value: Any) -> bool:
        """Arrays and tensors, and what generators of random numbers will draw; whether it was one of these."""
        if (torch := sys.modules.get("torch")) is not None:
            if isinstance(value, torch.Generator):
                value = value.get_state()
            if isinstance(value, torch.dtype | torch.device | torch.Size):
                self.parts.append(repr(value))
                return True
            if isinstance(value, torch.Tensor) and value.layout == torch.strided and value.device.type != "meta":
                raw = value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
                self.parts.append(f"tensor {value.dtype} {tuple(value.shape)} {hashlib.sha256(raw).hexdigest()}")
                return True
        if (numpy := sys.modules.get("numpy")) is not None and isinstance(value, numpy.ndarray | numpy.generic):
            if value.dtype.hasobject:
                self._all(f"array {value.shape}", value.tolist())
            else:
                raw = numpy.ascontiguousarray(value).tobytes()
                self.parts.append(f"array {value.dtype} {value.shape} {hashlib.sha256(raw).hexdigest()}")
            return True
        return False

    def _object(self, value: Any) -> None:
        """Anything else: its class, and what its attributes are."""
        if isinstance(value, logging.Logger):
            return self.parts.append("logger")
        if isinstance(value, _LOCKS):
            return self.parts.append("lock")
        try:
            reduced = value.__reduce_ex__(4)  # as copying and pickling have it
        except Exception:  # whatever a class of other people's raises
            return self._all("object", type(value), vars(value)) if hasattr(value, "__dict__") else self._unknown(value)
        if isinstance(reduced, str):  # known by its name, as what a decorator of Python's own makes of a function
            module = str(getattr(value, "__module__", ""))
            if _importable(module):
                self.modules[module] = None
            return self._all(f"named {module} {reduced}", getattr(value, "__wrapped__", None))
        _, arguments, *rest = reduced
        held = [list(part) if isinstance(part, Iterator) else part for part in rest]
        return self._all("object", type(value), arguments, *held)

    def _unknown(self, value: Any) -> None:
        self.unknown.append(f"{type(value).__module__}.{type(value).__qualname__}")
        self.parts.append(secrets.token_hex())

    def _function(self, function: types.FunctionType) -> None:
        self.parts.append(f"function {function.__qualname__}")
        if _importable(function.__module__):
            self.modules[function.__module__] = None
        else:
            self.parts.append(_code_digest(function))
            for name in sorted(_named(function.__code__, "IMPORT_NAME")):
                self.modules[name] = None
            for name in sorted(_named(function.__code__, "LOAD_GLOBAL", "LOAD_NAME")):
                if name in function.__globals__:
                    self._all(f"global {name}", function.__globals__[name])
        cells = [_content(cell) for cell in function.__closure__ or ()]
        self._all("holds", function.__defaults__, function.__kwdefaults__, cells)

    def _class(self, cls: type) -> None:
        self.parts.append(f"class {cls.__qualname__}")
        for base in cls.__mro__:
            if _importable(base.__module__):
                self.modules[base.__module__] = None
                if "<locals>" not in base.__qualname__:  # else its methods hold what the function around it was given
                    continue
            for name, part in sorted(vars(base).items()):
                if isinstance(part, _FUNCTIONS) or not name.startswith(("__", "_abc_")):
                    self._all(f"attribute {name}", part)


def _importable(name: str | None) -> bool:
    """Whether there is a file behind a module that others can import, whose source says all of it."""
    module = sys.modules.get(name or "")
    spec = getattr(module, "__spec__", None)
    if name == "__main__" or module is None:
        return False
    return spec is not None or bool(getattr(module, "__file__", None))


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not set yet
        return None


def _named(code: types.CodeType, *operations: str) -> set[str]:
    """Names that these operations of a function and of those in it have."""
    names = {str(step.argval) for step in dis.get_instructions(code) if step.opname in operations}
    return names.union(*(_named(inner, *operations) for inner in code.co_consts if isinstance(inner, types.CodeType)))


def _code_digest(function: types.FunctionType) -> str:
    """A hash of a function's own source, one for several versions of Python; of its bytecode where there is none."""
    code = function.__code__
    try:
        lines, _ = inspect.findsource(code)
        tree = ast.parse("".join(lines))
    except (OSError, TypeError, SyntaxError, ValueError, IndexError):
        return _bytecode(code)
    kinds = (ast.Lambda,) if code.co_name == "<lambda>" else (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in ast.walk(tree) if isinstance(node, kinds) and _first_line(node) == code.co_firstlineno]
    if len(found) != 1 or getattr(found[0], "name", "<lambda>") != code.co_name:
        return _bytecode(code)
    return tree_digest(found[0])


def _first_line(node: ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    decorators = () if isinstance(node, ast.Lambda) else node.decorator_list
    return min(node.lineno, *(part.lineno for part in decorators), node.lineno)


def _bytecode(code: types.CodeType) -> str:
    own = [
        sorted(part, key=repr) if isinstance(part, frozenset) else part
        for part in code.co_consts
        if not isinstance(part, types.CodeType)
    ]
    inner = [_bytecode(part) for part in code.co_consts if isinstance(part, types.CodeType)]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_argcount, code.co_kwonlyargcount)
    text = re.sub(r" at 0x[0-9a-f]+", "", repr((code.co_code, own, names, inner)))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
