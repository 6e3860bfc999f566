"""Decodes picture files that may lie about their size, and the one conversion that every picture goes through."""

from __future__ import annotations

import functools
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import InputError
from harness.store.foreign import open_plain

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

#: changes whenever the same file would give other pixels
CONVERSION = 2
#: no picture of a data set here is larger; a header that claims more is refused before anything is decoded
MAX_PIXELS = 64_000_000
MAX_BYTES = 1 << 26
# A picture that has more contrast than this does not come out of the conversion without any.
_ROUNDING = 3
_MODES = "1, L, LA, P, PA, RGB, RGBA, CMYK, YCbCr, LAB, HSV, I, I;16, F"


def read_picture(source: Path | bytes, where: str, mode: Literal["L", "RGB"], size: int) -> np.ndarray:
    """One PNG or JPEG as uint8 ``[channels, size, size]``, resized by Lanczos with antialiasing.

    See :func:`converted` for what becomes of its colours. ``where`` names it in errors. Raises :class:`InputError` for
    a file that is missing, torn, of another format, an animation, or larger than :data:`MAX_PIXELS`.
    """
    import numpy as np
    from PIL import Image

    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else open_plain(source, MAX_BYTES)
        # Pillow checks for decompression bombs itself, but only warns below twice its own limit.
        with file, warnings.catch_warnings(action="ignore"), Image.open(file, formats=("PNG", "JPEG")) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise InputError(
                    f"{where} claims {opened.width} x {opened.height} pixels; allowed: {MAX_PIXELS} in all"
                )
            if opened.format == "PNG" and getattr(opened, "is_animated", False):
                raise InputError(f"{where} is an animation; allowed: a picture")
            picture = converted(opened, mode, where)
        if picture.size != (size, size):
            picture = picture.resize((size, size), Image.Resampling.LANCZOS)
        array = np.asarray(picture)
    except InputError:
        raise
    except Exception as error:  # its decoders raise what struct, zlib and their like do
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{where} is no readable PNG or JPEG: {reason}") from error
    return array[None] if mode == "L" else np.ascontiguousarray(array.transpose(2, 0, 1))


def converted(picture: Image.Image, mode: Literal["L", "RGB"], where: str) -> Image.Image:
    """``picture`` as 8 bit grey or RGB, upright; nothing but rounding, and the colour that grey cannot have, is lost.

    EXIF's orientation is applied. 16 bit values (``I;16``, and ``I``, which holds them) are scaled by 255 / 65535,
    values of ``F`` by 255. What is transparent is laid on white. CMYK, YCbCr, HSV and palettes are converted by Pillow,
    LAB by littleCMS to sRGB; profiles in the file are not applied. Grey is ITU-R 601's luma. Raises
    :class:`InputError` for values out of range, and for a picture of which nothing would be left: white on transparent.
    """
    from PIL import Image

    picture = _eight_bits(_upright(picture), where)
    if picture.mode == "LAB":
        picture = _from_lab(picture)
    if picture.mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV"):
        raise InputError(f"{where} has pixels of mode {picture.mode}; allowed: {_MODES}")
    if picture.has_transparency_data:
        # premultiplied modes lead to the others one by one
        before = picture.convert({"La": "LA", "RGBa": "RGBA"}.get(picture.mode, picture.mode)).convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", before.size, "white"), before).convert("RGB")
    else:
        picture = before = picture if picture.mode == "L" else picture.convert("RGB")
    result = picture.convert(mode)
    if _contrast(result) == 0 and _contrast(before) > _ROUNDING:
        raise InputError(f"{where} would be of one colour on white in mode {mode}; allowed: a picture that is not")
    return result


def _upright(picture: Image.Image) -> Image.Image:
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # EXIF that cannot be read turns nothing; pixels that cannot fail in the next step
        return picture


def _eight_bits(picture: Image.Image, where: str) -> Image.Image:
    """The picture itself, or where its values are wider their 8 highest bits, rounded."""
    import numpy as np
    from PIL import Image

    if picture.mode != "F" and picture.mode != "I" and not picture.mode.startswith("I;16"):
        return picture
    values = np.asarray(picture)
    low, high = values.min(), values.max()
    if picture.mode == "F":
        if not (low >= 0 and high <= 1):
            raise InputError(f"{where} has floating-point values from {low} to {high}; allowed: 0 to 1")
        return Image.fromarray(np.rint(values * 255).astype(np.uint8))
    if low < 0 or high > 65535 or 0 < high <= 255:
        raise InputError(f"{where} has 16 bit values from {low} to {high}; allowed: from 0, to between 256 and 65535")
    wide = values.astype(np.int64)
    if isinstance(clear := picture.info.get("transparency"), int):
        wide[wide == clear] = 65535
    return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))


def _from_lab(picture: Image.Image) -> Image.Image:
    from PIL import ImageCms

    result = ImageCms.applyTransform(picture, _lab_to_srgb())
    assert result is not None
    return result


@functools.cache
def _lab_to_srgb() -> Any:
    from PIL import ImageCms

    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


def _contrast(picture: Image.Image) -> int:
    """The largest difference between two pixels in one band."""
    extrema: Any = picture.getextrema()
    return max(int(high) - int(low) for low, high in (extrema if isinstance(extrema[0], tuple) else [extrema]))
