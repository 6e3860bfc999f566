"""Installed packages: their versions, and hashes of their files."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator


@functools.cache
def version(package: str) -> str:
    """Version of the distribution that an installed package is from; which build it is, after a plus, is left out."""
    for name in _distributions(package):
        try:
            return importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"


@functools.cache
def contents(package: str) -> str:
    """A hash of the Python files of the distribution that an installed package is from, as its ``RECORD`` has them."""
    for name in _distributions(package):
        try:
            record = importlib.metadata.distribution(name).read_text("RECORD") or ""
        except importlib.metadata.PackageNotFoundError:
            continue
        lines = sorted(line for line in record.splitlines() if ".py,sha256=" in line)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    return ""


def _distributions(package: str) -> Iterator[str]:
    """Names that the distribution of a package may have; the second look takes half a second."""
    yield package
    yield from importlib.metadata.packages_distributions().get(package, ())
