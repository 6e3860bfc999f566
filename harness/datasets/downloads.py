"""Fetches the files of data sets: https alone, of a known size and checksum. Nothing else here uses the network."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from harness.errors import HarnessError

_SECONDS = 60


@dataclass(frozen=True)
class Source:
    """A file in the net; ``size`` in bytes."""

    url: str
    size: int
    sha256: str


class _StayOnHttps(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        if not newurl.startswith("https://"):
            raise ValueError(f"{req.full_url} leads to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextmanager
def downloading(what: str, root: Path) -> Iterator[None]:
    """Make ``root`` and say on stderr what happens; whatever fails inside is a :class:`HarnessError` of one line."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        print(f"downloading {what} into {root}", file=sys.stderr)
        yield
    except Exception as error:  # urllib, http, ssl and tarfile each raise their own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise HarnessError(f"{what} could not be downloaded into {root}: {reason}") from error


def fetch(source: Source, to: Path) -> None:
    """Put ``source`` at ``to``, which is replaced only by the whole file with the checksum that is known of it."""
    to.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{to.name}.", dir=to.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _copy(source, file)
        os.chmod(temporary, 0o644)  # mkstemp lets nobody else read, and data directories are shared
        os.replace(temporary, to)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _copy(source: Source, file: BinaryIO) -> None:
    if not source.url.startswith("https://"):
        raise ValueError(f"{source.url} is not https")
    sha, size = hashlib.sha256(), 0
    with urllib.request.build_opener(_StayOnHttps()).open(source.url, timeout=_SECONDS) as response:
        while chunk := response.read(1 << 16):
            size += len(chunk)
            if size > source.size:
                raise ValueError(f"{source.url} gives more than its {source.size} bytes")
            sha.update(chunk)
            file.write(chunk)
    if size != source.size or sha.hexdigest() != source.sha256:
        raise ValueError(f"{source.url} gave {size} bytes that are not those known by their SHA-256")
    file.flush()
    os.fsync(file.fileno())
