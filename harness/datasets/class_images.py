"""The images of one split: what they are known by, and which are refused."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter, ValidationError

from harness.errors import InputError
from harness.problem.benchmark import SPLITS

if TYPE_CHECKING:
    import numpy as np

    from harness.datasets.images import ImageBenchmark

#: what pixels may be: their type, and the values that stand for black and white
RANGES: Mapping[str, tuple[float, float]] = {"uint8": (0, 255), "float32": (0.0, 1.0)}


@dataclass(frozen=True)
class Identity:
    """What a split holds, without its pixels. Every hash is SHA-256 in hexadecimal."""

    #: of everything
    digest: str
    counts: tuple[int, ...]
    names: tuple[str, ...]
    #: of the images of each class
    digests: tuple[str, ...]


@dataclass(frozen=True)
class ClassImages:
    """The images of one split, class after class.

    ``images`` is ``[n, channels, height, width]``, uint8 unless the benchmark says otherwise; ``counts`` holds the
    number of images of each class, in the order of ``names``.
    """

    images: np.ndarray
    counts: tuple[int, ...]
    names: tuple[str, ...]

    @cached_property
    def identity(self) -> Identity:
        """What these images are known by: their content, not where they came from."""
        import numpy as np

        digests, start = [], 0
        for count in self.counts:
            rows = np.ascontiguousarray(self.images[start : start + count])
            digests.append(hashlib.sha256(rows.reshape(-1).view(np.uint8).data).hexdigest())
            start += count
        shape = (str(self.images.dtype), self.images.shape)
        whole = hashlib.sha256(json.dumps([shape, self.counts, self.names, digests]).encode()).hexdigest()
        return Identity(whole, tuple(self.counts), tuple(self.names), tuple(digests))

    def only(self, rows: np.ndarray) -> ClassImages:
        """The images for which ``rows``, booleans ``[n]``, is true; a class of which nothing is left has none."""
        starts = [sum(self.counts[:number]) for number in range(len(self.counts))]
        counts = (int(rows[start : start + count].sum()) for start, count in zip(starts, self.counts, strict=True))
        return ClassImages(self.images[rows], tuple(counts), self.names)


def fitted(
    data: ClassImages, shape: tuple[int, int, int], dtype: str, layout: Literal["CHW", "HWC"], where: str
) -> ClassImages:
    """``data`` in CHW, once it is seen to be what its benchmark states; raises :class:`InputError` naming ``where``."""
    import numpy as np

    if not isinstance(data, ClassImages):
        raise InputError(f"{where} is a {type(data).__name__}; allowed: ClassImages")
    images, (channels, height, width) = data.images, shape
    expected = shape if layout == "CHW" else (height, width, channels)
    if not isinstance(images, np.ndarray) or images.dtype != dtype or dtype not in RANGES:
        found = getattr(images, "dtype", type(images).__name__)
        raise InputError(f"{where}: its images are {found}; allowed: a NumPy array of the stated dtype, {dtype}")
    if images.ndim != 4 or images.shape[1:] != expected:
        found = list(images.shape)
        raise InputError(f"{where}: its images have shape {found}; allowed: [n, {_list(expected)}] {layout}")
    _check_classes(data, where)
    low, high = RANGES[dtype]
    # A comparison with NaN is false. Of 8 bits nobody uses one: that is a mask of 0 and 1, and not black and white.
    least, most = (images.min(), images.max()) if images.size else (low, high)
    if not (least >= low and most <= high) or (dtype == "uint8" and most == 1):
        raise InputError(f"{where}: its pixels lie between {least} and {most}; allowed: {dtype} from {low} to {high}")
    if layout == "HWC":
        images = images.transpose(0, 3, 1, 2)
    return ClassImages(np.require(images, requirements=["C", "W"]), tuple(map(int, data.counts)), tuple(data.names))


def _check_classes(data: ClassImages, where: str) -> None:
    """Counts are whole numbers that add up, and every class has one name of its own."""
    import numpy as np

    if not all(isinstance(count, int | np.integer) and count >= 0 for count in data.counts):
        raise InputError(f"{where}: counts {_list(data.counts[:8])} of images; allowed: whole numbers from 0")
    if sum(data.counts) != len(data.images) or len(data.counts) != len(data.names):
        raise InputError(
            f"{where}: {len(data.counts)} counts add up to {sum(data.counts)}; "
            f"allowed: one for each of {len(data.names)} names, {len(data.images)} in all"
        )
    seen: set[Any] = set()
    for name in data.names:
        if not isinstance(name, str) or name in seen:
            raise InputError(f"{where}: a class is called {name!r}; allowed: text that no other class is called")
        seen.add(name)


def check_enough(known: Identity, where: str, ways: int, shots: int, queries: int, things: str = "images") -> None:
    """Raise :class:`InputError` unless tasks of such a size can be drawn of what is there."""
    if ways > (there := len(known.counts)):
        allowed = f"2 to {there}" if there > 1 else "splits of at least 2"
        raise InputError(f"ways {ways} for {where} has {there} classes, allowed: {allowed}")
    least = min(known.counts)
    if shots + queries > least:
        name = known.names[known.counts.index(least)]
        raise InputError(
            f"shots {shots} + queries {queries} for {where} has {least} {things} of class {name!r}, "
            f"allowed: at most {least} together"
        )


def overlaps(known: Mapping[str, Identity], numbered: bool) -> list[tuple[str, str]]:
    """The classes that two splits share by name, unless they are ``numbered``: the first split, and one line."""
    found = []
    for (first, one), (second, other) in itertools.combinations(known.items(), 2):
        if not (numbered and _numbered(one.names) and _numbered(other.names)):
            shared = sorted(set(one.names) & set(other.names))
            found += [(first, f"class {name!r} is in both {first} and {second}") for name in shared]
    return found


def same_content(known: Mapping[str, Identity]) -> list[str]:
    """A line for every class that holds exactly the images of another one."""
    found, seen = [], dict[str, str]()
    for split, identity in known.items():
        for name, count, digest in zip(identity.names, identity.counts, identity.digests, strict=True):
            here = f"{split} class {name!r}"
            if count and (there := seen.setdefault(digest, here)) != here:
                found.append(f"{there} and {here} hold the same images")
    return found


def identities_of(document: Any, splits: tuple[str, ...]) -> dict[str, Identity] | None:
    """Identities from JSON; None where it is something else."""
    try:
        found = TypeAdapter(dict[str, Identity]).validate_python(document)
    except ValidationError:
        return None
    whole = all(len(i.counts) == len(i.names) == len(i.digests) for i in found.values())
    return found if whole and tuple(found) == splits else None


def _numbered(names: tuple[str, ...]) -> bool:
    """Whether ``names`` are a word and the numbers from 0 or from 1: such names say nothing outside their split."""
    stems = {name.rstrip("0123456789") for name in names}
    if len(stems) != 1:
        return False
    (stem,) = stems
    numbers = {name.removeprefix(stem) for name in names}
    return any(numbers == {str(first + n) for n in range(len(names))} for first in (0, 1))


def _list(values: Any) -> str:
    return ", ".join(map(str, values))


def against_published(benchmark: ImageBenchmark, split: str, known: Identity) -> list[str]:
    """Classes that belong elsewhere or nowhere, that are not there, and numbers of classes and images."""
    faults = []
    if benchmark.classes and len(known.names) != benchmark.classes[split]:
        faults.append(f"{split}: {len(known.names)} classes, expected {benchmark.classes[split]}")
    each, counts = benchmark.images_per_class(split), set(known.counts)
    if each is not None and len(counts) == 1 != len(known.counts) and counts != {each}:
        faults.append(f"{split}: a class has {counts.pop()} images, expected {each}")
    elif each is not None:
        here = zip(known.names, known.counts, strict=True)
        faults += [f"{split}: class {name!r} has {n} images, expected {each}" for name, n in here if n != each]
    if (names := benchmark.class_names(split)) is None:
        return faults
    home = {name: other for other in SPLITS for name in benchmark.class_names(other) or ()}
    for name in known.names:
        if name not in names:
            faults.append(f"{split}: class {name!r} belongs to {home.get(name, 'no split')}")
    return faults + [f"{split}: class {name!r} is not there" for name in sorted(set(names) - set(known.names))]
