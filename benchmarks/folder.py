"""Your own pictures, as they lie in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from harness.datasets import warn_once
from harness.datasets.folders import Files, class_folders, images_of, listed, tables_in
from harness.datasets.options import AbsolutePath, HeldOut, ImageOptions
from harness.datasets.picture_files import PictureFiles
from harness.errors import InputError
from harness.problem.benchmark import SPLITS


class FolderOptions(ImageOptions, HeldOut):
    """Where the pictures are, what becomes of them, and which classes are held out where nothing says so."""

    path: AbsolutePath = Field("", description="folder with train/, val/, test/, with tables, or with classes")
    size: int = Field(84, ge=8, le=1024, description="height and width that pictures are resized to")
    grey: bool = Field(False, description="one channel instead of three")


class Folder(PictureFiles):
    """Pictures of classes: ``train/``, ``val/``, ``test/`` with a folder a class, or tables that name them, or classes.

    A split that has neither a folder nor a table takes its classes from those that train, by ``split_seed``.
    """

    name = "folder"
    summary = "pictures of your own, a folder for each class"
    places = ("path",)
    numbered = False
    Options = FolderOptions

    def __init__(self, options: Any = None, root: Path | None = None) -> None:
        super().__init__(options, root)
        self.shape = (1 if self.options.grey else 3, self.options.size, self.options.size)

    def missing(self) -> str | None:
        """See :meth:`ImageBenchmark.missing`."""
        if not self.options.path:
            return "folder is not told where it is: --benchmark-options '{path: FOLDER}'"
        there = Path(self.options.path).is_dir()
        return None if there else f"folder: {self.options.path} is no folder; allowed: one with pictures of classes"

    def check(self, ways: int, shots: int, queries: int) -> None:
        """See :meth:`ImageBenchmark.check`; a split that is made here is told."""
        super().check(ways, shots, queries)
        if made := self._made():
            numbers = ", ".join(f"{split} {len(known.names)}" for split, known in self.identities().items())
            warn_once(
                f"{self.options.path} says nothing of {' and '.join(made)}: classes are split by split_seed "
                f"{self.options.split_seed} ({numbers})"
            )

    def tables(self) -> list[Path]:
        """See :meth:`PictureFiles.tables`."""
        return [*tables_in(Path(self.options.path)).values()]

    def files(self, split: str) -> Files:
        """See :meth:`PictureFiles.files`."""
        folder = Path(self.options.path)
        if split not in (made := self._made()) and split != "train":
            return listed(folder, split) or {}
        if (train := listed(folder, "train")) is None:
            train = class_folders(images_of(folder))
        names = self.options.split_of(train, made)[split]
        return {name: paths for name, paths in train.items() if name in names}

    def _made(self) -> list[str]:
        """The splits that nothing on the disk tells apart."""
        folder = Path(self.options.path)
        made = [split for split in SPLITS if listed(folder, split) is None]
        if "train" not in made:
            return made
        if len(made) < len(SPLITS):
            raise InputError(f"{folder} has no train/ with a folder for each class, and no train.csv; allowed: one")
        return made[1:]
