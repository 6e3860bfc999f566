"""Data inside a script block of a page: packed, so that nothing in it can end the block or start another."""

from __future__ import annotations

import base64
import gzip
import json
import math
from typing import Any


def packed(text: str) -> str:
    """``text`` in a few ASCII letters, which the page's scripts unpack: gzip in base64, the same bytes every time."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def packed_json(data: Any) -> str:
    """``data`` as JSON, packed."""
    return packed(json.dumps(data, separators=(",", ":"), allow_nan=False))


def plain(value: Any) -> Any:
    """``value``, which was read from a file, in what JSON has: NaN and infinity as text, keys as text."""
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
