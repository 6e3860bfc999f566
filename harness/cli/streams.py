"""Standard streams that are closed, full or a pipe without a reader: no reason to end a run, and no traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO, cast


class _Lenient:
    """A stream that is written to while that works."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or not."""
        with suppress(OSError, ValueError):  # ValueError: closed
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or not."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def standard() -> Iterator[None]:
    """Inside, stderr may fail, and a stdout or stderr that was closed from the start leads nowhere.

    What a run opens would else get the number of a closed one, and with it what a library prints.
    """
    number = 0
    while number < 3:  # takes the numbers 0, 1 and 2 where they are free
        number = os.open(os.devnull, os.O_RDWR)
    os.close(number)
    nowhere = open(os.devnull, "w")  # noqa: SIM115  (the logging handler keeps it)
    with redirect_stdout(sys.stdout or nowhere), redirect_stderr(cast(TextIO, _Lenient(sys.stderr or nowhere))):
        yield
    try:
        (sys.stderr or nowhere).flush()
    except (OSError, ValueError):
        leave(sys.stderr)


@contextmanager
def nowhere() -> Iterator[None]:
    """Inside, what is printed is lost."""
    with open(os.devnull, "w") as file, redirect_stdout(file), redirect_stderr(file):
        yield


def leave(stream: TextIO) -> None:
    """Nobody can read of this any more: what is still to be written at the end of this process leads nowhere.

    Python itself ends with 120 where it cannot flush a standard stream.
    """
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
