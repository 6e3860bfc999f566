"""Pictures in folders and the tables that say which class each is of; what an operating system puts there is not."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

from harness.datasets import warn_once
from harness.datasets.tables import csv_text
from harness.errors import InputError
from harness.problem.benchmark import SPLITS

SUFFIXES = (".jpg", ".jpeg", ".png")
# Pictures that are not read, so that a folder of them is not taken for one without pictures.
_OTHER = (".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".heic", ".avif")
_MOST_BYTES, _MOST_ROWS = 1 << 24, 60_000  # as many as miniImageNet has in all splits together
#: what the tables of the splits are called
SHORT = {"train": "train", "validation": "val", "test": "test"}
#: what people call the splits
SPLIT_NAMES = {"train": ("train",), "validation": ("val", "validation", "valid"), "test": ("test",)}

Files = dict[str, list[Path]]


def is_picture(name: str, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
    """Whether a file's name is one that a picture has, and not one that macOS gives to what it stores beside it."""
    return name.lower().endswith(suffixes) and not hidden(name)


def hidden(name: str) -> bool:
    """Whether a file or folder belongs to the operating system, as ``._a.jpg``, ``.DS_Store`` and ``__MACOSX``."""
    return name.startswith(".") or name == "__MACOSX"


def pictures_in(folder: Path) -> list[Path]:
    """The pictures that lie in ``folder`` itself, by name; raises :class:`InputError` for those that nobody reads."""
    return [folder / name for name in _look(folder)[0]]


def class_folders(folder: Path, strays: bool = False) -> Files:
    """The pictures in each folder in ``folder``, by its name; one without pictures is a class that has none.

    Pictures that lie beside these folders are of no class: refused, unless the caller looks for ``strays`` itself.
    """
    pictures, folders = _look(folder)
    if pictures and not strays:
        raise InputError(f"{folder / pictures[0]} is of no class; allowed: a folder for each class")
    return {name: pictures_in(folder / name) for name in folders}


def split_folders(folder: Path) -> dict[str, Path]:
    """The folders of the splits in ``folder``: ``train``, ``val``, ``test``, in capitals too, with folders in them."""
    there = {name.lower(): folder / name for name in _look(folder)[1]}
    found = {split: [there[name] for name in SPLIT_NAMES[split] if name in there] for split in SPLITS}
    # Without folders in it, it is a class of that name.
    return {split: paths[0] for split, paths in found.items() if paths and _look(paths[0])[1]}


def images_of(folder: Path) -> Path:
    """Where pictures lie that no split has a folder for: in ``images/``, or else in ``folder`` itself."""
    return inside if (inside := folder / "images").is_dir() else folder


def tables_in(folder: Path) -> dict[str, Path]:
    """``train.csv``, ``val.csv`` and ``test.csv``, those that there are, by their splits."""
    paths = {split: folder / f"{SHORT[split]}.csv" for split in SPLITS}
    return {split: path for split, path in paths.items() if path.is_file()}


def listed(folder: Path, split: str) -> Files | None:
    """Classes by name and the files of each, as the table of ``split`` says or its folder; None: it has neither."""
    if (table := tables_in(folder).get(split)) is not None:
        return read_table(table, images_of(folder))
    inside = split_folders(folder).get(split)
    return None if inside is None else class_folders(inside)


def _look(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the pictures and of the folders in ``folder``, each in order."""
    pictures, folders = [], []
    with os.scandir(folder) if folder.is_dir() else nullcontext(()) as entries:
        for entry in entries:
            if is_picture(entry.name):
                pictures.append(entry.name)
            elif not hidden(entry.name) and entry.is_dir():
                folders.append(entry.name)
            elif is_picture(entry.name, _OTHER):
                raise InputError(f"{entry.path} is not read; allowed: {', '.join(SUFFIXES)}, in capitals too")
    return sorted(pictures), sorted(folders)


def read_table(table: Path, images: Path) -> Files:
    """Classes by name and the pictures of each: columns ``filename`` and ``label`` of a CSV, among others.

    A picture lies in ``images`` or in the folder of its class there; where it has another of :data:`SUFFIXES` than the
    table says, it is found all the same. One that is listed again is counted once, and under a second label refused.
    Raises :class:`InputError`. Whether a picture is there is not asked.
    """
    outside, inside = _look(images)
    there = {"": set(outside), **{name: set(_look(images / name)[0]) for name in inside}}
    labels: dict[str, str] = {}
    rows = 0
    for line, name, label in _rows(table):
        above, _, file = name.rpartition("/")
        if hidden(file):
            continue
        folders = ("", label) if above in ("", images.name) else (above,)
        found = next((folder for folder in folders if file in there.get(folder, ())), None)
        path = f"{found}/{file}".lstrip("/") if found is not None else _otherwise(there, folders, file) or name
        if labels.setdefault(path, label) != label:
            raise InputError(f"{table} is refused: line {line} calls {name} {label!r}, a line before {labels[path]!r}")
        rows += 1
    if not rows:
        raise InputError(f"{table} names no images; columns: filename,label")
    if rows > len(labels):
        warn_once(f"{table} names {rows - len(labels)} images again; each is counted once")
    files: Files = {}
    for name in sorted(labels):
        files.setdefault(labels[name], []).append(images / name)
    return {label: files[label] for label in sorted(files)}


def _otherwise(there: Mapping[str, Collection[str]], folders: Iterable[str], file: str) -> str | None:
    """The one picture with the name of ``file`` and another suffix."""
    stem = file.rpartition(".")[0] or file
    for folder in folders:
        ends = [end for suffix in SUFFIXES for end in (suffix, suffix.upper(), "." + suffix[1:].title())]
        found = [stem + end for end in ends if stem + end in there.get(folder, ())]
        if len(found) == 1:
            return f"{folder}/{found[0]}".lstrip("/")
    return None


def _rows(table: Path) -> Iterator[tuple[int, str, str]]:
    """Line, file and label of each row, without the spaces around them."""
    try:
        reader = csv.DictReader(csv_text(table, _MOST_BYTES), skipinitialspace=True)
        reader.fieldnames = columns = [name.strip().lower() for name in reader.fieldnames or ()]
        if missing := [name for name in ("filename", "label") if name not in columns]:
            raise ValueError(f"it has no column {missing[0]!r}")
        for number, row in enumerate(reader):
            if number == _MOST_ROWS:
                raise InputError(f"{table} is refused: it names more than {_MOST_ROWS} images")
            name, label = ((row[column] or "").strip().removeprefix("./") for column in ("filename", "label"))
            if not name or not label or not (name + label).isprintable():
                raise ValueError(f"line {reader.line_num} has no file or no label that can be printed")
            if name.count("/") > 1 or name.startswith("/") or ".." in name.split("/") or "\\" in name:
                raise InputError(f"{table} is refused: {name!r} is no plain file name")
            yield reader.line_num, name, label
    except (OSError, ValueError, TypeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(f"{table} cannot be read: {reason}; columns: filename,label") from error
