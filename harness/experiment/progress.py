"""What a run tells whoever watches it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from harness.settings.config import RunConfig

Measured = Literal["validation", "stationarity"]


class Progress(Protocol):
    """What a run tells whoever watches it."""

    def begin(self, config: RunConfig, done: int) -> None:
        """Training starts, or goes on after ``done`` iterations."""

    def trained(self, record: dict[str, Any]) -> None:
        """A line of ``metrics.jsonl``."""

    def evaluated(self, split: str, done: int, total: int) -> None:
        """``done`` of ``total`` tasks of ``split`` are evaluated."""

    def measured(self, what: Measured, record: dict[str, Any]) -> str | None:
        """A validation or a measurement of Definition 1 during training; a reason to stop here, or None."""

    def end(self) -> None:
        """Nothing more comes."""


class Silent:
    """A progress that nobody watches."""

    def begin(self, config: RunConfig, done: int) -> None:
        """See :class:`Progress`."""

    def trained(self, record: dict[str, Any]) -> None:
        """See :class:`Progress`."""

    def evaluated(self, split: str, done: int, total: int) -> None:
        """See :class:`Progress`."""

    def measured(self, what: Measured, record: dict[str, Any]) -> str | None:
        """See :class:`Progress`."""
        return None

    def end(self) -> None:
        """See :class:`Progress`."""
