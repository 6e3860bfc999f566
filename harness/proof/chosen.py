"""Which algorithms are verified: registered ones by name, with one geometry as ``anil:convex``, or classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.errors import unknown
from harness.settings.registry import algorithms as registered

if TYPE_CHECKING:
    from harness.problem.algorithm import Algorithm


def chosen(asked: Sequence[str | type[Algorithm]] | None) -> list[type[Algorithm]]:
    """The classes; all that are registered by default. Raises :class:`InputError` for unknown names."""
    return [_named(each) if isinstance(each, str) else each for each in asked or registered().names()]


def _named(text: str) -> type[Algorithm]:
    name, _, geometry = text.partition(":")
    found: type[Algorithm] = registered().get(name)
    if not geometry:
        return found
    if geometry not in found.geometries:
        raise unknown("geometry", geometry, list(found.geometries))
    only = {"geometries": {geometry: found.geometries[geometry]}, "__module__": found.__module__}
    return type(found.__name__, (found,), only)
