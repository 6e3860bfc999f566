"""Files that a stranger may have written: opened only where they are plain and no larger than they may be."""

from __future__ import annotations

import errno
import json
import os
import stat
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

_MOST_NODES, _DEEPEST = 10_000, 32


def open_plain(path: Path, most: int, links: bool = True) -> BinaryIO:
    """``path`` for reading; raises :class:`OSError` unless it is a plain file of at most ``most`` bytes.

    A pipe would wait for ever and a device give bytes for ever, so neither is read from. ``links=False``: a symbolic
    link is refused too, as it may lead to what its author cannot read and the reader can.
    """
    follow = 0 if links else getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, os.O_RDONLY | follow | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        if follow and error.errno == errno.ELOOP:
            error.strerror = "a symbolic link"
        raise
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a plain file", str(path))
        if found.st_size > most:
            raise _too_large(path, most)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_plain(path: Path, most: int, links: bool = True) -> bytes:
    """The content of a file that :func:`open_plain` opens, also where it grows meanwhile."""
    with open_plain(path, most, links) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise _too_large(path, most)
    return content


def read_json_object(path: Path, most: int, links: bool = True) -> dict[str, Any]:
    """The JSON object in such a file; raises :class:`OSError`, or :class:`ValueError` with a few words."""
    content = read_plain(path, most, links)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("not readable as JSON") from None
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def cannot_grow(file: BinaryIO) -> bool:
    """Whether ``file`` is a zip of members as they are, so that reading it takes no more memory than its size."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            return all(m.compress_type == zipfile.ZIP_STORED and m.file_size == m.compress_size for m in members)
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    finally:
        file.seek(0)


def is_small_tree(document: Any, most: int = _MOST_NODES) -> bool:
    """Whether ``document`` is a tree of at most ``most`` plain values: aliases make it endless, nesting bottomless."""
    waiting, seen = [(document, 0)], 0
    while waiting:
        node, depth = waiting.pop()
        seen += 1
        if seen > most or depth > _DEEPEST:
            return False
        if isinstance(node, dict):
            if not all(isinstance(key, str) for key in node):
                return False
            waiting.extend((part, depth + 1) for part in node.values())
        elif isinstance(node, list):
            waiting.extend((part, depth + 1) for part in node)
        elif not (node is None or isinstance(node, str | int | float)):
            return False
    return True


def one_line(text: object) -> str:
    """``text`` with everything that cannot be printed, line ends and lone surrogates too, as an escape."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in str(text))


def _too_large(path: Path, most: int) -> OSError:
    return OSError(errno.EFBIG, f"larger than {most} bytes", str(path))
