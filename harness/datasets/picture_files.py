"""Image benchmarks whose pictures are files: a subclass says which files each class has."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from harness.datasets.class_images import ClassImages
from harness.datasets.folders import Files
from harness.datasets.images import ImageBenchmark
from harness.datasets.pictures import read_picture
from harness.datasets.store import stamp, stored
from harness.errors import InputError
from harness.problem.benchmark import SPLITS


class PictureFiles(ImageBenchmark):
    """Square pictures, JPEG or PNG, resized by Lanczos with antialiasing; grey where ``shape`` has one channel."""

    @abstractmethod
    def files(self, split: str) -> Files:
        """Classes of ``split`` by name and the files of each; raises :class:`InputError`."""

    def tables(self) -> list[Path]:
        """The files that say which class a picture is of."""
        return []

    def sources(self) -> Sequence[Path] | None:
        """See :meth:`ImageBenchmark.sources`."""
        return self.tables() + [path for split in SPLITS for paths in self.files(split).values() for path in paths]

    def load_split(self, split: str) -> ClassImages:
        """See :meth:`ImageBenchmark.load_split`; what was decoded is kept beside the data sets."""
        files = self.files(split)
        every = [path for paths in files.values() for path in paths]
        if not every:
            raise InputError(f"the {split} split of {self.name} has no class with pictures; allowed: at least 2")
        mark = stamp(every, self.shape, *((label, len(paths)) for label, paths in files.items()))
        if mark is None:
            absent = [path for path in every if not path.is_file()]
            raise InputError(f"{(absent or every)[0]} is not there, and the {split} split of {self.name} names it")
        name = f"{self.name}-{self.shape[-1]}/{split}-{mark}.bin"
        return stored(self.root, name, lambda: self._decoded(files), self.renew)

    def _decoded(self, files: Files) -> ClassImages:
        import numpy as np

        channels, _, size = self.shape
        images = np.empty((sum(map(len, files.values())), *self.shape), np.uint8)
        for number, path in enumerate(path for paths in files.values() for path in paths):
            images[number] = read_picture(path, str(path), "RGB" if channels == 3 else "L", size)
        return ClassImages(images, tuple(map(len, files.values())), tuple(files))
