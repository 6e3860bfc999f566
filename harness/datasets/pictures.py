"""Decodes picture files that may lie about their size."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.errors import InputError
from harness.foreign import open_plain

if TYPE_CHECKING:
    import numpy as np

#: no picture of a data set here is larger; a header that claims more is refused before anything is decoded
MAX_PIXELS = 64_000_000
MAX_BYTES = 1 << 26


def read_picture(source: Path | bytes, where: str, mode: Literal["L", "RGB"], size: int) -> np.ndarray:
    """One PNG or JPEG as uint8 ``[channels, size, size]``, resized by Lanczos with antialiasing.

    ``where`` names it in errors. Raises :class:`InputError` for a file that is missing, torn, of another
    format, or larger than :data:`MAX_PIXELS`.
    """
    import numpy as np
    from PIL import Image

    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else open_plain(source, MAX_BYTES)
        # Pillow checks for decompression bombs itself, but only warns below twice its own limit.
        with file, Image.open(file, formats=("PNG", "JPEG")) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise InputError(
                    f"{where} claims {opened.width} x {opened.height} pixels; allowed: {MAX_PIXELS} in all"
                )
            picture = opened.convert(mode)
        if picture.size != (size, size):
            picture = picture.resize((size, size), Image.Resampling.LANCZOS)
        array = np.asarray(picture)
    except InputError:
        raise
    except Exception as error:  # its decoders raise what struct, zlib and their like do
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{where} is no readable PNG or JPEG: {reason}") from error
    return array[None] if mode == "L" else np.ascontiguousarray(array.transpose(2, 0, 1))
