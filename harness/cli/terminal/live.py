"""A table that is redrawn while work goes on; on anything but a terminal there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.live import Live

from harness.cli.terminal.console import is_live


class LiveView:
    """Whoever shows progress as a table on a terminal and as lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=2) if is_live(console) else None

    @contextmanager
    def shown(self) -> Iterator[Self]:
        """The table is on the screen inside."""
        if self._live:
            self._live.start()
        try:
            yield self
        finally:
            if self._live:
                self._live.stop()
