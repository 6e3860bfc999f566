"""One process at a time in a directory: the kernel keeps the lock, ``lock.json`` in it says who has it."""

from __future__ import annotations

import json
import logging
import os
import platform
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from harness.errors import HarnessError, InputError
from harness.files import NOFOLLOW, refuse_link, told, write
from harness.foreign import read_json_object

log = logging.getLogger("harness")

#: pid, host and since when of the process that has the lock, or had it when it was killed
HOLDER = "lock.json"
_MOST_BYTES = 4096


class Locked(InputError):
    """Another process is working on this run."""


class Lock:
    """An exclusive lock on a directory, which is made if need be; whatever ends its holder frees it.

    Raises :class:`Locked`, :class:`InputError` where there can be no such directory, :class:`HarnessError`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        refuse_link(path)
        while True:
            try:
                path.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError) as error:
                raise InputError(f"--results {path.parent}: {error.strerror}; allowed: a writable folder") from error
            except OSError as error:
                raise HarnessError(f"--results {path.parent}: {error.strerror}") from error
            with told(path):
                self._folder = os.open(path, os.O_RDONLY | NOFOLLOW)
            try:
                self._take()
                if self._held():
                    break  # else whoever had it has removed the directory: once more
            except BaseException:
                os.close(self._folder)
                raise
            os.close(self._folder)
        try:
            self._sign()
        except BaseException:
            self.release()
            raise

    def check(self) -> None:
        """Raise :class:`HarnessError` where the directory is no longer there or is another one."""
        if not self._held():
            raise HarnessError(f"{self._path}: the run directory was removed while this run was working in it")

    def release(self) -> None:
        """Free the lock."""
        if self._held():
            with suppress(OSError):
                os.unlink(self._path / HOLDER)
        os.close(self._folder)

    def _held(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._folder), os.stat(self._path))
        except OSError:
            return False

    def _take(self) -> None:
        try:
            import fcntl
        except ImportError:
            return
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Locked(f"{self._path}: {_holder(self._path)}; allowed: wait for it to end") from error
        except OSError as error:
            log.warning(
                "%s: this file system has no locks (%s); take care that no two processes do the same run",
                self._path,
                error.strerror,
            )

    def _sign(self) -> None:
        if (earlier := _read(self._path)) is not None:
            log.info("%s: process %s on %s, which worked on it since %s, has died", self._path, *earlier)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        document = {"pid": os.getpid(), "host": platform.node(), "since": now}
        write(self._path / HOLDER, json.dumps(document).encode())


def _holder(path: Path) -> str:
    found = _read(path)
    if found is None:
        return "another process is working on this run"
    pid, host, since = found
    return f"another process is working on this run: {pid} on {host}, since {since}"


def _read(path: Path) -> tuple[int, str, str] | None:
    """Process, host and time; None where there is no such file, or it says something else."""
    try:
        document = read_json_object(path / HOLDER, _MOST_BYTES, links=False)
        pid, host, since = document["pid"], document["host"], document["since"]
    except (OSError, ValueError, KeyError):
        return None
    known = isinstance(pid, int) and isinstance(host, str) and isinstance(since, str)
    return (pid, " ".join(host.split())[:80], " ".join(since.split())[:40]) if known else None
