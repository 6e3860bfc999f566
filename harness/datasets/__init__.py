"""Readers of data sets as they lie on people's disks; nothing in here trusts a file."""

import functools
import logging


@functools.cache
def warn_once(text: str) -> None:
    """Say it the first time: a grid of runs reads the same data again and again."""
    logging.getLogger("harness").warning("%s", text)
