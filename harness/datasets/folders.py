"""Pictures in folders and the tables that say which class each is of; what an operating system puts there is not."""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePath

from harness.datasets import warn_once
from harness.errors import InputError
from harness.foreign import read_plain

SUFFIXES = (".jpg", ".jpeg", ".png")
# Pictures that are not read, so that a folder of them is not taken for one without pictures.
_OTHER = (".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".heic", ".avif")
_MOST_BYTES, _MOST_ROWS = 1 << 24, 60_000  # as many as miniImageNet has in all splits together


def is_picture(path: PurePath, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
    """Whether a name is one that a picture has, and not one that macOS gives to what it stores beside it."""
    return path.suffix.lower() in suffixes and not any(hidden(part) for part in path.parts)


def hidden(name: str) -> bool:
    """Whether a file or folder belongs to the operating system, as ``._a.jpg``, ``.DS_Store`` and ``__MACOSX``."""
    return name.startswith(".") or name == "__MACOSX"


def pictures_in(folder: Path) -> list[Path]:
    """The pictures that lie in ``folder`` itself, by name; raises :class:`InputError` for those that nobody reads."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if is_picture(PurePath(path.name)):
            found.append(path)
        elif path.suffix.lower() in _OTHER and not hidden(path.name):
            raise InputError(f"{path} is not read; allowed: {', '.join(SUFFIXES)}, in capitals too")
    return found


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """The pictures in each folder in ``folder``, by its name; one without pictures is a class that has none."""
    inside = sorted(folder.iterdir()) if folder.is_dir() else ()
    return {path.name: pictures_in(path) for path in inside if path.is_dir() and not hidden(path.name)}


def read_table(table: Path, images: Path) -> dict[str, list[Path]]:
    """Classes by name and the pictures of each: columns ``filename`` and ``label`` of a CSV, among others.

    A picture lies in ``images`` or in the folder of its class there; where it has another of :data:`SUFFIXES` than the
    table says, it is found all the same. One that is listed again is counted once, and under a second label refused.
    Raises :class:`InputError`. Whether a picture is there is not asked.
    """
    there = _by_name(images)
    labels: dict[Path, str] = {}
    rows = 0
    for line, name, label in _rows(table):
        where, file = PurePath(name).parent.name, PurePath(name).name
        if hidden(file):
            continue
        folders = ("", label) if where in ("", images.name) else (where,)
        wanted = ((folder, key) for key in (file, PurePath(file).stem) for folder in folders)
        found = next((there[key] for key in wanted if key in there), images / name)
        if labels.setdefault(found, label) != label:
            raise InputError(f"{table} is refused: line {line} calls {name} {label!r}, a line before {labels[found]!r}")
        rows += 1
    if not rows:
        raise InputError(f"{table} names no images; columns: filename,label")
    if rows > len(labels):
        warn_once(f"{table} names {rows - len(labels)} images again; each is counted once")
    files: dict[str, list[Path]] = {}
    for path, label in labels.items():
        files.setdefault(label, []).append(path)
    return {label: sorted(files[label]) for label in sorted(files)}


def _by_name(images: Path) -> dict[tuple[str, str], Path]:
    """Pictures by folder and name, and by folder and name without its end where only one has that."""
    found: dict[tuple[str, str], Path] = {}
    for folder, paths in {"": pictures_in(images), **class_folders(images)}.items():
        stems = Counter(path.stem for path in paths)
        found |= {(folder, path.stem): path for path in paths if stems[path.stem] == 1}
        found |= {(folder, path.name): path for path in paths}
    return found


def _rows(table: Path) -> Iterator[tuple[int, str, str]]:
    """Line, file and label of each row, without the spaces around them."""
    try:
        content = read_plain(table, _MOST_BYTES)
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = io.StringIO(content.decode("utf-16" if wide else "utf-8-sig"), newline="")
        reader = csv.DictReader(text, skipinitialspace=True)
        reader.fieldnames = columns = [name.strip().lower() for name in reader.fieldnames or ()]
        if missing := [name for name in ("filename", "label") if name not in columns]:
            raise ValueError(f"it has no column {missing[0]!r}")
        for number, row in enumerate(reader):
            if number == _MOST_ROWS:
                raise InputError(f"{table} is refused: it names more than {_MOST_ROWS} images")
            name, label = ((row[column] or "").strip() for column in ("filename", "label"))
            if not name or not label or not (name + label).isprintable():
                raise ValueError(f"line {reader.line_num} has no file or no label that can be printed")
            if len(PurePath(name).parts) > 2 or ".." in name or "\\" in name or PurePath(name).is_absolute():
                raise InputError(f"{table} is refused: {name!r} is no plain file name")
            yield reader.line_num, name, label
    except (OSError, ValueError, TypeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(f"{table} cannot be read: {reason}; columns: filename,label") from error
