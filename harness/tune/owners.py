"""Which processes are still alive: each holds a lock on a file of its own, which its death releases."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # no such locks here: then nobody is ever found dead
    fcntl = None  # type: ignore[assignment]


class Owner:
    """This process, as long as :meth:`leave` is not called."""

    def __init__(self, folder: Path) -> None:
        self.name = uuid.uuid4().hex
        self._path = folder / f"{self.name}.lock"
        self._file: int | None = None
        while self._file is None:
            folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # whoever was the last has just removed the folder
                self._file = os.open(self._path, os.O_CREAT | os.O_RDWR)
        if fcntl is not None:
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def leave(self) -> None:
        """This process has no trial any more."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None
            with suppress(OSError):  # others are still there
                self._path.parent.rmdir()


def dead(folder: Path, name: str) -> bool:
    """Whether the process of that name has died. One that left no file in ``folder`` works elsewhere: not known."""
    try:
        file = os.open(folder / f"{name}.lock", os.O_RDWR)
    except OSError:
        return False
    try:
        if fcntl is None:
            return False
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(file)
    return True
