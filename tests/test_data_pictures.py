"""Every picture goes through one conversion: whatever its mode, what was in it is in the pixels, or it is refused."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from harness.datasets.pictures import converted, read_picture
from harness.errors import InputError

# four colours that every mode holds, in quarters; 84 pixels, so that nothing is resized
COLOURS = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (230, 230, 230))


def quarters(colours=COLOURS, mode="RGB"):
    picture = Image.new(mode, (84, 84))
    for number, colour in enumerate(colours):
        picture.paste(colour, (42 * (number % 2), 42 * (number // 2), 42 * (number % 2) + 42, 42 * (number // 2) + 42))
    return picture


def corners(array):
    """The colour in the middle of each quarter of ``[channels, size, size]``."""
    return [tuple(array[:, y, x].tolist()) for y in (20, 62) for x in (20, 62)]


def file(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def near(found, expected, most):
    return np.abs(np.array(found, int) - np.array(expected, int)).max() <= most


@pytest.mark.parametrize(
    ("mode", "kind", "most"),
    [
        ("RGB", "PNG", 0),
        ("RGBA", "PNG", 0),
        ("P", "PNG", 0),
        ("RGB", "JPEG", 3),
        ("CMYK", "JPEG", 6),
        ("YCbCr", "JPEG", 3),
    ],
)
def test_colours_survive_every_mode_of_a_file(mode, kind, most):
    picture = quarters().quantize(4) if mode == "P" else quarters().convert(mode)
    content = file(picture, kind, **({"quality": 98} if kind == "JPEG" else {}))
    assert near(corners(read_picture(content, "a", "RGB", 84)), COLOURS, most)


def test_colours_survive_the_modes_that_no_png_has():
    assert near(corners(as_array(converted(quarters().convert("HSV"), "RGB", "a"))), COLOURS, 4)
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.applyTransform(quarters(), ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    assert near(corners(as_array(converted(lab, "RGB", "a"))), COLOURS, 6)
    grey = as_array(converted(quarters().convert("HSV"), "L", "a"))
    assert near(corners(grey), [(c[0] * 299 // 1000 + c[1] * 587 // 1000 + c[2] * 114 // 1000,) for c in COLOURS], 4)


def as_array(picture):
    array = np.asarray(picture)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_stays_grey(mode):
    values = (0, 255, 255, 0) if mode == "1" else (0, 80, 160, 255)
    picture = quarters(values, "L").convert(mode)
    for wanted, channels in (("L", 1), ("RGB", 3)):
        found = corners(read_picture(file(picture), "a", wanted, 84))
        assert found == [(value,) * channels for value in values]


def test_what_is_transparent_is_laid_on_white():
    half = quarters(tuple((*colour, alpha) for colour, alpha in zip(COLOURS, (255, 128, 0, 255), strict=True)), "RGBA")
    expected = [
        COLOURS[0],
        tuple(round(c * 128 / 255 + 255 * 127 / 255) for c in COLOURS[1]),
        (255, 255, 255),
        COLOURS[3],
    ]
    for source in (half, half.convert("RGBa")):
        assert near(corners(as_array(converted(source, "RGB", "a"))), expected, 2)
    assert near(corners(read_picture(file(half), "a", "RGB", 84)), expected, 1)
    # a palette, and a colour, that stand for nothing
    assert corners(read_picture(file(quarters().quantize(4), transparency=0), "a", "RGB", 84)).count((255,) * 3) == 1
    key = read_picture(file(quarters(), transparency=COLOURS[2]), "a", "RGB", 84)
    assert corners(key) == [COLOURS[0], COLOURS[1], (255, 255, 255), COLOURS[3]]
    # black ink on nothing is ink on paper
    ink = quarters(((0, 255), (0, 0), (0, 128), (0, 0)), "LA")
    assert corners(read_picture(file(ink), "a", "L", 84)) == [(0,), (255,), (127,), (255,)]


def test_a_picture_of_which_nothing_would_be_left_is_refused():
    ghost = quarters(((255, 255), (255, 0), (255, 128), (255, 0)), "LA")
    with pytest.raises(InputError, match="a would be of one colour on white"):
        read_picture(file(ghost), "a", "L", 84)
    one_luma = quarters(((0, 0, 255), (97, 0, 0), (0, 49, 0), (29, 29, 29)))
    with pytest.raises(InputError, match="one colour"):
        read_picture(file(one_luma), "a", "L", 84)
    plain = Image.new("RGB", (84, 84), "red")  # was of one colour before
    assert read_picture(file(plain), "a", "L", 84).shape == (1, 84, 84)


def test_sixteen_bits_are_scaled():
    values = (0, 300, 32768, 65535)
    wide = Image.fromarray(np.kron(np.array(values, np.uint16).reshape(2, 2), np.ones((42, 42), np.uint16)))
    assert wide.mode == "I;16"
    expected = [(round(value * 255 / 65535),) for value in values]
    assert corners(read_picture(file(wide), "a", "L", 84)) == expected
    assert corners(read_picture(file(wide), "a", "RGB", 84)) == [value * 3 for value in expected]
    assert corners(as_array(converted(wide.convert("I"), "L", "a"))) == expected
    floating = Image.fromarray(np.asarray(wide, np.float32) / 65535)
    assert corners(as_array(converted(floating, "L", "a"))) == expected


def test_values_out_of_range_are_refused():
    grid = np.arange(84 * 84, dtype=np.float32).reshape(84, 84)
    for array in (grid / 255, -grid / grid.max(), np.full((84, 84), np.nan, np.float32)):
        with pytest.raises(InputError, match="allowed: 0 to 1"):
            converted(Image.fromarray(array), "L", "a")
    for array in (grid.astype(np.int32) * 100, -grid.astype(np.int32), np.minimum(grid, 255).astype(np.uint16)):
        with pytest.raises(InputError, match="16 bit values from"):
            converted(Image.fromarray(array), "L", "a")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture(orientation):
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = quarters() if orientation == 1 else quarters().transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind, options in (("PNG", {}), ("JPEG", {"quality": 98, "subsampling": 0})):
        assert near(corners(read_picture(file(stored, kind, exif=exif, **options), "a", "RGB", 84)), COLOURS, 4)


def test_exif_that_cannot_be_read_turns_nothing():
    content = file(quarters(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff broken", quality=98, subsampling=0)
    assert near(corners(read_picture(content, "a", "RGB", 84)), COLOURS, 4)


def test_an_animation_is_refused():
    frames = [Image.new("RGB", (84, 84), colour) for colour in ("red", "blue")]
    content = file(frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="animation"):
        read_picture(content, "a", "RGB", 84)


def test_sixteen_bits_with_a_transparent_value():
    wide = np.kron(np.array([[0, 20000], [40000, 60000]], np.uint16), np.ones((42, 42), np.uint16))
    content = file(Image.fromarray(wide))
    chunk = b"tRNS" + struct.pack(">H", 20000)
    where = content.index(b"IDAT") - 4
    marked = content[:where] + struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[where:]
    assert corners(read_picture(marked, "a", "L", 84)) == [(0,), (255,), (156,), (233,)]
