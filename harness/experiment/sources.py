"""What code computes: a hash of each module's syntax tree without docstrings, followed along its imports.

Comments, formatting, docstrings and what stands under ``if TYPE_CHECKING`` are no part of it, nor is where the files
lie. The tree is written out by hand, empty fields left out, because ``ast.dump`` and ``ast.unparse`` differ between
versions of Python: code that all of them can read has one hash on all of them.
"""

from __future__ import annotations

import ast
import functools
import gc
import hashlib
import importlib.metadata
import importlib.util
import site
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

from harness.experiment.trees import for_types, tree_digest

#: the project's own packages: always read, wherever they are installed
OWN = ("harness", "algorithms", "benchmarks")
_WITH_PYTHON = frozenset(sys.stdlib_module_names)

P = ParamSpec("P")
R = TypeVar("R")


class Source(NamedTuple):
    """One file: a hash of what it computes, and the names that it imports, of modules or of what is in them."""

    digest: str
    imports: tuple[str, ...]


def _without_collection(function: Callable[P, R]) -> Callable[P, R]:
    """A syntax tree is many small objects, none of them garbage: collecting among them takes longer than reading."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        enabled = gc.isenabled()
        gc.disable()
        try:
            return function(*args, **kwargs)
        finally:
            if enabled:
                gc.enable()

    return wrapped


@_without_collection
def closure(
    roots: Iterable[str], left_out: Callable[[str], bool] = lambda name: False
) -> tuple[dict[str, str], set[str]]:
    """What the modules ``roots`` execute: the hash of each module by name, and names of installed packages.

    Installed modules are not read but for the roots themselves, Python's own never. What ``left_out`` says stands for
    nothing.
    """
    roots = list(dict.fromkeys(roots))
    beside = [folder for root in roots if (folder := _folder_of(root)) is not None]
    found: dict[str, str] = {}
    packages: set[str] = set()
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        above, _, _ = name.rpartition(".")
        if above and above not in seen:
            waiting.append(above)
        top = name.partition(".")[0]
        root = name in roots and top not in _WITH_PYTHON
        if name in seen or (top in packages and not root):
            continue
        seen.add(name)
        spec = None if left_out(name) else _spec(name, beside)
        if spec is None:
            continue  # no module but something in one, or one that is not there
        installed = top not in OWN and _installed(spec)
        if installed:
            packages.add(top)
        if root or not installed:
            found[_called(spec)], imports = _source(spec)
            waiting += imports
    return found, {top for top in packages if top not in _WITH_PYTHON}


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Names that the code of a module in ``package`` imports, anywhere in it."""
    for node in _executed(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _executed(node: ast.AST) -> Iterator[ast.stmt]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and for_types(child):
            child = ast.Module(child.orelse, [])
        if isinstance(child, ast.stmt):
            yield child
        if not isinstance(child, ast.expr):
            yield from _executed(child)


_specs: dict[int, tuple[ModuleSpec, Source]] = {}
_files: dict[tuple[str, int, int], Source] = {}


def _source(spec: ModuleSpec) -> Source:
    """What the file of a module computes, read once: a loaded module stays what it was until it is loaded anew."""
    loaded = getattr(sys.modules.get(spec.name), "__spec__", None) is spec
    if loaded and id(spec) in _specs:
        return _specs[id(spec)][1]
    source = _read(spec)
    if loaded:
        _specs[id(spec)] = (spec, source)
    return source


def _read(spec: ModuleSpec) -> Source:
    if not spec.has_location or spec.origin is None:  # a folder without an __init__.py
        return Source("", ())
    path = Path(spec.origin)
    try:
        state = path.stat()
        key = (f"{spec.name} {path}", state.st_mtime_ns, state.st_size)
        if key not in _files:
            package = spec.name if spec.submodule_search_locations is not None else spec.name.rpartition(".")[0]
            _files[key] = _parsed(path.read_bytes(), package)
        return _files[key]
    except OSError:  # in an archive, or removed since it was loaded
        return Source(spec.name, ())


def _parsed(content: bytes, package: str) -> Source:
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):  # an extension module
        return Source(hashlib.sha256(content).hexdigest(), ())
    return Source(tree_digest(tree), tuple(dict.fromkeys(_imports(tree, package))))


def _spec(name: str, beside: Sequence[str] = ()) -> ModuleSpec | None:
    """Where a module is, or would be found, also in the folders ``beside``, without importing anything."""
    module = sys.modules.get(name)
    known: ModuleSpec | None = getattr(module, "__spec__", None)
    if known is not None:
        return known
    if file := getattr(module, "__file__", None):  # put there by hand, or a script
        return importlib.util.spec_from_file_location(name, file)
    above, _, _ = name.rpartition(".")
    path = None
    if above:
        parent = _spec(above, beside)
        if parent is None or parent.submodule_search_locations is None:
            return None
        path = list(parent.submodule_search_locations)
    for finder in sys.meta_path:
        try:
            found = finder.find_spec(name, path)
        except (ImportError, ValueError, AttributeError):
            continue
        if found is not None:
            return found
    return None if above else PathFinder.find_spec(name, beside)


def _folder_of(name: str) -> str | None:
    """The folder from which a module of other people's is imported, where imports inside its functions may look too."""
    spec = None if name.partition(".")[0] in {*OWN, *_WITH_PYTHON} else _spec(name)
    if spec is None or not spec.has_location or spec.origin is None:
        return None
    levels = name.count(".") + (spec.submodule_search_locations is not None)
    return str(Path(spec.origin).parents[levels])


def _called(spec: ModuleSpec) -> str:
    """A module's name; that of its file where it was loaded under another one, which may tell where it lies."""
    above, _, last = spec.name.rpartition(".")
    if above or not spec.has_location or spec.origin is None or spec.submodule_search_locations is not None:
        return spec.name
    stem = Path(spec.origin).name.partition(".")[0]
    return last if last == stem else f"{stem} by its path"


def _installed(spec: ModuleSpec) -> bool:
    """Whether a module comes with Python or lies in one of its folders of installed packages."""
    if spec.name.partition(".")[0] in _WITH_PYTHON:
        return True
    places = [spec.origin] if spec.has_location and spec.origin else list(spec.submodule_search_locations or ())
    return any(Path(place).resolve().is_relative_to(folder) for place in places for folder in _folders())


@functools.cache
def _folders() -> list[Path]:
    named = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return [Path(folder).resolve() for folder in (*named, *site.getsitepackages(), site.getusersitepackages())]
