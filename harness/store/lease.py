"""What stands in the file of a lease, who has it, and what tells that its holder has died."""

from __future__ import annotations

import json
import os
import time
import uuid
from pathlib import Path
from typing import Any

from harness.store.files import NOFOLLOW
from harness.store.foreign import one_line, read_plain

try:
    import fcntl
except ImportError:  # then only silence tells that a holder has died
    fcntl = None  # type: ignore[assignment]


#: seconds between two renewals, and without one before the holder counts as dead
BEAT, PATIENCE = 5.0, 30.0


MOST_BYTES = 4096


class Silence:
    """How long a lease has not been renewed, by this process's own clock: those of two hosts may differ."""

    def __init__(self, path: Path) -> None:
        self._path, self._seen = path, content_of(path)
        self._looked, self.quiet = time.monotonic(), 0.0
        #: whether the last look found it renewed, replaced or gone
        self.broken = False

    def look(self) -> float:
        """Seconds of silence until now, without those in which nobody looked: this process, too, may have slept."""
        now, content = time.monotonic(), content_of(self._path)
        self.broken = content != self._seen
        self.quiet = 0.0 if self.broken else self.quiet + min(now - self._looked, BEAT)
        self._looked, self._seen = now, content
        return self.quiet


def died(path: Path) -> bool:
    """Whether this kernel says that the holder of a lease is dead; what it does not know may be alive."""
    try:
        file = os.open(path, os.O_RDWR | NOFOLLOW | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return False
    try:
        return flocked(file) is True and document_of(os.pread(file, MOST_BYTES, 0)).get("place") == place_of(file)
    except OSError:
        return False
    finally:
        os.close(file)


def holder(path: Path) -> str:
    """Who has, or had, a lease, in words."""
    return named(content_of(path))[0]


def flocked(file: int) -> bool | None:
    """Whether the kernel's lock could be taken; None where there is none to be had."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def place_of(file: int) -> str:
    """The kernel and the mount that know of a lock on ``file``."""
    return f"{_boot()} {os.fstat(file).st_dev}"


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{uuid.getnode():x}"


def content_of(path: Path) -> bytes | None:
    """What is in the file; None where there is none, or it is none of ours."""
    try:
        return read_plain(path, MOST_BYTES, links=False)
    except FileNotFoundError:
        return None
    except OSError:
        return b""


def document_of(content: bytes | None) -> dict[str, Any]:
    """What it says; empty where nothing of ours."""
    try:
        found = json.loads(content or b"")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def named(content: bytes | None) -> tuple[str, str]:
    """Process and host, and since when."""
    found = document_of(content)
    pid, host, since = (one_line(found.get(key, "?"))[:80] for key in ("pid", "host", "since"))
    return (f"process {pid} on {host}", since) if found else ("an unknown process", "an unknown time")


def successor(path: Path) -> str:
    """Who has what another process had before."""
    if not path.exists():
        return f"one that has ended since, or {path.name} was removed"
    return f"{holder(path)}, since it gave no sign of life for {PATIENCE:g} s"


def busy_with(path: Path) -> str:
    """Who has a lease that another process asked for."""
    found = document_of(content_of(path))
    if not found:
        return "another process is working on this run"
    pid, host, since = (one_line(found.get(key, "?"))[:80] for key in ("pid", "host", "since"))
    return f"another process is working on this run: {pid} on {host}, since {since}"
