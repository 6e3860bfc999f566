"""The errors that reach a person: one line each, and the exit status that goes with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HarnessError(Exception):
    """Something failed while working (exit status 1)."""

    exit_status = 1


class OutOfMemory(HarnessError):
    """Memory ran out where nothing can be halved and no run is there to record it."""


class CodeFailed(HarnessError):
    """A plugin's or a model's own code raised something while it worked."""


class AlgorithmFailed(CodeFailed):
    """An algorithm's own code raised something; other algorithms and problems go on."""


class InputError(HarnessError):
    """The request itself cannot be met (exit status 2): says what, where and what is allowed."""

    exit_status = 2


class NotSupported(InputError):
    """This combination of algorithm, engine and model has no implementation; others go on."""


class MissingData(InputError):
    """A data set is not there; says where it belongs. The rest of a suite goes on without it."""


def unknown(kind: str, name: str, allowed: Iterable[str]) -> InputError:
    """The error for a name that is not there, with the nearest ones that are."""
    allowed = sorted(allowed)
    near = difflib.get_close_matches(name, allowed, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return InputError(f"unknown {kind} {name!r}: {hint}allowed: {', '.join(allowed) or 'none'}")
