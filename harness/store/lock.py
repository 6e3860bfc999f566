"""One process at a time at a file's work, on one host or several: a lease, renewed by its holder every few seconds.

A kernel's locks are its own on FUSE and on many network file systems: another host sees none of them. So ``lock.json``
says whose it is by a random token, its holder renews it, and looks whether it is still its own before anything is
written. The kernel's lock on it is asked first all the same: where the holder was on this very mount, it is let go with
the holder, and nobody has to wait. (filelock's SoftFileLock knows neither: what its holder left behind stays for ever.)
"""

from __future__ import annotations

import json
import logging
import os
import platform
import secrets
import stat
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from harness.errors import HarnessError, InputError
from harness.store import lease
from harness.store.files import NOFOLLOW, refuse_link, told
from harness.store.lease import (
    MOST_BYTES,
    Silence,
    busy_with,
    content_of,
    document_of,
    flocked,
    named,
    place_of,
    successor,
)

log = logging.getLogger("harness")

#: pid, host and since when of the process that has the lease, or had it when it was killed
HOLDER = "lock.json"
#: seconds between two looks at a lease; time in which nobody looked is no silence
_LOOK = 0.5
#: what says that a holder has died: its kernel, or that it was silent for too long
Evidence = Literal["kernel", "silence"]


class Locked(InputError):
    """Another process is working on this run."""


class Lost(Locked):
    """Another process has taken this run over, as this one gave no sign of life."""

    exit_status = HarnessError.exit_status


class Lease:
    """A file that is this process's own until :meth:`release`; raises :class:`Locked` where it is another's.

    A lease of a process that has died is taken over: at once where this kernel says so, else after ``lease.PATIENCE``
    seconds by this process's own clock in which it was not renewed. Raises :class:`OSError` for what the disk does.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._token, self._beats = path, secrets.token_hex(16), 0
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._known = {"pid": os.getpid(), "host": platform.node(), "since": now, "token": self._token}
        self._ended = threading.Event()
        while not self._take():
            time.sleep(_LOOK / 10)
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def mine(self) -> bool:
        """Whether it still is this process's own."""
        return self._token.encode() in (content_of(self._path) or b"")

    def check(self) -> None:
        """Raise :class:`Lost` where another process has or had it since, :class:`HarnessError` where all is gone."""
        if self.mine():
            return
        folder = self._path.parent
        try:
            empty = not os.listdir(folder)
        except OSError:
            empty = True
        if empty:
            raise HarnessError(f"{folder}: the run directory was removed while this run was working in it")
        raise Lost(f"{folder}: taken over from this process by {successor(self._path)}; nothing more is written here")

    def release(self) -> None:
        """Let others have it."""
        self._ended.set()
        self._thread.join()
        with suppress(OSError):
            if self.mine():
                os.unlink(self._path)
        os.close(self._file)

    def _take(self) -> bool:
        """Whether it could be taken; else its file came or went meanwhile."""
        with suppress(FileNotFoundError):
            found = os.lstat(self._path)
            if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_BYTES:
                os.unlink(self._path)  # a pipe, a link or a giant is nobody's lease
        old = None
        with suppress(FileNotFoundError):
            old = os.open(self._path, os.O_RDWR | NOFOLLOW)
        temporary = self._path.with_name(f".{self._path.name}.{self._token}")
        try:
            evidence = None if old is None else self._left(old)
            if old is not None and evidence is None:
                return False
            self._file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | NOFOLLOW, 0o666)
            try:
                flocked(self._file)
                self._known["place"] = place_of(self._file)
                os.write(self._file, self._text())
                os.fsync(self._file)
                if self._publish(temporary, evidence):
                    return True
            except BaseException:
                with suppress(OSError):
                    if self.mine():
                        os.unlink(self._path)
                os.close(self._file)
                raise
            os.close(self._file)
            return False
        finally:
            with suppress(OSError):
                os.unlink(temporary)
            if old is not None:
                os.close(old)

    def _left(self, old: int) -> Evidence | None:
        """What says that the holder of the file ``old`` has died; None where there is another file by now."""
        kept = flocked(old)
        if kept is False:
            raise Locked(f"{self._path.parent}: {busy_with(self._path)}; wait for it to end")
        content = os.pread(old, MOST_BYTES, 0)
        if content != content_of(self._path):
            return None
        name = named(content)
        if kept and document_of(content).get("place") == place_of(old):
            log.info("%s: %s, which worked on it since %s, has died", self._path.parent, *name)
            return "kernel"
        log.info("%s: waiting for a sign of life of %s", self._path.parent, name[0])
        silence = Silence(self._path)
        while silence.look() < lease.PATIENCE:
            time.sleep(_LOOK)
            if silence.broken:
                if content_of(self._path) is None:
                    return None
                raise Locked(f"{self._path.parent}: {busy_with(self._path)}; wait for it to end")
        log.warning("%s: no sign of life of %s for %g s: taken over", self._path.parent, name[0], lease.PATIENCE)
        return "silence"

    def _publish(self, temporary: Path, evidence: Evidence | None) -> bool:
        """Give the file its name; False where another process was faster."""
        if evidence is None:
            try:
                os.link(temporary, self._path)
                return True
            except FileExistsError:
                return False
            except OSError as error:
                if not self._path.parent.is_dir():
                    raise
                log.debug("%s: no hard links (%s)", self._path, error.strerror)
        os.replace(temporary, self._path)
        if evidence != "kernel":
            time.sleep(
                2 * _LOOK
            )  # of several that replace it at the same time, on different hosts, the last one has it
        return self.mine()

    def _renew(self) -> None:
        while not self._ended.wait(lease.BEAT):
            self._renew_once()

    def _renew_once(self) -> None:
        self._beats += 1
        with suppress(OSError):
            # By its number, not by its name: what another process has put in its place stays as it is.
            os.pwrite(self._file, self._text(), 0)
            os.fsync(self._file)

    def _text(self) -> bytes:
        """Always as long."""
        return json.dumps({**self._known, "beats": f"{self._beats:010}"}).encode()


def locked(folder: Path) -> Lease:
    """The lease on a folder, which is made if need be.

    Raises :class:`Locked`, :class:`InputError` where there can be no such folder, :class:`HarnessError`.
    """
    refuse_link(folder)
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise InputError(f"--results {folder.parent}: {error.strerror}; allowed: a writable folder") from error
        except OSError as error:
            raise HarnessError(f"--results {folder.parent}: {error.strerror}") from error
        with told(folder / HOLDER):
            try:
                return Lease(folder / HOLDER)
            except FileNotFoundError:
                pass  # whoever had it has removed the folder: once more
