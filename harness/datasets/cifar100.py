"""CIFAR-100 as torchvision lays it out, the source of both FC100 and CIFAR-FS."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.datasets import downloads
from harness.datasets.class_images import ClassImages, Identity
from harness.datasets.pickles import read_pickle, whole_numbers
from harness.datasets.splits import published
from harness.errors import InputError

if TYPE_CHECKING:
    import numpy as np

FOLDER, PARTS = "cifar-100-python", ("train", "test", "meta")


def folder(root: Path) -> Path | None:
    """The folder ``cifar-100-python`` under ``root``, or ``root`` itself if it is that folder."""
    for candidate in (root / FOLDER, root):
        if all((candidate / part).is_file() for part in PARTS):
            return candidate
    return None


def files(root: Path) -> list[Path] | None:
    """The files of :func:`folder`."""
    found = folder(root)
    return [found / part for part in PARTS] if found is not None else None


def fetch(root: Path) -> None:
    """Download CIFAR-100 (161 MiB) into ``root``; raises :class:`HarnessError` with the reason if it fails."""
    from torchvision.datasets import CIFAR100

    with downloads.downloading("CIFAR-100", root), tempfile.TemporaryDirectory(prefix=".cifar-", dir=root) as work:
        packed = Path(work) / "packed"
        downloads.fetch(CIFAR100.url, CIFAR100.tgz_md5, packed)
        (root / FOLDER).mkdir(exist_ok=True)
        with tarfile.open(packed) as archive:
            for part in PARTS:  # by name, wherever other members of the archive would go
                content = archive.extractfile(f"{FOLDER}/{part}")
                if content is None:
                    raise ValueError(f"{part} is no plain file in the archive")
                with content, (Path(work) / part).open("wb") as file:
                    shutil.copyfileobj(content, file)
                os.replace(Path(work) / part, root / FOLDER / part)


def read_classes(where: Path, wanted: Callable[[str, str], bool]) -> ClassImages:
    """The images of every class for which ``wanted(class, superclass)`` holds, classes by name.

    ``where`` is :func:`folder`. Images are uint8 ``[n, 3, 32, 32]``, train and test together: 600 of each class.
    Within a class they are ordered by content, so that a repacked copy of the data gives the same tasks.
    Source: Krizhevsky 2009.
    """
    import numpy as np

    meta = read_pickle(where / "meta")
    fine_names, coarse_names = (_names(where, meta, key) for key in ("fine_label_names", "coarse_label_names"))
    parts = [_part(where / part) for part in ("train", "test")]
    pixels = [part[0] for part in parts]
    fine, coarse = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
    if len(fine) and (fine.max() >= len(fine_names) or coarse.max() >= len(coarse_names)):
        raise InputError(f"{where}: a label has no name in meta; get the folder anew")
    pairs = set(zip(fine.tolist(), coarse.tolist(), strict=True))
    parents = {fine_names[f]: coarse_names[c] for f, c in pairs}
    if len(parents) < len(pairs):
        raise InputError(f"{where}: two labels have one name, or one class has two superclasses; get the folder anew")
    names = sorted(name for name in parents if wanted(name, parents[name]))
    classes = []
    for name in names:
        label = fine_names.index(name)
        rows = np.concatenate([part[0][part[1] == label] for part in parts])
        classes.append(rows[by_content(rows)])
    images = np.concatenate(classes) if classes else pixels[0][:0]
    return ClassImages(images.reshape(-1, 3, 32, 32), tuple(map(len, classes)), tuple(names))


def content_faults(known: Mapping[str, Identity], homes: Mapping[str, str]) -> list[str]:
    """Classes that hold the pictures of another class or of another split, or not all of their own.

    ``homes`` has the split of every class of CIFAR-100. Whatever a class is called here, what it holds says which it
    is. Nothing is said of data of which no class is known.
    """
    names = {digest: name for classes in published("cifar100").values() for name, digest in classes.items()}
    found = [
        (split, name, names.get(digest))
        for split, identity in known.items()
        for name, digest in zip(identity.names, identity.digests, strict=True)
    ]
    if not any(content for *_, content in found):
        return []
    faults = []
    for split, name, content in found:
        if content is None:
            faults.append(f"{split}: class {name!r} does not hold the pictures of a class of CIFAR-100")
        elif homes[content] != split or (name in homes and name != content):
            faults.append(f"{split}: class {name!r} holds the pictures of {content!r}, a {homes[content]} class")
    return faults


def by_content(rows: np.ndarray) -> list[int]:
    """The order of the first dimension's entries by their bytes."""
    keys = [row.tobytes() for row in rows]
    return sorted(range(len(keys)), key=keys.__getitem__)


def _part(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels ``[n, 3072]``, class labels and superclass labels of one file."""
    import numpy as np

    content = read_pickle(path)
    try:
        pixels = content["data"]
        fine, coarse = (whole_numbers(content[key]) for key in ("fine_labels", "coarse_labels"))
        good = pixels.dtype == np.uint8 and pixels.shape == (len(fine), 3072) and fine.shape == coarse.shape
        good = good and min(fine.min(initial=0), coarse.min(initial=0)) >= 0
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"{path} is no CIFAR-100 file: {type(error).__name__}: {error}") from error
    if not good:
        raise InputError(f"{path} is no CIFAR-100 file: expected uint8 data [n, 3072] and n labels of each kind")
    return pixels, fine, coarse


def _names(where: Path, meta: dict[str, Any], key: str) -> list[str]:
    try:
        return [name.decode("latin1") if isinstance(name, bytes) else str(name) for name in meta[key]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{where / 'meta'} is no CIFAR-100 file: it has no {key}") from error
