"""A person's own models, losses and benchmarks by name: ``module:name`` or ``FILE.py:name``. Free of torch."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.errors import InputError
from harness.store.foreign import one_line
from harness.strangers.blame import blamed

FORMS = "module:{0} or FILE.py:{0}"
#: folders that modules were found in, where Python would not have looked
_BESIDE: dict[str, Path] = {}
#: hashes of the files that modules were executed from
_CONTENT: dict[str, bytes] = {}


def is_named(name: str) -> bool:
    """Whether ``name`` is of that form, and no plugin's."""
    return ":" in name


def load_named(kind: str, name: str, what: str) -> Any:
    """The object that ``name`` says is a ``kind`` (model, loss, benchmark), ``what`` it has to be, in a word.

    A module is looked for where Python looks and last in the current folder; a file finds helpers beside it, likewise
    last, so that nothing there can stand in for what is installed. Raises :class:`InputError`.
    """
    shown, forms = f"{kind} {one_line(name)!r}", FORMS.format(what)
    place, _, attribute = name.rpartition(":")
    if not attribute.isidentifier() or not (place.endswith(".py") or all(map(str.isidentifier, place.split(".")))):
        raise InputError(f"{shown} cannot be imported: it names no {what} of a module; allowed: {forms}")
    with blamed(shown):
        try:
            return getattr(_module(place), attribute)
        except (ImportError, AttributeError, OSError) as error:
            raise InputError(f"{shown} cannot be imported: {one_line(error)}; allowed: {forms}") from error


def absolute(kind: str, name: str, what: str) -> str:
    """``name`` with the path of a file as it is from everywhere; other names as they are."""
    path, colon, attribute = name.rpartition(":")
    if not colon or not path.endswith(".py"):
        return name
    try:
        return f"{Path(path).resolve()}:{attribute}"
    except (ValueError, OSError, RuntimeError) as error:  # names that no file can have, links in a circle
        raise InputError(f"{kind} {one_line(name)!r}: {error}; allowed: {FORMS.format(what)}") from None


def module_of(name: str) -> str:
    """What the module of ``name`` is called here, once it has been loaded."""
    place = name.rpartition(":")[0]
    return _called(Path(place).resolve()) if place.endswith(".py") else place


def brief(name: str) -> str:
    """``name`` without the folders of a file."""
    path, colon, attribute = name.rpartition(":")
    return f"{Path(path).name}:{attribute}" if colon and path.endswith(".py") else name


def found_beside(thing: object) -> AbstractContextManager[object]:
    """Inside, imports in functions of ``thing``'s module find what lies beside it."""
    folder = _BESIDE.get(getattr(inspect.getmodule(thing), "__name__", ""))
    return _searched(folder) if folder else nullcontext()


def _module(place: str) -> ModuleType:
    if place.endswith(".py"):
        return _module_in(Path(place))
    with _searched(Path.cwd()) as folder:
        module = importlib.import_module(place)
        if str(folder) not in sys.path[:-1]:
            _BESIDE[place] = folder
        return module


def _module_in(file: Path) -> ModuleType:
    """The module in ``file``, under a name that no other module has; executed anew where the file has been edited."""
    file = file.resolve()
    if not file.is_file():  # a pipe would be waited for
        raise FileNotFoundError(f"{file} is no file")
    name, content = _called(file), hashlib.sha256(file.read_bytes()).digest()
    if name in sys.modules and _CONTENT.get(name) == content:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    _BESIDE[name], _CONTENT[name] = file.parent, content
    try:
        with _searched(file.parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _called(file: Path) -> str:
    return f"{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:10]}"


@contextmanager
def _searched(folder: Path) -> Iterator[Path]:
    """Inside, modules are looked for in ``folder`` too, after everywhere else."""
    importlib.invalidate_caches()
    sys.path.append(str(folder))
    try:
        yield folder
    finally:
        sys.path.reverse()
        sys.path.remove(str(folder))
        sys.path.reverse()
