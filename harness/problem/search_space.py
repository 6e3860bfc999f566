"""Ranges and choices of a search space, as plugins declare them. Free of torch and of Optuna."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; integers where both are, on a ``log`` scale if asked."""

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether it holds integers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that have to be allowed if all of them are."""
        return (self.low, self.high)

    def holds(self, value: Any) -> bool:
        """Whether ``value`` is one of these numbers."""
        number = isinstance(value, int if self.whole else int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}" + (" log" if self.log else "")


@dataclass(frozen=True)
class Choice:
    """One of these values: numbers, texts, true or false."""

    values: tuple[Any, ...]

    @property
    def ends(self) -> tuple[Any, ...]:
        """See :attr:`Range.ends`."""
        return self.values

    def holds(self, value: Any) -> bool:
        """Whether ``value`` is one of them."""
        return value in self.values

    def __str__(self) -> str:
        return ",".join(map(str, self.values))
