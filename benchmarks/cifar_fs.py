"""CIFAR-FS: the classes of CIFAR-100, split at random (Bertinetto, Henriques, Torr and Vedaldi 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.datasets import cifar100
from harness.datasets.class_images import ClassImages, Identity
from harness.datasets.images import ImageBenchmark
from harness.datasets.splits import published
from harness.errors import InputError
from harness.problem.benchmark import SPLITS


class CIFARFS(ImageBenchmark):
    """64 / 16 / 20 classes, 600 colour images of 32 x 32 each; reads torchvision's ``cifar-100-python/``."""

    name = "cifar_fs"
    summary = "CIFAR-FS: 100 classes of CIFAR-100 split at random, 32x32 colour"
    shape = (3, 32, 32)
    classes = {"train": 64, "validation": 16, "test": 20}

    def sources(self) -> list[Path] | None:
        """See :meth:`ImageBenchmark.sources`."""
        return cifar100.files(self.root)

    def class_names(self, split: str) -> list[str]:
        """See :meth:`ImageBenchmark.class_names`."""
        return published("cifar_fs")[split]  # type: ignore[no-any-return]

    def content_faults(self, known: Mapping[str, Identity]) -> list[str]:
        """See :meth:`ImageBenchmark.content_faults`."""
        return cifar100.content_faults(known, {name: split for split in SPLITS for name in self.class_names(split)})

    def images_per_class(self, split: str) -> int:
        """See :meth:`ImageBenchmark.images_per_class`."""
        return 600

    def missing(self) -> str | None:
        """See :meth:`ImageBenchmark.missing`."""
        if cifar100.folder(self.root) is not None:
            return None
        return (
            f"cifar_fs finds no {cifar100.FOLDER}/ in {self.root}: run 'harness data prepare cifar_fs', "
            "or set HARNESS_DATA to the folder that holds it"
        )

    def prepare(self) -> str:
        """See :meth:`ImageBenchmark.prepare`."""
        if self.missing() is not None:
            cifar100.fetch(self.root)
        return super().prepare()

    def load_split(self, split: str) -> ClassImages:
        """See :meth:`ImageBenchmark.load_split`."""
        if (folder := cifar100.folder(self.root)) is None:
            raise InputError(self.missing() or "cifar_fs is missing")
        names = frozenset(published("cifar_fs")[split])
        return cifar100.read_classes(folder, lambda name, _: name in names)
