"""Lets torchvision download a data set: progress on stderr, failures in one line."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

from harness.errors import HarnessError, InputError


def download(what: str, root: Path, fetch: Callable[[str], object]) -> None:
    """Call ``fetch(root)``; raises :class:`HarnessError` with the reason if it fails.

    torchvision prints some of its messages, and stdout belongs to the answer of a command.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(sys.stderr):
            print(f"downloading {what} into {root}")
            fetch(str(root))
    except ImportError as error:
        raise InputError(f"{what} cannot be downloaded: {error}; install torchvision") from error
    except Exception as error:  # urllib, ssl, tarfile and torchvision each raise their own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise HarnessError(f"{what} could not be downloaded into {root}: {reason}") from error
