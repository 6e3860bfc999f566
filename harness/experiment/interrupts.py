"""Ctrl-C between two meta-iterations and not within one, so that what is saved is whole; SIGTERM, SIGHUP likewise."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

# SIGHUP: the terminal has gone. Not where there is none, and not where somebody lets it be ignored, as nohup does.
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

#: exit status of a command that was interrupted, as shells have it for SIGINT
INTERRUPTED = 130


@dataclass
class Interrupt:
    """Whether somebody asked to stop."""

    pending: bool = False


@contextmanager
def deferred() -> Iterator[Interrupt]:
    """Turn the first SIGINT, SIGTERM or SIGHUP inside into ``pending``; the second one of its kind interrupts at once.

    Of its kind: a worker gets one of each where a terminal interrupts it and whoever started it.
    Python delivers signals to the main thread only: elsewhere this does nothing.
    """
    interrupt = Interrupt()
    seen: set[int] = set()

    def handle(number: int, frame: FrameType | None) -> None:
        if number in seen:
            raise KeyboardInterrupt
        seen.add(number)
        interrupt.pending = True

    with _handled(handle):
        yield interrupt


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP, as SIGINT, raise :class:`KeyboardInterrupt` inside."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handled(handle):
        yield


@contextmanager
def postponed() -> Iterator[None]:
    """Signals that come inside are handled at its end, as they would be there."""
    came: list[int] = []
    try:
        with _handled(lambda number, frame: came.append(number)):
            yield
    finally:
        for number in came:
            signal.raise_signal(number)


@contextmanager
def _handled(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ignored = [number for number in _SIGNALS[2:] if signal.getsignal(number) == signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in _SIGNALS if number not in ignored}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set by Python
