"""miniImageNet: 100 classes of ImageNet in the split of Ravi and Larochelle 2017."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.datasets.class_images import ClassImages, Identity
from harness.datasets.folders import class_folders, hidden, is_picture, pictures_in, read_table
from harness.datasets.images import ImageBenchmark
from harness.datasets.pickles import read_pickle, whole_numbers
from harness.datasets.pictures import read_picture
from harness.datasets.splits import published
from harness.datasets.store import stamp, stored
from harness.errors import InputError
from harness.problem.benchmark import SPLITS

SHORT = {"train": "train", "validation": "val", "test": "test"}
_ID = len("n01532829")

Files = dict[str, list[Path]]


class MiniImageNet(ImageBenchmark):
    """64 / 16 / 20 classes, 600 colour images each, resized to 84 x 84 by Lanczos with antialiasing.

    Reads, in ``miniimagenet/`` or the data directory itself, ``mini-imagenet-cache-{train,val,test}.pkl``, or else
    ``images/`` with ``train.csv``, ``val.csv`` and ``test.csv`` beside it (without them the WordNet id that begins each
    file's name, or is its folder's, tells the class), or else ``train/``, ``val/`` and ``test/``, a folder a class.
    Pictures are JPEG or PNG. miniImageNet may not be redistributed, so there is no download.
    """

    name = "miniimagenet"
    summary = "miniImageNet: 100 classes of ImageNet, 84x84 colour"
    shape = (3, 84, 84)
    classes = {"train": 64, "validation": 16, "test": 20}

    def sources(self) -> list[Path] | None:
        """See :meth:`ImageBenchmark.sources`."""
        if (pickles := self._pickles()) is not None:
            return list(pickles.values())
        if (folder := self._images()) is None:
            return None
        tables = [table for split in SPLITS if (table := folder / f"{SHORT[split]}.csv").is_file()]
        return tables + [path for split in SPLITS for paths in self._files(split).values() for path in paths]

    def images_per_class(self, split: str) -> int:
        """See :meth:`ImageBenchmark.images_per_class`."""
        return 600

    def class_names(self, split: str) -> list[str]:
        """See :meth:`ImageBenchmark.class_names`."""
        return published("miniimagenet")[split]  # type: ignore[no-any-return]

    def content_faults(self, known: Mapping[str, Identity]) -> list[str]:
        """See :meth:`ImageBenchmark.content_faults`: pictures whose names begin with the id of another class."""
        if self._pickles() is not None:
            return []
        ids = {name for split in SPLITS for name in self.class_names(split)}
        others = {
            (split, label, path.name[:_ID])
            for split in SPLITS
            for label, paths in self._files(split).items()
            for path in paths
            if path.name[:_ID] in ids and path.name[:_ID] != label
        }
        return [f"{split}: class {label!r} holds pictures of {other!r}" for split, label, other in sorted(others)]

    def missing(self) -> str | None:
        """See :meth:`ImageBenchmark.missing`."""
        if self._pickles() is not None or self._images() is not None:
            return None
        return (
            f"miniimagenet finds no images/*.jpg (with train.csv, val.csv, test.csv), no train/CLASS/*.jpg and no "
            f"mini-imagenet-cache-{{train,val,test}}.pkl in {self.root / 'miniimagenet'}: "
            "put one of them there; it cannot be downloaded"
        )

    def load_split(self, split: str) -> ClassImages:
        """See :meth:`ImageBenchmark.load_split`."""
        if (pickles := self._pickles()) is not None:
            return _read_pickle(pickles[split])
        files = self._files(split)
        every = [path for paths in files.values() for path in paths]
        if (mark := stamp(every, *((label, len(paths)) for label, paths in files.items()))) is None:
            absent = [path for path in every if not path.is_file()]
            raise InputError(f"{(absent or every)[0]} is not there, and the {split} split of miniimagenet names it")
        return stored(self.root, f"miniimagenet-84/{split}-{mark}.bin", lambda: _decode(files), self.renew)

    def _folders(self) -> tuple[Path, ...]:
        return (self.root / "miniimagenet", self.root / "mini-imagenet", self.root)

    def _pickles(self) -> dict[str, Path] | None:
        for folder in self._folders():
            paths = {split: folder / f"mini-imagenet-cache-{SHORT[split]}.pkl" for split in SPLITS}
            if all(path.is_file() for path in paths.values()):
                return paths
        return None

    def _images(self) -> Path | None:
        """The folder in which ``images/``, or ``train/`` with a folder a class, lies."""
        return next((folder for folder in self._folders() if _holds(folder, named=folder != self.root)), None)

    def _files(self, split: str) -> Files:
        """Classes by name and the files of each."""
        if (folder := self._images()) is None:
            raise InputError(self.missing() or "miniimagenet is missing")
        return _listed(folder, split)


def _holds(folder: Path, named: bool) -> bool:
    """Whether pictures lie in ``folder`` in a way that :func:`_listed` knows; ``named``: as the data set is called."""
    inside = folder / "images"
    if any(is_picture(path.name) or path.is_dir() for path in inside.glob("n*")):
        return True
    if inside.is_dir() and any((folder / f"{short}.csv").is_file() for short in SHORT.values()):
        return True
    return any(path.is_dir() and not hidden(path.name) for path in (folder / "train").glob("*" if named else "n*"))


def _listed(folder: Path, split: str) -> Files:
    """Classes by name and the files of each: as the CSV lists them, as their ids say, or by folder of the split."""
    images, table = folder / "images", folder / f"{SHORT[split]}.csv"
    if table.is_file():
        return read_table(table, images)
    if not images.is_dir():
        return class_folders(next((f for f in (folder / SHORT[split], folder / split) if f.is_dir()), folder / split))
    files: Files = {label: [] for label in sorted(published("miniimagenet")[split])}
    for label, paths in class_folders(images).items():
        files.get(label, []).extend(paths)
    for path in pictures_in(images):
        files.get(path.name[:_ID], []).append(path)
    return {label: paths for label, paths in files.items() if paths}


def _decode(files: dict[str, list[Path]]) -> ClassImages:
    import numpy as np

    images = np.empty((sum(map(len, files.values())), 3, 84, 84), np.uint8)
    for number, path in enumerate(path for paths in files.values() for path in paths):
        images[number] = read_picture(path, str(path), "RGB", 84)
    return ClassImages(images, tuple(map(len, files.values())), tuple(files))


def _read_pickle(path: Path) -> ClassImages:
    """One split from a dictionary of ``image_data`` ``[n, 84, 84, 3]`` and ``class_dict`` (label to rows)."""
    import numpy as np

    content = read_pickle(path)
    try:
        images, classes = content["image_data"], content["class_dict"]
        # a picture that is listed again is one picture
        listed = {str(name): dict.fromkeys(whole_numbers(classes[name]).tolist()) for name in sorted(classes)}
        rows = {name: np.array([*numbers], np.int64) for name, numbers in listed.items()}
        good = images.dtype == np.uint8 and images.shape[1:] == (84, 84, 3) and bool(rows)
        good = good and all(r.ndim == 1 and r.size and r.min() >= 0 and r.max() < len(images) for r in rows.values())
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"{path} is no miniImageNet file: {type(error).__name__}: {error}") from error
    if not good:
        raise InputError(
            f"{path} is no miniImageNet file: expected uint8 image_data [n, 84, 84, 3] and class_dict of rows"
        )
    every = np.concatenate(list(rows.values()))
    if len(np.unique(every)) < len(every):
        raise InputError(f"{path} is no miniImageNet file: its class_dict has an image in two classes")
    chosen = images[every].transpose(0, 3, 1, 2)
    return ClassImages(np.ascontiguousarray(chosen), tuple(map(len, rows.values())), tuple(rows))
