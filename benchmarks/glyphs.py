"""The embedded default: characters rendered from the open fonts that matplotlib ships, split by script."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import unicodedata
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.datasets.class_images import ClassImages
from harness.datasets.images import ImageBenchmark
from harness.datasets.store import FORMAT, stored

if TYPE_CHECKING:
    import numpy as np

GENERATOR = 1  # changes whenever the pictures would
SCRIPTS = {"train": ("LATIN", "CYRILLIC", "GREEK"), "validation": ("ARMENIAN",), "test": ("GEORGIAN",)}
SAMPLES = 25
SIZE = 28
SCALE = 3  # pictures are drawn three times larger and averaged down
EM = 26 * SCALE
BOX = 22 * SCALE  # wide characters are shrunk to this, so that turning and moving them cuts nothing off

# The twelve text faces of DejaVu cover every script here; a character belongs if eight of them have it.
DEJAVU = tuple(
    f"DejaVu{face}.ttf"
    for face in (
        *("Sans", "Sans-Bold", "Sans-Oblique", "Sans-BoldOblique"),
        *("SansMono", "SansMono-Bold", "SansMono-Oblique", "SansMono-BoldOblique"),
        *("Serif", "Serif-Bold", "Serif-Italic", "Serif-BoldItalic"),
    )
)
NEEDED = 8
STIX = ("STIXGeneral.ttf", "STIXGeneralBol.ttf", "STIXGeneralItalic.ttf", "STIXGeneralBolIta.ttf")
# Computer Modern has TeX's encodings, which agree with Unicode on the letters of ASCII alone.
MODERN = ("cmr10.ttf", "cmb10.ttf", "cmss10.ttf", "cmtt10.ttf", "cmti10.ttf")


class Glyphs(ImageBenchmark):
    """549 / 76 / 119 letters, 25 grey pictures of 28 x 28 each, ink 1 on 0.

    One class is one unaccented letter; its pictures differ in face, slant, weight, size and place. Latin, Cyrillic
    and Greek train, Armenian validates and Georgian tests, so that no script is seen before. Of letters that
    are the same shape, such as A in all three training scripts, only the first is a class.
    """

    name = "glyphs"
    summary = "letters of five scripts rendered from open fonts, 28x28 grey; needs no download"
    shape = (1, SIZE, SIZE)
    classes = {"train": 549, "validation": 76, "test": 119}
    embedded = True
    #: the usual inner step on characters (Finn et al. 2017 on Omniglot), and a size for minutes on two cores
    defaults = {
        "inner_lr": 0.4,
        "outer_lr_w": 5e-3,
        "outer_lr_phi": 5e-3,
        "outer_schedule": "cosine",
        "iterations": 300,
        "model_options": {"filters": 32},
    }

    def sources(self) -> list[Path]:
        """See :meth:`ImageBenchmark.sources`: the same fonts and rasteriser give the same pictures."""
        return [_fonts() / face for face in (*DEJAVU, *STIX, *MODERN)]

    def images_per_class(self, split: str) -> int:
        """See :meth:`ImageBenchmark.images_per_class`."""
        return SAMPLES

    def missing(self) -> str | None:
        """See :meth:`ImageBenchmark.missing`."""
        absent = [name for name in ("matplotlib", "PIL", "fontTools") if importlib.util.find_spec(name) is None]
        return f"glyphs needs {', '.join(absent)}: pip install matplotlib pillow" if absent else None

    def prepare(self) -> str:
        """See :meth:`ImageBenchmark.prepare`."""
        where = super().prepare()
        self.identities()
        return where

    def load_split(self, split: str) -> ClassImages:
        """See :meth:`ImageBenchmark.load_split`."""
        fonts, rasteriser = importlib.metadata.version("matplotlib"), importlib.metadata.version("pillow")
        name = f"glyphs/{GENERATOR}.{FORMAT}-matplotlib{fonts}-pillow{rasteriser}-{split}.bin"
        return stored(self.root, name, lambda: render(letters(split)), self.renew)


def letters(split: str) -> dict[str, list[str]]:
    """The letters of a split in the order of their code points, and the font files that have each."""
    covered = _coverage()
    found: dict[str, list[str]] = {}
    shapes: set[bytes] = set()
    # Neither names nor decompositions of assigned characters ever change, so every Python finds the same letters.
    for code in sorted(set().union(*(covered[face] for face in DEJAVU))):
        letter = chr(code)
        script = unicodedata.name(letter, "").partition(" ")[0]
        if script not in SCRIPTS[split] or unicodedata.category(letter) not in ("Ll", "Lu", "Lo"):
            continue
        faces = [face for face in DEJAVU if code in covered[face]]
        if unicodedata.decomposition(letter) or len(faces) < NEEDED:
            continue
        shape = _shape(faces[0], letter)
        if shape in shapes:
            continue
        shapes.add(shape)
        faces += [face for face in STIX if code in covered[face]]
        faces += MODERN if code < 128 else ()
        found[letter] = faces
    return found


def render(faces: dict[str, list[str]]) -> ClassImages:
    """Pictures of each letter in its faces: uint8 ``[letters * SAMPLES, 1, SIZE, SIZE]``, a function of the letter."""
    import numpy as np

    images = np.empty((len(faces), SAMPLES, 1, SIZE, SIZE), np.uint8)
    for number, (letter, files) in enumerate(faces.items()):
        images[number, :, 0] = _class(letter, files)
    names = tuple(unicodedata.name(letter) for letter in faces)
    return ClassImages(images.reshape(-1, 1, SIZE, SIZE), (SAMPLES,) * len(faces), names)


def _class(letter: str, files: list[str]) -> np.ndarray:
    import numpy as np
    from PIL import Image, ImageFilter

    # The raw output of a bit generator is fixed for good, which the distributions of numpy are not.
    raw = np.random.PCG64([GENERATOR, ord(letter)]).random_raw(len(files) + 7 * SAMPLES)
    uniform = (raw >> np.uint64(11)) * 2.0**-53
    order = np.argsort(uniform[: len(files)], kind="stable")
    pictures, drawn = [], dict[str, Any]()
    for sample, (turn, grow, stretch, lean, right, down, weight) in enumerate(
        uniform[len(files) :].reshape(SAMPLES, 7).tolist()
    ):
        face = files[order[sample % len(files)]]
        picture = drawn[face] = drawn.get(face) or _drawn(face, letter)
        angle = np.deg2rad(20 * turn - 10)
        shape = np.array([[1.0, 0.3 * lean - 0.15], [0.0, 1.0]]) @ np.diag([1.0, 0.9 + 0.2 * stretch])
        turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        back = np.linalg.inv((0.9 + 0.2 * grow) * turned @ shape)
        middle = SIZE * SCALE / 2
        offset = middle - back @ (middle + SCALE * (4 * np.array([right, down]) - 2))
        matrix = (back[0, 0], back[0, 1], offset[0], back[1, 0], back[1, 1], offset[1])
        picture = picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
        if weight < 0.25 and ("Bol" in face or face == "cmb10.ttf"):  # thin strokes would break
            picture = picture.filter(ImageFilter.MinFilter(3))
        elif weight > 0.75:
            picture = picture.filter(ImageFilter.MaxFilter(3))
        pictures.append(np.asarray(picture.reduce(SCALE)))
    return np.stack(pictures)


@cache
def _coverage() -> dict[str, frozenset[int]]:
    """The code points that each text face has."""
    from fontTools.ttLib import TTFont

    faces = {}
    for face in (*DEJAVU, *STIX):
        with TTFont(_path(face), lazy=True) as font:
            faces[face] = frozenset(font.getBestCmap())
    return faces


@cache
def _fonts() -> Path:
    """The folder of matplotlib's fonts, found without the half second that importing it takes."""
    found = importlib.util.find_spec("matplotlib")
    beside = Path(found.origin if found and found.origin else "").parent / "mpl-data" / "fonts" / "ttf"
    if beside.is_dir():
        return beside
    import matplotlib

    return Path(matplotlib.get_data_path(), "fonts", "ttf")


def _path(face: str) -> str:
    return str(_fonts() / face)


@cache
def _font(face: str) -> Any:
    from PIL import ImageFont

    # The basic layout engine is in every build of Pillow; the other one needs a library and may differ.
    return ImageFont.truetype(_path(face), EM, layout_engine=ImageFont.Layout.BASIC)


def _shape(face: str, letter: str) -> bytes:
    """The letter's bare raster, equal for letters that nobody can tell apart."""
    mask = _font(face).getmask(letter)
    return repr(mask.size).encode() + bytes(mask)


def _drawn(face: str, letter: str) -> Any:
    """The letter in the middle of a large picture, white on black."""
    from PIL import Image, ImageDraw

    ink = Image.new("L", (4 * BOX, 4 * BOX))
    ImageDraw.Draw(ink).text((BOX, BOX), letter, fill=255, font=_font(face))
    ink = ink.crop(ink.getbbox())
    if max(ink.size) > BOX:
        shrink = BOX / max(ink.size)
        ink = ink.resize((max(1, round(ink.width * shrink)), max(1, round(ink.height * shrink))))
    picture = Image.new("L", (SIZE * SCALE, SIZE * SCALE))
    picture.paste(ink, ((picture.width - ink.width) // 2, (picture.height - ink.height) // 2))
    return picture
