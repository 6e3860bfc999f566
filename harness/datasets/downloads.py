"""Fetches the files of data sets through torchvision, which knows their checksums; nothing else uses the network."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from harness.errors import HarnessError


@contextmanager
def downloading(what: str, root: Path) -> Iterator[None]:
    """Make ``root`` and say on stderr what happens; whatever fails inside is a :class:`HarnessError` of one line.

    torchvision prints some of its messages, and stdout belongs to the answer of a command.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with redirect_stdout(sys.stderr):
            print(f"downloading {what} into {root}")
            yield
    except Exception as error:  # urllib, http, ssl, tarfile and torchvision each raise their own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise HarnessError(f"{what} could not be downloaded into {root}: {reason}") from error


def fetch(url: str, md5: str, to: Path) -> None:
    """Put the file at ``url`` at ``to``, which is replaced only by the whole file with this checksum."""
    from torchvision.datasets.utils import download_url

    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{to.name}.", dir=to.parent) as folder:
        download_url(url, folder, to.name, md5)
        os.replace(Path(folder) / to.name, to)
