"""The progress of a run: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.text import Text

from harness.cli.terminal.console import is_live
from harness.experiment.in_words import InWords, setting

if TYPE_CHECKING:
    from harness.settings.config import RunConfig

_LOG_SECONDS = 5.0


@contextmanager
def show_lines(console: Console) -> Iterator[Callable[[str], None]]:
    """A function that shows what is being done: a live line on a terminal, a line every few seconds elsewhere."""
    if is_live(console):
        with console.status("") as status:
            yield lambda line: status.update(Text(line))
        return
    shown = 0.0

    def show(line: str) -> None:
        nonlocal shown
        if time.monotonic() - shown > _LOG_SECONDS:
            shown = time.monotonic()
            console.print(Text(line))

    yield show


class ConsoleProgress(InWords):
    """Loss, accuracy, tasks a second and the time left; implements :class:`harness.experiment.progress.Progress`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True) if is_live(console) else None
        self._shown = 0.0

    def begin(self, config: RunConfig, done: int) -> None:
        """Training starts, or goes on after ``done`` iterations."""
        super().begin(config, done)
        self._shown = time.monotonic()
        self._console.print(Text(setting(config)))
        if done:
            self._console.print(Text(f"going on after meta-iteration {done}"))
        if self._live:
            self._live.start()

    def end(self) -> None:
        """Nothing more comes."""
        if self._live:
            self._live.stop()

    def show(self, line: str, done: int, total: int) -> None:
        """A live line on a terminal, a line every few seconds elsewhere."""
        if self._live:
            self._live.update(Text(line))
        elif done == total or time.monotonic() - self._shown > _LOG_SECONDS:
            self._shown = time.monotonic()
            self._console.print(Text(line))
