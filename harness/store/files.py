"""Files that survive a kill, a crash and a full disk: replaced in one step, or appended to and cut back."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import HarnessError, InputError
from harness.store.foreign import open_plain, read_plain

log = logging.getLogger("harness")

#: how much of a file's end is compared with what a checkpoint knows of it
_TAIL_BYTES = 4096
#: bytes of a log: a run writes some hundred per meta-iteration
MOST_LOG = 1 << 30
#: for ``os.open``: a symbolic link is an error
NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)

_TEMPORARY = re.compile(r"[0-9a-f]{32}|\d+")  # digits: of earlier versions

#: how long a file was, and a hash of its end
Mark = tuple[int, str]


@contextmanager
def told(path: Path) -> Iterator[None]:
    """An :class:`OSError` inside becomes one line about ``path``; raises :class:`HarnessError`."""
    try:
        yield
    except OSError as error:
        raise HarnessError(f"{path}: {error.strerror or error}; what was saved before is kept") from error


def refuse_link(path: Path) -> None:
    """Raise :class:`InputError` where ``path`` is a symbolic link: what is written there would land elsewhere."""
    if path.is_symlink():
        raise InputError(f"{path} is a symbolic link; allowed: a folder or a file of its own")


def write(path: Path, content: bytes | memoryview, allowed: Callable[[], None] = lambda: None) -> None:
    """Replace ``path`` by ``content`` in one step that survives a crash; raises :class:`HarnessError`.

    Whatever goes wrong, ``path`` is as it was or as it shall be, and no temporary file stays behind but that of
    a process killed in the middle (see :func:`sweep`). ``allowed`` is asked last, and raises where it is not.
    """
    # Not the process's number: in two containers it may be the same.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(16)}")
    with told(path):
        if path.exists() and not path.is_file():  # as root, /dev/null could be replaced
            raise OSError(errno.EINVAL, "not a plain file")
        try:
            _put(temporary, os.O_EXCL, content)
            allowed()
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def sweep(folder: Path, names: tuple[str, ...]) -> None:
    """Remove what :func:`write` left of these names in processes that were killed; nobody may be writing now."""
    for name in names:
        for left in folder.glob(f".{name}.*"):
            if _TEMPORARY.fullmatch(left.name.removeprefix(f".{name}.")):
                left.unlink(missing_ok=True)


def append(path: Path, content: bytes, durable: bool = False) -> None:
    """Add ``content`` at the end; ``durable``: and wait for the disk. Raises :class:`HarnessError`, nothing added."""
    with told(path):
        _put(path, os.O_APPEND, content, durable)


def mark(path: Path) -> Mark:
    """What :func:`cut` needs to bring a file back to where it is now."""
    with told(path):
        try:
            with open_plain(path, MOST_LOG, links=False) as file:
                size = os.fstat(file.fileno()).st_size
                return size, _tail(file.fileno(), size)
        except FileNotFoundError:
            return 0, ""


def cut(path: Path, known: Mark) -> None:
    """Cut a file back to a mark, however long it was or has grown; raises :class:`HarnessError` where it is another."""
    size, tail = known
    if not size and not path.exists():
        return
    with told(path):
        if path.lstat().st_nlink > 1:  # a copy made of hard links: the other name keeps what it has
            write(path, read_plain(path, MOST_LOG, links=False))
        file = _plain(path, os.O_RDWR)
        try:
            now = os.fstat(file).st_size
            if now < size or _tail(file, size) != tail:
                raise HarnessError(f"{path}: not the file that the checkpoint knows; add --fresh to start anew")
            if now > size:
                if os.pread(file, 1, now - 1) != b"\n":
                    log.warning("%s: its last line was torn and has been removed", path)
                os.ftruncate(file, size)
                os.fsync(file)
        finally:
            os.close(file)


def _tail(file: int, size: int) -> str:
    start = max(0, size - _TAIL_BYTES)
    return hashlib.sha256(os.pread(file, size - start, start)).hexdigest() if size else ""


def _plain(path: Path, flags: int) -> int:
    """Open for writing what is, or becomes, a plain file: a pipe would wait for a reader, a link lead elsewhere."""
    refused = OSError(errno.EINVAL, "not a plain file", str(path))
    try:
        file = os.open(path, NOFOLLOW | getattr(os, "O_NONBLOCK", 0) | flags, 0o666)
    except OSError as error:
        raise (refused if error.errno in (errno.ENXIO, errno.ELOOP) else error) from None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise refused
    return file


def _put(path: Path, flags: int, content: bytes | memoryview, durable: bool = True) -> None:
    """Write all of ``content``, or leave the file as long as it was."""
    file = _plain(path, os.O_WRONLY | os.O_CREAT | flags)
    try:
        before = os.fstat(file).st_size
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(file, rest) :]
            if durable:
                os.fsync(file)
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, before)
            raise
    finally:
        os.close(file)
