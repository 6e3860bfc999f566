"""Omniglot: 1623 handwritten characters of 50 alphabets, 20 drawings each (Lake, Salakhutdinov and Tenenbaum 2015)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, groupby
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import Field

from harness.datasets import downloads
from harness.datasets.class_images import ClassImages
from harness.datasets.folders import class_folders, hidden
from harness.datasets.images import ImageBenchmark
from harness.datasets.options import ImageOptions
from harness.datasets.pictures import read_picture
from harness.datasets.splits import published
from harness.datasets.store import stamp, stored
from harness.datasets.zips import MAX_MEMBER_BYTES, read_zip
from harness.errors import InputError
from harness.problem.benchmark import SPLITS
from harness.store.foreign import read_plain

PARTS = ("background", "evaluation")
# The five background alphabets that the Vinyals split validates on, so that the two splits validate alike.
VALIDATION = ("Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)")
CLASSES = {
    "original": {"train": 792, "validation": 172, "test": 659},
    "vinyals": {"train": 1028, "validation": 172, "test": 423},
}


class OmniglotOptions(ImageOptions):
    """Which characters train, and whether turned ones count as further classes."""

    split: Literal["original", "vinyals"] = Field(
        "original",
        description="original: 25 / 5 / 20 whole alphabets, the authors' evaluation set tests; "
        "vinyals: 1028 / 172 / 423 characters",
    )
    rotations: bool = Field(
        False, description="add the training characters turned by 90, 180 and 270 degrees as classes"
    )


class Omniglot(ImageBenchmark):
    """Handwritten characters, resized from 105 to 28 pixels by Lanczos with antialiasing, ink 1 on 0.

    Reads ``images_background.zip`` and ``images_evaluation.zip`` or the folders they unpack to, in ``omniglot-py/``
    (torchvision's), ``omniglot/`` or the data directory itself. By default validation and test alphabets are held out
    whole: 25 background alphabets train, Armenian, Bengali, Early Aramaic, Hebrew and Mkhedruli validate and the
    20 evaluation alphabets test.
    """

    name = "omniglot"
    summary = "Omniglot: handwritten characters of held-out alphabets, 28x28 grey"
    shape = (1, 28, 28)
    #: the inner step of Finn et al. 2017 on Omniglot
    defaults = {"inner_lr": 0.4}
    Options = OmniglotOptions

    def __init__(self, options: Any = None, root: Path | None = None) -> None:
        super().__init__(options, root)
        classes = CLASSES[self.options.split]
        self.classes = {**classes, "train": classes["train"] * 4} if self.options.rotations else classes

    def sources(self) -> list[Path] | None:
        """See :meth:`ImageBenchmark.sources`."""
        if (found := self._sources()) is None:
            return None
        return [file for source in found.values() for file in ([source] if source.is_file() else _drawings(source))]

    def class_names(self, split: str) -> list[str]:
        """See :meth:`ImageBenchmark.class_names`; the list has all characters of both parts."""
        listed = published("omniglot_vinyals")
        last: dict[str, int] = {}
        for alphabet, (_, high) in chain(*(listed[other].items() for other in SPLITS)):
            last[alphabet] = max(high, last.get(alphabet, 0))
        every = [f"{alphabet}/character{number:02d}" for alphabet in last for number in range(1, last[alphabet] + 1)]
        names = [name for name in every if _split_of(self.options.split, name) == split]
        turns = ("", "/90", "/180", "/270") if split == "train" and self.options.rotations else ("",)
        return [name + turn for turn in turns for name in names]

    def images_per_class(self, split: str) -> int:
        """See :meth:`ImageBenchmark.images_per_class`."""
        return 20

    def missing(self) -> str | None:
        """See :meth:`ImageBenchmark.missing`."""
        if self._sources() is not None:
            return None
        return (
            f"omniglot finds no images_background and images_evaluation (.zip or folders) in "
            f"{self.root / 'omniglot-py'}: run 'harness data prepare omniglot', "
            "or set HARNESS_DATA to the folder that holds them"
        )

    def prepare(self) -> str:
        """See :meth:`ImageBenchmark.prepare`."""
        if self.missing() is not None:
            from torchvision.datasets import Omniglot as Known

            with downloads.downloading("Omniglot", self.root):
                for name, md5 in Known.zips_md5.items():
                    file = f"{name}.zip"
                    downloads.fetch(f"{Known.download_url_prefix}/{file}", md5, self.root / "omniglot-py" / file)
        where = super().prepare()
        self.identities()
        return where

    def load_split(self, split: str) -> ClassImages:
        """See :meth:`ImageBenchmark.load_split`."""
        import numpy as np

        parts = [self._part(part) for part in PARTS]
        members = [_split_of(self.options.split, name) for part in parts for name in part.names]
        counts = [count for part in parts for count in part.counts]
        kept = np.repeat([member == split for member in members], counts)
        images = np.concatenate([part.images for part in parts])[kept]
        names = tuple(n for n, m in zip(chain(*(p.names for p in parts)), members, strict=True) if m == split)
        sizes = tuple(count for count, member in zip(counts, members, strict=True) if member == split)
        if split == "train" and self.options.rotations:
            images = np.concatenate([np.rot90(images, turns, axes=(2, 3)) for turns in range(4)])
            names = tuple(f"{name}/{90 * turns}" if turns else name for turns in range(4) for name in names)
            sizes *= 4
        return ClassImages(images, sizes, names)

    def _sources(self) -> dict[str, Path] | None:
        """The zip or the folder of each part."""
        for folder in (self.root / "omniglot-py", self.root / "omniglot", self.root):
            found = {}
            for part in PARTS:
                archive, unpacked = folder / f"images_{part}.zip", folder / f"images_{part}"
                if archive.is_file() or unpacked.is_dir():
                    found[part] = archive if archive.is_file() else unpacked
            if len(found) == len(PARTS):
                return found
        return None

    def _part(self, part: str) -> ClassImages:
        """Every character of one part, decoded once and kept for the next time."""
        if (sources := self._sources()) is None:
            raise InputError(self.missing() or "omniglot is missing")
        source = sources[part]
        # Decoding takes half a minute, so what is kept is known by what it came from, without opening it.
        mark = stamp([source] if source.is_file() else _drawings(source))
        name = f"omniglot-28/{part}-{mark}.bin"
        if name not in self._memory:
            self._memory[name] = stored(self.root, name, lambda: _decode(part, _pictures(source)), self.renew)
        return self._memory[name]  # type: ignore[no-any-return]


def _drawings(folder: Path) -> list[Path]:
    """The files ``alphabet/character/*.png``, by name."""
    alphabets = [path for path in folder.iterdir() if not hidden(path.name)]
    found = [path for alphabet in alphabets for paths in class_folders(alphabet).values() for path in paths]
    return sorted(found, key=Path.as_posix)  # the order of the names in a zip


def _pictures(source: Path) -> Iterator[tuple[str, bytes]]:
    """``alphabet/character/file`` and content of each drawing, by name."""
    if source.suffix == ".zip":
        members: Iterator[tuple[str, bytes]] = read_zip(source, ".png")
    else:
        members = ((path.relative_to(source.parent).as_posix(), _content(path)) for path in _drawings(source))
    for name, content in members:
        parts = PurePosixPath(name).parts
        if len(parts) >= 3 and not any(map(hidden, parts)):
            yield "/".join(parts[-3:]), content


def _content(path: Path) -> bytes:
    try:
        return read_plain(path, MAX_MEMBER_BYTES)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _decode(part: str, pictures: Iterator[tuple[str, bytes]]) -> ClassImages:
    """The drawings inverted, because the files have black ink on white."""
    import numpy as np

    names, counts, images = [], [], []
    for character, drawings in groupby(pictures, key=lambda item: item[0].rpartition("/")[0]):
        decoded = [255 - read_picture(content, name, "L", 28) for name, content in drawings]
        names.append(f"{part}/{character}")
        counts.append(len(decoded))
        images += decoded
    if not images:
        raise InputError(f"images_{part} holds no alphabet/character/*.png; get it anew")
    return ClassImages(np.stack(images), tuple(counts), tuple(names))


def _split_of(kind: str, name: str) -> str:
    """The split to which ``part/alphabet/character`` belongs."""
    part, alphabet, character = (*name.split("/"), "", "")[:3]
    if kind == "original":
        return "test" if part == "evaluation" else "validation" if alphabet in VALIDATION else "train"
    number = int(digits) if (digits := character.removeprefix("character")).isdecimal() else 0
    selected = published("omniglot_vinyals")
    for split in SPLITS:
        low, high = selected[split].get(f"{part}/{alphabet}", (1, 0))
        if low <= number <= high:
            return split
    return "none"
