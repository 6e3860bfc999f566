"""miniImageNet: 100 classes of ImageNet in the split of Ravi and Larochelle 2017."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.datasets.class_images import ClassImages, Identity
from harness.datasets.folders import (
    SHORT,
    Files,
    class_folders,
    images_of,
    is_picture,
    listed,
    pictures_in,
    split_folders,
    tables_in,
)
from harness.datasets.pickles import read_pickle, whole_numbers
from harness.datasets.picture_files import PictureFiles
from harness.datasets.splits import published
from harness.errors import InputError
from harness.problem.benchmark import SPLITS

_ID = len("n01532829")


class MiniImageNet(PictureFiles):
    """64 / 16 / 20 classes, 600 colour images each, resized to 84 x 84 by Lanczos with antialiasing.

    Reads, in ``miniimagenet/`` or the data directory itself, ``mini-imagenet-cache-{train,val,test}.pkl``, or else
    ``images/`` with ``train.csv``, ``val.csv`` and ``test.csv`` beside it (without them the WordNet id that begins each
    file's name, or is its folder's, tells the class), or else ``train/``, ``val/`` and ``test/``, a folder a class.
    In ``miniimagenet/`` pictures need no ``images/``. It may not be redistributed, so there is no download.
    """

    name = "miniimagenet"
    summary = "miniImageNet: 100 classes of ImageNet, 84x84 colour"
    shape = (3, 84, 84)
    classes = {"train": 64, "validation": 16, "test": 20}

    def sources(self) -> list[Path] | None:
        """See :meth:`ImageBenchmark.sources`."""
        if (pickles := self._pickles()) is not None:
            return list(pickles.values())
        return super().sources() if self._images() is not None else None

    def tables(self) -> list[Path]:
        """See :meth:`PictureFiles.tables`."""
        folder = self._images()
        return [] if folder is None else [*tables_in(folder).values()]

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
            for label, paths in self.files(split).items()
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
        return super().load_split(split)

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

    def files(self, split: str) -> Files:
        """See :meth:`PictureFiles.files`."""
        if (folder := self._images()) is None:
            raise InputError(self.missing() or "miniimagenet is missing")
        return _listed(folder, split)


def _holds(folder: Path, named: bool) -> bool:
    """Whether pictures lie in ``folder`` in a way that :func:`_listed` knows; ``named``: as the data set is called."""
    inside = folder / "images"
    if any(is_picture(path.name) or path.is_dir() for path in inside.glob("n*")):
        return True
    if (named or inside.is_dir()) and tables_in(folder):
        return True
    if (train := split_folders(folder).get("train")) is not None:
        return named or any(path.is_dir() for path in train.glob("n*"))
    return named and any(is_picture(path.name) or path.is_dir() for path in folder.glob("n*"))


def _listed(folder: Path, split: str) -> Files:
    """Classes by name and the files of each: as the CSV lists them, as their ids say, or by folder of the split."""
    by_split = not (folder / "images").is_dir() and "train" in split_folders(folder)
    if by_split or split in tables_in(folder):
        return listed(folder, split) or {}
    images = images_of(folder)
    files: Files = {label: [] for label in sorted(published("miniimagenet")[split])}
    for label, paths in class_folders(images, strays=True).items():
        files.get(label, []).extend(paths)
    for path in pictures_in(images):
        files.get(path.name[:_ID], []).append(path)
    return {label: paths for label, paths in files.items() if paths}


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
