"""Data inside a script block of a page: JSON in which nothing can end the block or start another."""

from __future__ import annotations

import json
import math
from typing import Any

_ESCAPES = str.maketrans({letter: f"\\u{ord(letter):04x}" for letter in "<>&"})


def script_safe(data: Any) -> str:
    r"""``data`` as JSON of ASCII letters (U+2028 and the like are escaped) without ``<``, ``>`` and ``&``.

    >>> script_safe({"name": "</script>"})
    '{"name":"\\u003c/script\\u003e"}'
    """
    return json.dumps(data, separators=(",", ":"), allow_nan=False).translate(_ESCAPES)


def plain(value: Any) -> Any:
    """``value``, which was read from a file, in what JSON has: NaN and infinity as text, keys as text."""
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
