"""Several seeds as a person writes them: ``0..4``, ``0,1,2`` or both."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.errors import InputError
from harness.settings.config import RunConfig

_MOST = 1000
_PART = re.compile(r"(\d{1,18})(?:\.\.(\d{1,18}))?")


def seeds_of(text: str) -> tuple[int, ...]:
    """Each seed once, in order; raises :class:`InputError`.

    >>> seeds_of("0..2,7")
    (0, 1, 2, 7)
    """
    found: dict[int, None] = {}
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < first + _MOST - len(found):
            raise InputError(f"--seeds {text!r}: allowed: 0..4 or 0,1,2, up to {_MOST:,} integers >= 0")
        found.update(dict.fromkeys(range(first, last + 1)))
    return tuple(found)


def one_each(settings: RunConfig, text: str | None, origins: Mapping[str, str]) -> list[RunConfig]:
    """The run with each seed of ``--seeds``, or as it is without; raises :class:`InputError`."""
    if text is None:
        return [settings]
    if "seed" in origins:
        raise InputError(f"--seeds with {origins['seed']}: give one of them")
    return [settings.model_copy(update={"seed": seed}) for seed in seeds_of(text)]
