"""FC100: the classes of CIFAR-100, split by superclass (Oreshkin, Rodriguez and Lacoste 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.datasets import cifar100
from harness.datasets.class_images import ClassImages, Identity
from harness.datasets.images import ImageBenchmark
from harness.datasets.pickles import read_pickle, whole_numbers
from harness.datasets.splits import published
from harness.errors import InputError
from harness.problem.benchmark import SPLITS

PICKLES = {"train": "FC100_train.pickle", "validation": "FC100_val.pickle", "test": "FC100_test.pickle"}


class FC100(ImageBenchmark):
    """60 / 20 / 20 classes of 12 / 4 / 4 superclasses, 600 colour images of 32 x 32 each.

    Reads torchvision's ``cifar-100-python/``, or ``FC100_{train,val,test}.pickle`` where that is absent.
    """

    name = "fc100"
    summary = "FC100: 100 classes of CIFAR-100 split by superclass, 32x32 colour"
    shape = (3, 32, 32)
    classes = {"train": 60, "validation": 20, "test": 20}

    def sources(self) -> list[Path] | None:
        """See :meth:`ImageBenchmark.sources`."""
        return cifar100.files(self.root) or list((self._pickles() or {}).values()) or None

    def content_faults(self, known: Mapping[str, Identity]) -> list[str]:
        """See :meth:`ImageBenchmark.content_faults`; pickles may number classes as they like."""
        split_of = {superclass: split for split in SPLITS for superclass in published("fc100")[split]}
        homes = {name: split_of[of] for of, classes in published("cifar100").items() for name in classes}
        return cifar100.content_faults(known, homes)

    def images_per_class(self, split: str) -> int:
        """See :meth:`ImageBenchmark.images_per_class`."""
        return 600

    def missing(self) -> str | None:
        """See :meth:`ImageBenchmark.missing`."""
        if cifar100.folder(self.root) is not None or self._pickles() is not None:
            return None
        return (
            f"fc100 finds neither {cifar100.FOLDER}/ nor {', '.join(PICKLES.values())} in {self.root}: "
            "run 'harness data prepare fc100', or set HARNESS_DATA to the folder that holds them"
        )

    def prepare(self) -> str:
        """See :meth:`ImageBenchmark.prepare`."""
        if self.missing() is not None:
            cifar100.fetch(self.root)
        return super().prepare()

    def load_split(self, split: str) -> ClassImages:
        """See :meth:`ImageBenchmark.load_split`."""
        if (folder := cifar100.folder(self.root)) is not None:
            superclasses = published("fc100")[split]
            return cifar100.read_classes(folder, lambda _, superclass: superclass in superclasses)
        if (pickles := self._pickles()) is not None:
            return _read_pickle(pickles[split])
        raise InputError(self.missing() or "fc100 is missing")

    def _pickles(self) -> dict[str, Path] | None:
        for folder in (self.root / "FC100", self.root / "fc100", self.root):
            paths = {split: folder / name for split, name in PICKLES.items()}
            if all(path.is_file() for path in paths.values()):
                return paths
        return None


def _read_pickle(path: Path) -> ClassImages:
    """One split from a dictionary of ``data`` ``[n, 32, 32, 3]`` and ``labels`` ``[n]``."""
    import numpy as np

    content = read_pickle(path)
    try:
        images, labels = np.asarray(content["data"]), whole_numbers(content["labels"])
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{path} is no FC100 file: {type(error).__name__}: {error}") from error
    if images.dtype != np.uint8 or images.shape != (labels.size, 32, 32, 3) or labels.ndim != 1:
        raise InputError(f"{path} is no FC100 file: expected uint8 data [n, 32, 32, 3] and labels [n]")
    names, classes = np.unique(labels), []
    for label in names:
        rows = images[labels == label].transpose(0, 3, 1, 2)
        classes.append(rows[cifar100.by_content(rows)])
    joined = np.concatenate(classes) if classes else np.empty((0, 3, 32, 32), np.uint8)
    return ClassImages(joined, tuple(map(len, classes)), tuple(f"label {label}" for label in names))
