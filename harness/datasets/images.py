"""Few-shot image benchmarks: one tensor of images on the device, tasks drawn by index on it."""

from __future__ import annotations

import copy
import functools
import hashlib
import sys
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from harness.datasets import duplicates, held, warn_once
from harness.datasets.class_images import (
    ClassImages,
    Identity,
    against_published,
    check_enough,
    fitted,
    identities_of,
    overlaps,
    same_content,
)
from harness.datasets.drawing import DRAWING, scaled, tasks_by_class
from harness.datasets.options import ImageOptions
from harness.datasets.store import recall, remember, stamp
from harness.errors import HarnessError, InputError, MissingData
from harness.problem.benchmark import SPLITS, Benchmark, TaskShape

if TYPE_CHECKING:
    import torch

    from harness.problem.tasks import TaskBatch


class ImageBenchmark(Benchmark):
    """Base of every image benchmark: a subclass has a shape and says where the images of a split come from.

    What is drawn is what is there: numbers of classes and images are counted, and the images' content is part of
    the run's key.
    """

    #: channels, height, width
    shape: tuple[int, int, int]
    #: pixels of what :meth:`load_split` gives: ``uint8`` from 0 to 255, or ``float32`` from 0 to 1
    dtype: ClassVar[str] = "uint8"
    #: order of the dimensions of an image there
    layout: ClassVar[Literal["CHW", "HWC"]] = "CHW"
    #: number of classes of each split, as published; nothing is drawn by it
    classes: Mapping[str, int] = {}
    #: whether the images are made here, so that nothing has to be put on the disk first
    embedded: ClassVar[bool] = False
    #: whether classes called by numbers from 0 in each split are not the same classes
    numbered: ClassVar[bool] = True
    Options = ImageOptions
    #: None: what was decoded before is used. A list: all is decoded anew, with a line for what was something else
    renew: list[str] | None = None

    @property
    def version(self) -> str:
        """See :attr:`Benchmark.version`: a hash of all images, their order and their classes."""
        sha = hashlib.sha256("".join(known.digest for known in self.identities().values()).encode())
        return f"images {sha.hexdigest()[:32]}, drawing {DRAWING}"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """See :attr:`Benchmark.input_shape`."""
        return self.shape

    @abstractmethod
    def load_split(self, split: str) -> ClassImages:
        """Read one split from disk; raises :class:`InputError` naming what is missing and where."""

    def sources(self) -> Sequence[Path] | None:
        """Every file that decides what the images are, so that they are known again without being read.

        None: nothing tells, and they are read whenever they have to be known.
        """
        return None

    def images_per_class(self, split: str) -> int | None:
        """The number of images that every class of ``split`` has, as published; None: nothing is."""
        return None

    def class_names(self, split: str) -> Collection[str] | None:
        """The classes of ``split`` by name, as published; None: nothing is, or they have other names here."""
        return None

    def missing(self) -> str | None:
        """One line saying which file to put where, or None when the data are there."""
        return None

    def prepare(self) -> str:
        """Download, unpack or render the data; returns where they are. Raises InputError if it cannot."""
        if (problem := self.missing()) is not None:
            raise MissingData(problem)
        return str(self.root)

    def verify(self) -> list[str]:
        """The faults that :meth:`examine` finds."""
        return self.examine()[0]

    def examine(self) -> tuple[list[str], list[list[duplicates.Place]]]:
        """Decode everything anew and compare it, class by class, with what is published; faults, identical images."""
        fresh = self._anew()
        splits = {split: fresh._fitted(split) for split in SPLITS}
        known = {split: data.identity for split, data in splits.items()}
        groups = duplicates.identical(splits)
        faults = [*(fresh.renew or ()), *(fault for _, fault in overlaps(known, self.numbered))]
        for split in SPLITS:
            faults += against_published(self, split, known[split])
        return faults + self.content_faults(known) + duplicates.same_classes(groups, known), groups

    def content_faults(self, known: Mapping[str, Identity]) -> list[str]:
        """What a benchmark can say about its classes by their content; nothing, here."""
        return []

    def identities(self) -> dict[str, Identity]:
        """What each split holds; read only where the files are not those of the last time."""
        if "identities" not in self._memory:
            record = self._memory["record"] = self._record()
            self._memory["identities"] = self._recalled(record) or self._looked_at(record)
        return self._memory["identities"]  # type: ignore[no-any-return]

    def check(self, ways: int, shots: int, queries: int) -> None:
        """See :meth:`Benchmark.check`; a held-out split with a class that is trained on is refused too."""
        if (problem := self.missing()) is not None:
            raise MissingData(problem)
        if "record" in self._memory and self._memory["record"] != self._record():
            self._memory.clear()  # the files have changed since the run before
        known = self.identities()
        for split in SPLITS:
            check_enough(known[split], f"benchmark {self.name}: its {split} split", ways, shots, queries)
        for first, fault in overlaps(known, self.numbered):
            if first == "train":
                raise InputError(f"benchmark {self.name}: {fault}; allowed: held-out classes that nothing trains on")
            warn_once(f"benchmark {self.name}: {fault}")
        for fault in same_content(known):
            warn_once(f"benchmark {self.name}: {fault}")

    def draw(
        self, split: str, first: int, tasks: int, shape: TaskShape, device: torch.device, dtype: torch.dtype
    ) -> TaskBatch:
        """See :meth:`Benchmark.draw`; images are scaled to [0, 1]."""
        images, counts = self._on(device, split)
        ways, each = shape.ways, shape.shots + shape.queries
        if len(counts) < ways or min(counts) < each:  # a caller that has not checked
            where = f"benchmark {self.name}: its {split} split"
            check_enough(self.identities()[split], where, ways, shape.shots, shape.queries)
        return tasks_by_class(split, first, tasks, shape, counts, lambda rows: scaled(images, rows, dtype))

    def _on(self, device: torch.device, split: str) -> tuple[torch.Tensor, tuple[int, ...]]:
        """The images of the split on ``device``, and the sizes of its classes."""
        import torch

        cache: dict[tuple[str, str], tuple[torch.Tensor, tuple[int, ...]]] = self._memory.setdefault("tensors", {})
        key = (str(device), split)
        if key not in cache:
            data = self._take(split)
            cache[key] = torch.from_numpy(data.images).to(device), data.counts
        return cache[key]

    @functools.cached_property
    def _memory(self) -> dict[str, Any]:
        """What this object has read; made when first asked for, as a subclass may have a constructor of its own."""
        return held.held_for(self)

    def _anew(self) -> Self:
        """The same benchmark, which has read nothing and takes nothing that was kept."""
        other = copy.copy(self)
        other.__dict__["_memory"], other.renew = {}, []
        return other

    def _fitted(self, split: str) -> ClassImages:
        where = f"benchmark {self.name}: its {split} split"
        try:
            data = self.load_split(split)
        except (HarnessError, MemoryError):
            raise
        except Exception as error:  # a stranger's reader may raise anything
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{where} cannot be read: {type(error).__name__}: {reason}") from error
        return fitted(data, self.shape, self.dtype, self.layout, where)

    def _usable(self, split: str) -> ClassImages:
        """The images of a split that may be drawn; raises :class:`InputError` for what is not as stated."""
        if not getattr(self.options, "drop_duplicates", False):
            return self._fitted(split)
        if "once" not in self._memory:
            self._memory["once"] = duplicates.drawn_once({name: self._fitted(name) for name in SPLITS})
        return self._fitted(split).only(self._memory["once"][split])

    def _looked_at(self, record: str | None) -> dict[str, Identity]:
        """What each split holds, by its pixels; these are held until :meth:`_take`, and what they are remembered."""
        held = self._memory["held"] = {split: self._usable(split) for split in SPLITS}
        known = {split: data.identity for split, data in held.items()}
        if record and record == self._record():  # the files are still those that were read
            remember(self.root, record, {split: vars(identity) for split, identity in known.items()})
        return known

    def _recalled(self, record: str | None) -> dict[str, Identity] | None:
        """What :meth:`_looked_at` remembered of these very files."""
        return identities_of(recall(self.root, record), SPLITS) if record and self.renew is None else None

    def _record(self) -> str | None:
        """Where it is written what the splits hold: a name for files, options and reader."""
        bases = type(self).__mro__
        reader = next(number for number, base in enumerate(bases) if "load_split" in vars(base))
        # A subclass that reads in a way of its own does not read what its base names.
        if not any("sources" in vars(base) for base in bases[: reader + 1]) or (files := self.sources()) is None:
            return None
        code = {getattr(sys.modules.get(base.__module__), "__file__", None) for base in bases}
        options, name = self.options.model_dump_json(), type(self).__qualname__
        mark = stamp([*files, *map(Path, sorted(filter(None, code)))], name, options, self.shape)
        return mark and f"identities/{self.name}-{mark}.json"

    def _take(self, split: str) -> ClassImages:
        """The images of a split, which are then not held here any longer."""
        known = self.identities()[split]
        data = self._memory.get("held", {}).pop(split, None) or self._usable(split)
        if data.identity == known:
            return data
        # What was kept or what was remembered is not what the files hold.
        fresh = self._anew()
        self._memory["identities"] = fresh.identities()
        return fresh._take(split)
