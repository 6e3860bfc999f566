"""Where studies are kept: a journal file, repaired when it is opened, or any database that Optuna can reach."""

from __future__ import annotations

import errno
import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.storages.journal._file import LOCK_FILE_SUFFIX

from harness.errors import InputError
from harness.store.files import append, write
from harness.store.foreign import one_line, read_plain

log = logging.getLogger("harness")
optuna.logging.set_verbosity(optuna.logging.WARNING)

#: seconds between signs of life in a database, and without one before a trial counts as dead
HEARTBEAT, GRACE = 10, 60
_CONNECT_SECONDS = 10
#: bytes; a trial takes some thousand of them
_MOST_JOURNAL = 1 << 27


def open_storage(where: str) -> optuna.storages.BaseStorage:
    """The storage at ``where``: a journal's path, or a URL of SQLAlchemy; raises :class:`InputError`."""
    if "://" not in where:
        return _journal(Path(where))
    _refuse_pipe(where)
    timeout = "timeout" if where.startswith("sqlite") else "connect_timeout"
    options = {"connect_args": {timeout: _CONNECT_SECONDS}} if where.startswith(("sqlite", "postgres", "mysql")) else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.storages.RDBStorage(
                where, engine_kwargs=options, heartbeat_interval=HEARTBEAT, grace_period=GRACE
            )
    except Exception as error:  # drivers raise whatever they like
        reason = str(error.__cause__ or error).strip().splitlines()
        shown = _without_password(where)
        raise InputError(
            f"--storage {shown}: {reason[0] if reason else type(error).__name__}; "
            "allowed: a journal file, or the URL of a database that can be reached"
        ) from None


def _refuse_pipe(url: str) -> None:
    """SQLite would wait for a pipe, or read a device, for ever."""
    from sqlalchemy.engine import make_url

    file = make_url(url).database if url.startswith("sqlite") and "?" not in url else None
    if file and os.path.exists(file) and not os.path.isfile(file):
        raise InputError(f"--storage {url}: not a plain file; allowed: a journal file, or the URL of a database")


def _journal(path: Path) -> optuna.storages.BaseStorage:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():  # one that leads nowhere would be written through
            raise OSError(errno.ELOOP, "a symbolic link")
        if path.exists():
            repair(path)
        return optuna.storages.JournalStorage(JournalFileBackend(str(path), _lock(path)))
    except OSError as error:
        raise InputError(f"--storage {path}: {error.strerror}; allowed: a file that can be written") from None
    except Exception as error:  # what is in a stranger's journal may be of any kind
        reason = one_line(error)[:200] or type(error).__name__
        raise InputError(f"--storage {path}: {reason}; allowed: a journal file of Optuna") from None


def repair(path: Path) -> None:
    """Take out of a journal what a process that died while writing left: half a line, at the end or before another.

    What is taken out goes to ``PATH.torn``. A file that is no journal at all is refused and left alone.
    """
    if _sound(read_plain(path, _MOST_JOURNAL)):
        return
    lock = _lock(path)
    lock.acquire()
    try:
        content = read_plain(path, _MOST_JOURNAL)
        kept, torn = _sorted_out(content)
        if not torn:
            return
        if not kept:
            raise ValueError("not a journal")
        append(Path(f"{path}.torn"), b"".join(line + b"\n" for line in torn))
        whole = b"".join(line + b"\n" for line in kept)
        if content.startswith(whole):
            with path.open("r+b") as file:  # in place: others may have it open
                file.truncate(len(whole))
        else:
            write(path, whole)
        log.warning("%s: %d torn lines taken out, kept in %s.torn", path, len(torn), path)
    finally:
        lock.release()


def _lock(path: Path) -> JournalFileOpenLock:
    """Optuna's lock of a journal that is a file and no link.

    Its link has the journal's path as it was given: a relative one, or one of a folder that was moved, leads nowhere,
    and where a killed process left such a link, Optuna waits for it without end. A file goes after 30 seconds.
    """
    left = Path(f"{path}{LOCK_FILE_SUFFIX}")
    if left.is_symlink() or (left.exists() and not left.is_file()):
        left.unlink()
    return JournalFileOpenLock(str(path))


def _sound(content: bytes) -> bool:
    return content.endswith(b"\n") and not _sorted_out(content)[1] if content else True


def _sorted_out(content: bytes) -> tuple[list[bytes], list[bytes]]:
    """Whole lines, and pieces of lines. A whole record that was written after half a line is kept."""
    kept, torn = [], []
    *lines, tail = content.split(b"\n")
    for line in lines:
        begin = line.rfind(b'{"op_code"')
        if _record(line):
            kept.append(line)
        elif begin > 0 and _record(line[begin:]):
            torn.append(line[:begin])
            kept.append(line[begin:])
        else:
            torn.append(line)
    if tail:
        torn.append(tail)
    return kept, torn


def _record(line: bytes) -> bool:
    try:
        found: Any = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "op_code" in found


def _without_password(url: str) -> str:
    from sqlalchemy.engine import make_url

    try:
        return str(make_url(url).render_as_string(hide_password=True))
    except Exception:  # not a URL at all
        return url.partition("://")[0] + "://…"
