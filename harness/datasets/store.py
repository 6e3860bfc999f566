"""Keeps decoded images on disk so that they are rendered or decoded once, by however many processes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import platformdirs

from harness.foreign import open_plain
from harness.problem.images import ClassImages

if TYPE_CHECKING:
    import numpy as np

_MAGIC = b"class images 1\n"
# miniImageNet's training images are 0.8 GB.
_MOST_BYTES, _MOST_HEADER = 1 << 31, 1 << 20


def writable(folder: Path) -> bool:
    """Whether ``folder``, or its nearest existing parent, says it may be written; its mode binds root as well."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    mode = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
    return folder.is_dir() and bool(folder.stat().st_mode & mode) and os.access(folder, os.W_OK | os.X_OK)


def stored(root: Path, name: str, make: Callable[[], ClassImages]) -> ClassImages:
    """The images kept as ``root/name``, made and kept if they are not there or torn.

    Where the data directory is read-only they are kept in the user's cache directory, and where that cannot
    be written either, nowhere. Concurrent callers may both make them; each replaces the file whole.
    """
    places = [root / name, platformdirs.user_cache_path("anil-vs-maml-harness") / name]
    for path in places:
        if (found := _read(path)) is not None:
            return found
    images = make()
    for path in places:
        if writable(path.parent):
            with contextlib.suppress(OSError):  # a full disk costs the next run time and this one nothing
                _write(path, images)
                break
    return images


def _read(path: Path) -> ClassImages | None:
    """What :func:`_write` wrote, or None if the file is missing or is not whole."""
    import numpy as np

    try:
        with open_plain(path, _MOST_BYTES) as file:
            if file.readline(len(_MAGIC)) != _MAGIC:
                return None
            header = json.loads(file.readline(_MOST_HEADER))
            shape, counts, names = tuple(header["shape"]), header["counts"], header["names"]
            if math.prod(shape) != os.fstat(file.fileno()).st_size - file.tell():
                return None
            images = np.fromfile(file, np.uint8).reshape(shape)
        if header["sha256"] != _digest(images, counts, names) or sum(counts) != len(images) or min(counts) < 0:
            return None
        whole = len(names) == len(counts) and all(isinstance(name, str) for name in names)
        return ClassImages(images, tuple(counts), tuple(names)) if whole else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _write(path: Path, data: ClassImages) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {
        "shape": data.images.shape,
        "counts": data.counts,
        "names": data.names,
        "sha256": _digest(data.images, list(data.counts), list(data.names)),
    }
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _dump(file, header, data)
        os.chmod(temporary, 0o644)  # mkstemp lets nobody else read, and data directories are shared
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _dump(file: BinaryIO, header: object, data: ClassImages) -> None:
    file.write(_MAGIC + json.dumps(header).encode() + b"\n")
    file.write(data.images.data.cast("B"))
    file.flush()
    os.fsync(file.fileno())


def _digest(images: np.ndarray, counts: list[int], names: list[str]) -> str:
    sha = hashlib.sha256(json.dumps([counts, names]).encode())
    sha.update(images.data.cast("B"))
    return sha.hexdigest()
