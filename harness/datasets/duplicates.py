"""Identical pictures: where they are, and which of them to leave out."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.datasets.class_images import ClassImages, Identity
from harness.problem.benchmark import SPLITS

if TYPE_CHECKING:
    import numpy as np

KINDS = ("within_class", "across_classes", "across_splits")


class Place(NamedTuple):
    """Where a picture is: its split, the name of its class, and its row in the split."""

    split: str
    name: str
    row: int


def identical(splits: Mapping[str, ClassImages]) -> list[list[Place]]:
    """Groups of two or more pictures with the same pixels."""
    found: dict[bytes, list[Place]] = {}
    for split, data in splits.items():
        row = 0
        for name, count in zip(data.names, data.counts, strict=True):
            for image in data.images[row : row + count]:
                found.setdefault(hashlib.sha256(image.tobytes()).digest(), []).append(Place(split, name, row))
                row += 1
    return [group for group in found.values() if len(group) > 1]


def kind(group: Iterable[Place]) -> str:
    """The worst that a group is: one of :data:`KINDS`."""
    classes = {(place.split, place.name) for place in group}
    return KINDS[2] if len({split for split, _ in classes}) > 1 else KINDS[1] if len(classes) > 1 else KINDS[0]


def summary(groups: list[list[Place]]) -> dict[str, Any]:
    """Numbers of groups of each kind, and for each group its kind and how many pictures are where."""
    kinds = Counter(map(kind, groups))
    where = [Counter(f"{place.split}: {place.name}" for place in group) for group in groups]
    listed = [{"kind": kind(group), "pictures": dict(there)} for group, there in zip(groups, where, strict=True)]
    return {**{name: kinds[name] for name in KINDS}, "groups": listed}


def same_classes(groups: list[list[Place]], known: Mapping[str, Identity]) -> list[str]:
    """A line for every two classes that share at least half of the smaller one's pictures."""
    shared: Counter[tuple[tuple[str, str], ...]] = Counter()
    for group in groups:
        classes = sorted({(place.split, place.name) for place in group}, key=lambda c: (SPLITS.index(c[0]), c[1]))
        shared.update(itertools.combinations(classes, 2))
    size = {(split, name): n for split, i in known.items() for name, n in zip(i.names, i.counts, strict=True)}
    return [
        f"{one[0]} class {one[1]!r} and {other[0]} class {other[1]!r} share {number} pictures"
        for (one, other), number in shared.items()
        if 2 * number >= min(size[one], size[other])
    ]


def drawn_once(splits: Mapping[str, ClassImages]) -> dict[str, np.ndarray]:
    """For each split which of its rows are left, as booleans, where no picture may be drawn twice.

    Of pictures in several splits those of the last stay, so that what tests is what was published and nothing of it
    was trained on. A picture under two labels of one split goes: nobody knows which is right. Of several in one
    class the first stays.
    """
    import numpy as np

    left = {split: np.ones(len(data.images), bool) for split, data in splits.items()}
    for group in identical(splits):
        last = max((place.split for place in group), key=SPLITS.index)
        there = [place for place in group if place.split == last]
        first = there[0] if len({place.name for place in there}) == 1 else None
        for place in group:
            left[place.split][place.row] = place == first
    return left
