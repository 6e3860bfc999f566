"""Keeps decoded images on disk, and what they are, so that they are decoded once by however many processes."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import math
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import platformdirs

from harness.datasets.class_images import ClassImages
from harness.datasets.pictures import CONVERSION
from harness.store.foreign import open_plain, read_json_object

log = logging.getLogger("harness")

#: changes with what a file of kept images looks like
FORMAT = 2
_MAGIC = f"class images {FORMAT}\n".encode()
# miniImageNet's training images are 0.8 GB, tieredImageNet's 9.5 GB.
_MOST_BYTES, _MOST_HEADER = 1 << 35, 1 << 20
# No file system that data lie on counts time in longer steps, but for whole seconds on old ones.
_TICK = 0.05


def writable(folder: Path) -> bool:
    """Whether ``folder``, or its nearest existing parent, says it may be written; its mode binds root as well."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    mode = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
    return folder.is_dir() and bool(folder.stat().st_mode & mode) and os.access(folder, os.W_OK | os.X_OK)


def stamp(files: Iterable[Path], *reader: Any) -> str | None:
    """A name for what is in ``files``, unread: path, size, times and inode of each; None where one is not there.

    ``reader`` is what else decides what comes out of them. The conversion of pictures and Pillow's version always do.
    """
    sha = hashlib.sha256(repr((CONVERSION, importlib.metadata.version("pillow"), reader)).encode())
    newest = 0.0
    for path in files:
        try:
            found = os.stat(path)
        except OSError:
            return None
        # ctime as well: who sets a file's mtime back cannot set that.
        about = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_dev, found.st_ino)
        sha.update(os.fsencode(path) + f"\0{about}\0".encode())
        newest = max(newest, found.st_mtime)
    if abs(time.time() - newest) < _TICK:
        time.sleep(_TICK)  # or the next change could bear the same time
    return sha.hexdigest()[:16]


def stored(root: Path, name: str, make: Callable[[], ClassImages], renew: list[str] | None = None) -> ClassImages:
    """The images kept as ``root/name``, made and kept if they are not there or torn.

    Where the data directory is read-only they are kept in the user's cache directory, and where that cannot
    be written either, nowhere. Concurrent callers may both make them; each replaces the file whole. With a list
    ``renew`` they are made in any case, and a line is added to it for each kept file that held something else.
    """
    there = [path for path in _places(root, name) if path.is_file()]
    for path in there if renew is None else ():
        if (found := _read(path)) is not None:
            return found
        log.warning("%s is damaged; its images are made anew", path)
    images = make()
    for path in there if renew is not None else ():
        if (found := _read(path)) is None or found.identity != images.identity:
            renew.append(f"{path} was not what its sources give, and has been made anew")  # type: ignore[union-attr]
    _keep(root, name, lambda path: _write(path, images))
    return images


def recall(root: Path, name: str) -> dict[str, Any] | None:
    """What was remembered as ``root/name``, or None."""
    for path in _places(root, name):
        with contextlib.suppress(OSError, ValueError):
            return read_json_object(path, _MOST_HEADER)
    return None


def remember(root: Path, name: str, document: dict[str, Any]) -> None:
    """Keep a small document where :func:`stored` would keep images."""
    _keep(root, name, lambda path: _put(path, lambda file: file.write(json.dumps(document).encode())))


def _places(root: Path, name: str) -> tuple[Path, Path]:
    return root / name, platformdirs.user_cache_path("anil-vs-maml-harness") / name


def _keep(root: Path, name: str, write: Callable[[Path], None]) -> None:
    for path in _places(root, name):
        if writable(path.parent):
            with contextlib.suppress(OSError):  # a full disk costs the next run time and this one nothing
                write(path)
                break


def _read(path: Path) -> ClassImages | None:
    """What :func:`_dump` wrote, or None if the file is missing or is not whole."""
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
        if sum(counts) != len(images) or min(counts) < 0 or len(names) != len(counts):
            return None
        data = ClassImages(images, tuple(counts), tuple(names))
        return data if header["sha256"] == data.identity.digest and all(isinstance(n, str) for n in names) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _write(path: Path, data: ClassImages) -> None:
    _put(path, lambda file: _dump(file, data))


def _put(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp lets nobody else read, and data directories are shared
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _dump(file: BinaryIO, data: ClassImages) -> None:
    header = {
        "shape": data.images.shape,
        "counts": data.counts,
        "names": data.names,
        "sha256": data.identity.digest,
    }
    file.write(_MAGIC + json.dumps(header).encode() + b"\n")
    file.write(data.images.data.cast("B"))
