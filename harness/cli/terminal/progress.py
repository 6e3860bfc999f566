"""The progress of a run: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from harness.cli.terminal.console import is_live
from harness.strangers.named import brief

if TYPE_CHECKING:
    from harness.experiment.progress import Measured
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


class ConsoleProgress:
    """Loss, accuracy, tasks a second and the time left; implements :class:`harness.experiment.progress.Progress`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True) if is_live(console) else None
        self._shown = 0.0

    def begin(self, config: RunConfig, done: int) -> None:
        """Training starts, or goes on after ``done`` iterations."""
        self._config, self._done, self._began = config, done, time.monotonic()
        self._shown = self._began
        task = f"{brief(config.benchmark)}, {config.ways}-way {config.shots}-shot, N = {config.inner_steps}"
        where = f"engine {config.engine} on {config.device}"
        self._console.print(Text(f"{config.algo} {config.geometry}: {task}, {where}"))
        if done:
            self._console.print(Text(f"going on after meta-iteration {done}"))
        if self._live:
            self._live.start()

    def trained(self, record: dict[str, Any]) -> None:
        """A line of ``metrics.jsonl``."""
        config, iteration = self._config, record["iteration"]
        elapsed = max(time.monotonic() - self._began, 1e-9)
        rate = (iteration - self._done) / elapsed
        parts = [f"meta-iteration {iteration}/{config.iterations}"]
        if record["loss"] is not None:
            parts.append(f"loss {record['loss']:.4f}")
        if record["accuracy"] is not None:
            parts.append(f"accuracy {100 * record['accuracy']:.1f} %")
        parts.append(f"{rate * config.meta_batch:.1f} tasks/s")
        parts.append(f"{clock((config.iterations - iteration) / rate)} left")
        self._show("  ".join(parts), iteration == config.iterations)

    def evaluated(self, split: str, done: int, total: int) -> None:
        """``done`` of ``total`` tasks of ``split`` are evaluated."""
        self._show(f"evaluating on {split} tasks {done}/{total}", done == total)

    def measured(self, what: Measured, record: dict[str, Any]) -> str | None:
        """Nobody here stops a run."""
        return None

    def end(self) -> None:
        """Nothing more comes."""
        if self._live:
            self._live.stop()

    def _show(self, line: str, last: bool) -> None:
        if self._live:
            self._live.update(Text(line))
        elif last or time.monotonic() - self._shown > _LOG_SECONDS:
            self._shown = time.monotonic()
            self._console.print(Text(line))


def clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
