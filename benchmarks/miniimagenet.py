"""miniImageNet: 100 classes of ImageNet in the split of Ravi and Larochelle 2017."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

from harness.datasets.pickles import read_pickle
from harness.datasets.pictures import read_picture
from harness.datasets.splits import published
from harness.datasets.store import stored
from harness.errors import InputError
from harness.foreign import open_plain
from harness.problem.benchmark import SPLITS
from harness.problem.images import ClassImages, ImageBenchmark

_MOST_BYTES, _MOST_IMAGES = 1 << 24, 60_000  # as many as there are in all splits together
SHORT = {"train": "train", "validation": "val", "test": "test"}


class MiniImageNet(ImageBenchmark):
    """64 / 16 / 20 classes, 600 colour images each, resized to 84 x 84 by Lanczos with antialiasing.

    Reads, in ``miniimagenet/`` or the data directory itself, either ``images/*.jpg`` with ``train.csv``, ``val.csv``
    and ``test.csv`` beside it (without them the WordNet id that begins each file name tells the class), or
    ``mini-imagenet-cache-{train,val,test}.pkl``. It may not be redistributed, so there is no download.
    """

    name = "miniimagenet"
    summary = "miniImageNet: 100 classes of ImageNet, 84x84 colour"
    shape = (3, 84, 84)
    classes = {"train": 64, "validation": 16, "test": 20}

    @property
    def data_version(self) -> str:
        """The pickles were resized by somebody else, so their pixels differ from the folder's."""
        return "miniimagenet-1 pickles" if self._pickles() is not None else "miniimagenet-1"

    def images_per_class(self, split: str) -> int:
        """See :meth:`ImageBenchmark.images_per_class`."""
        return 600

    def missing(self) -> str | None:
        """See :meth:`ImageBenchmark.missing`."""
        if self._pickles() is not None or self._images() is not None:
            return None
        return (
            f"miniimagenet finds no images/*.jpg (with train.csv, val.csv, test.csv) and no mini-imagenet-cache-"
            f"{{train,val,test}}.pkl in {self.root / 'miniimagenet'}: put either there; it cannot be downloaded"
        )

    def load_split(self, split: str) -> ClassImages:
        """See :meth:`ImageBenchmark.load_split`."""
        if (pickles := self._pickles()) is not None:
            return _read_pickle(pickles[split])
        if (folder := self._images()) is None:
            raise InputError(self.missing() or "miniimagenet is missing")
        files = _listed(folder, split)
        sha = hashlib.sha256()
        for label, paths in files.items():
            for path in paths:
                sha.update(f"{label} {path.name} {path.stat().st_size if path.is_file() else None}\n".encode())
        return stored(self.root, f"miniimagenet-84/{split}-{sha.hexdigest()[:16]}.bin", lambda: _decode(files))

    def _folders(self) -> tuple[Path, ...]:
        return (self.root / "miniimagenet", self.root / "mini-imagenet", self.root)

    def _pickles(self) -> dict[str, Path] | None:
        for folder in self._folders():
            paths = {split: folder / f"mini-imagenet-cache-{SHORT[split]}.pkl" for split in SPLITS}
            if all(path.is_file() for path in paths.values()):
                return paths
        return None

    def _images(self) -> Path | None:
        """The folder in which ``images/`` lies."""
        return next((f for f in self._folders() if next((f / "images").glob("n*.jpg"), None) is not None), None)


def _listed(folder: Path, split: str) -> dict[str, list[Path]]:
    """Classes by name and the files of each: as the CSV lists them, or by the beginnings of their names."""
    table = folder / f"{SHORT[split]}.csv"
    files: dict[str, list[Path]] = {}
    if not table.is_file():
        for label in sorted(published("miniimagenet")[split]):
            files[label] = sorted((folder / "images").glob(f"{label}*.jpg"))
        return {label: paths for label, paths in files.items() if paths}
    try:
        with io.TextIOWrapper(open_plain(table, _MOST_BYTES), encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.DictReader(file)):
                if number == _MOST_IMAGES:
                    raise InputError(f"{table} is refused: it names more than {_MOST_IMAGES} images")
                name, label = row["filename"], row["label"]
                if not name or not label:
                    raise ValueError(f"line {number + 2} has no file or no label")
                if Path(name).name != name or "\\" in name:
                    raise InputError(f"{table} is refused: {name!r} is no plain file name")
                files.setdefault(label, []).append(folder / "images" / name)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(f"{table} cannot be read: {type(error).__name__}: {error}; columns: filename,label") from error
    return {label: sorted(files[label]) for label in sorted(files)}


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
        rows = {str(name): np.asarray(classes[name], dtype=np.int64) for name in sorted(classes)}
        good = images.dtype == np.uint8 and images.shape[1:] == (84, 84, 3) and bool(rows)
        good = good and all(r.ndim == 1 and r.size and r.min() >= 0 and r.max() < len(images) for r in rows.values())
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"{path} is no miniImageNet file: {type(error).__name__}: {error}") from error
    if not good:
        raise InputError(
            f"{path} is no miniImageNet file: expected uint8 image_data [n, 84, 84, 3] and class_dict of rows"
        )
    chosen = images[np.concatenate(list(rows.values()))].transpose(0, 3, 1, 2)
    return ClassImages(np.ascontiguousarray(chosen), tuple(map(len, rows.values())), tuple(rows))
