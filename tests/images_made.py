"""Small image data sets, made for tests, whose classes can be told from the pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from harness.datasets.class_images import ClassImages
from harness.datasets.images import ImageBenchmark
from harness.datasets.splits import published
from harness.errors import InputError
from harness.problem.benchmark import SPLITS, TaskShape

SHORT = {"train": "train", "validation": "val", "test": "test"}


def refused(call, *arguments, **options):
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def draw(benchmark, split="train", tasks=20, ways=2, shots=1, queries=1, seed=0, first=0):
    device, dtype = torch.device("cpu"), torch.float64
    return benchmark.draw(split, first, tasks, TaskShape(seed, ways, shots, queries), device, dtype)


def coloured(folder, each=4, tables=True, seed=0, most=3):
    """miniImageNet's folder with ``most`` classes a split; a class is a colour, a picture a shade of it."""
    images = folder / "miniimagenet" / "images"
    images.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for split in SPLITS:
        rows = []
        for label in published("miniimagenet")[split][:most]:
            colour = rng.integers(0, 256, 3)
            for number in range(each):
                name = f"{label}{number:08d}.png"
                picture = np.broadcast_to(colour, (84, 84, 3)).astype(np.uint8).copy()
                picture[0, 0] = number
                Image.fromarray(picture).save(images / name, compress_level=0)
                rows.append((name, label))
        if tables:
            write_table(folder, split, rows)
    return folder


def write_table(root, split, rows):
    lines = ["filename,label", *(f"{name},{label}" for name, label in rows), ""]
    (root / "miniimagenet" / f"{SHORT[split]}.csv").write_text("\n".join(lines))


def listed(root, split):
    lines = (root / "miniimagenet" / f"{SHORT[split]}.csv").read_text().split()[1:]
    return [tuple(line.split(",")) for line in lines]


class Own(ImageBenchmark):
    """A person's own: nothing but a shape and images."""

    name = "own"
    summary = "made for tests"
    shape = (1, 2, 3)
    sizes = {"train": (3, 9, 5), "validation": (4, 4), "test": (6, 2, 7)}

    def load_split(self, split):
        counts = self.sizes[split]
        pixels = [
            (100 * SPLITS.index(split) + 10 * c + 3, e + 2)
            for c, n in enumerate(counts)
            for e in range(n)
            for _ in "abc"
        ]
        images = np.array(pixels, np.uint8).reshape(-1, 3, 2).transpose(0, 2, 1).reshape(-1, 1, 2, 3)
        return ClassImages(images, counts, tuple(f"{split} {c}" for c in range(len(counts))))
