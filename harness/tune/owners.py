"""Which processes are still alive: each has a lease on a file of its own, as runs have (:mod:`harness.store.lock`)."""

from __future__ import annotations

import logging
import uuid
from contextlib import suppress
from pathlib import Path

from harness.store import lease
from harness.store.lease import Silence, died, holder
from harness.store.lock import Lease

log = logging.getLogger("harness")


class Owner:
    """This process, as long as :meth:`leave` is not called."""

    def __init__(self, folder: Path) -> None:
        self.name = uuid.uuid4().hex
        self._folder, self._lease = folder, None
        while self._lease is None:
            folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # whoever was the last has just removed the folder
                self._lease = Lease(_file(folder, self.name))

    def leave(self) -> None:
        """This process has no trial any more."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None
            with suppress(OSError):  # others are still there
                self._folder.rmdir()


class Owners:
    """What this process knows of the others that work on a study, whose files are in ``folder``."""

    def __init__(self, folder: Path, complete: bool = True) -> None:
        self._folder, self._complete = folder, complete
        self._silences: dict[str, Silence] = {}

    def dead(self, name: str, what: str) -> bool:
        """Whether the process of that name has died, by its kernel or by its silence, of which a line is said.

        One that left no file is silent, where this folder has the files of all (``complete``); else it works with
        another folder, and nothing is known of it. ``what`` waits for it, in words.
        """
        file = _file(self._folder, name)
        if died(file):
            return True
        if not (self._complete or file.exists()):
            return False
        silence = self._silences.setdefault(name, Silence(file))
        before, now = silence.quiet, silence.look()
        if before <= 2 * lease.BEAT < now:
            log.warning(
                "%s waits for %s, which gives no sign of life in %s; after %g s it counts as dead",
                what, holder(file), self._folder, lease.PATIENCE,
            )  # fmt: skip
        return now >= lease.PATIENCE

    def forget(self, name: str) -> None:
        """Remove what a dead process left."""
        self._silences.pop(name, None)
        _file(self._folder, name).unlink(missing_ok=True)


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.lock"
