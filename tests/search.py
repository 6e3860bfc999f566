"""How far the tests search: the same inputs every time; with HARNESS_FUZZ=20, twenty times as many new ones."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_LONGER = int(os.environ.get("HARNESS_FUZZ", "1"))


def search(examples: int) -> settings:
    """Decorator over ``hypothesis.given``: so many examples, or so many times HARNESS_FUZZ."""
    return settings(
        max_examples=examples * _LONGER,
        derandomize=_LONGER == 1,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
