"""Whatever folders, tables and pickles look like: every drawn example has the label of the class of its bytes.

A picture's colour says which class it was made for and which picture of it, and is read back from the drawn tensors.
What there is to draw is counted here, from what was made, and not asked of the readers.
"""

from __future__ import annotations

import csv
import io
import os
import pickle
import random
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from images_made import SHORT, draw
from PIL import Image

from benchmarks.cifar_fs import CIFARFS
from benchmarks.fc100 import FC100
from benchmarks.folder import Folder
from benchmarks.miniimagenet import MiniImageNet
from benchmarks.omniglot import Omniglot
from harness.datasets.splits import published
from harness.errors import InputError
from harness.problem.benchmark import SPLITS

STEP, LOW = 8, 12  # of the code in a channel; a JPEG moves a flat colour by less than half a step
WORDS = ["n 1", "Ä, ö", 'a "b"', "1e3", "TRUE", "null", "a.b", "ß", "X", "0x1", "猫", "--json", "%s", "'", "n01"]
FOLDER_FILES = (".DS_Store", "Thumbs.db", "desktop.ini", "readme.txt", "._other.png", "._x.JPG")


@dataclass
class Made:
    """What was put on the disk: for each split, for each class's name its code and how often each picture is there."""

    make: type
    splits: dict[str, dict[str, tuple[int, Counter[int]]]]
    options: dict[str, object] = field(default_factory=dict)
    #: pictures of other classes that lie in a class too: split, class's name, code and number of the picture
    strays: list[tuple[str, str, int, int]] = field(default_factory=list)


def code(number):
    return LOW + STEP * number


def read_code(value):
    return round((float(value) * 255 - LOW) / STEP)


def classes_of(rng, names, most=5):
    """A few classes for every split, of unequal sizes, some with copies; codes are the classes' numbers in all."""
    splits, number = {}, 0
    for split in SPLITS:
        chosen = names[split]
        splits[split] = {}
        for name in rng.sample(chosen, min(len(chosen), rng.randint(2, most))):
            members = Counter(dict.fromkeys(range(rng.randint(2, 7)), 1))
            if rng.random() < 0.3:
                members[0] += rng.randint(1, 3)
            splits[split][name] = (number, members)
            number += 1
    return splits


def add_strays(rng, made):
    """Copies of pictures under other labels and in other splits, which only leaving them out can make right."""
    everything = [
        (split, name, number, member)
        for split, classes in made.splits.items()
        for name, (number, members) in classes.items()
        for member in members
    ]
    for _ in range(rng.randint(1, 4)):
        _, _, number, member = rng.choice(everything)
        split, name, own, _ = rng.choice(everything)
        if own != number:
            made.strays.append((split, name, number, member))
    made.options["drop_duplicates"] = True


def pictures(made, split, name):
    """Class and number of every picture that goes into a class."""
    number, members = made.splits[split][name]
    listed = [(number, member) for member, times in members.items() for _ in range(times)]
    return listed + [(c, m) for s, n, c, m in made.strays if (s, n) == (split, name)]


def colour(rng, number, member, size=84):
    """A flat picture in some mode, format and orientation: red its class, green its number."""
    # the third channel is a function of the other two, so that copies are copies
    picture = Image.new("RGB", (size, size), (code(number), code(member), (7 * number + 11 * member) % 256))
    mode = rng.choice(["RGB", "RGB", "RGBA", "P", "CMYK"])
    exif = Image.Exif()
    exif[0x0112] = rng.randint(1, 8)
    buffer = io.BytesIO()
    if mode == "CMYK":
        picture.convert("CMYK").save(buffer, "JPEG", quality=95)
    elif mode == "P":
        picture.quantize(2).save(buffer, "PNG")
    elif mode == "RGB" and rng.random() < 0.5:
        picture.save(buffer, "JPEG", quality=95, exif=exif)
    else:
        picture.convert(mode).save(buffer, "PNG", exif=exif)
    return buffer.getvalue()


def grey(rng, number, member):
    """Left half the class, right half the number, as ink on white paper, in some mode that has grey."""
    values = np.full((105, 105), 255 - code(number), np.uint8)
    values[:, 53:] = 255 - code(member)
    mode = rng.choice(["L", "LA", "RGB", "RGBA", "P", "I;16"])
    picture = Image.fromarray(values.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(values)
    if mode == "P":
        picture = picture.quantize(256)
    elif mode != "I;16":
        picture = picture.convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def suffix(rng, content):
    ends = (".png", ".PNG") if content.startswith(b"\x89PNG") else (".jpg", ".JPG", ".jpeg", ".JPEG")
    return rng.choice(ends)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def clutter(rng, folder):
    for name in rng.sample(FOLDER_FILES, 3):
        write(folder / name, b"not a picture")


# A copy has the same pixels only if it was encoded the same way.
def encoded(rng, made, encode):
    kept: dict[tuple[int, int], bytes] = {}

    def content(number, member):
        if (number, member) not in kept:
            kept[number, member] = encode(rng, number, member)
        return kept[number, member]

    return content


# ---------------------------------------------------------------- layouts


def table(rng, root, make=MiniImageNet):
    """miniImageNet with tables: any class names, pictures in images/ or in the folder of their class."""
    names = rng.sample(WORDS, len(WORDS))
    made = Made(make, classes_of(rng, {split: names[5 * k : 5 * k + 5] for k, split in enumerate(SPLITS)}))
    if rng.random() < 0.3:
        add_strays(rng, made)
    content = encoded(rng, made, colour)
    place = rng.choice(["miniimagenet", "mini-imagenet", "."] if make is MiniImageNet else ["mine"])
    folder = root / place
    images = folder / ("images" if place == "." or rng.random() < 0.7 else "")
    files = iter(rng.sample(range(10_000), 1000))
    for split in SPLITS:
        rows = []
        for name in made.splits[split]:
            inside = rng.choice(["", name])
            for number, member in pictures(made, split, name):
                data = content(number, member)
                file = rng.choice(["n{}", "x {}", "ü{}", "a,b{}", "a.b{}", "IMG_({})"]).format(next(files))
                end = suffix(rng, data)
                write(images / inside / (file + end), data)
                said = file + (end if rng.random() < 0.8 else ".jpg")
                rows.append((f"{inside}/{said}" if inside and rng.random() < 0.5 else said, name))
                if rng.random() < 0.1:
                    rows.append(rows[-1])
        rng.shuffle(rows)
        text = io.StringIO()
        text.write("filename,label" + (end := rng.choice(["\n", "\r\n"])))
        quoting = rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
        csv.writer(text, lineterminator=end, quoting=quoting).writerows(rows)
        lines = text.getvalue()
        if quoting == csv.QUOTE_ALL and rng.random() < 0.5:
            lines = lines.replace('","', '", "')
        write(folder / f"{SHORT[split]}.csv", lines.encode(rng.choice(["utf-8", "utf-8-sig", "utf-16"])))
    clutter(rng, images)
    clutter(rng, folder)
    return made


def folders(rng, root, make=MiniImageNet):
    """miniImageNet as train/CLASS/*, val/CLASS/* and test/CLASS/*."""
    names = rng.sample(WORDS, len(WORDS))
    made = Made(make, classes_of(rng, {split: names[5 * k : 5 * k + 5] for k, split in enumerate(SPLITS)}))
    if rng.random() < 0.3:
        add_strays(rng, made)
    content = encoded(rng, made, colour)
    for split in SPLITS:
        above = root / ("miniimagenet" if make is MiniImageNet else "mine")
        above /= rng.choice(["val", "validation", "Val"]) if split == "validation" else split
        for name in made.splits[split]:
            for place, (number, member) in enumerate(pictures(made, split, name)):
                data = content(number, member)
                write(above / name / f"{rng.choice('abc')}{place}{suffix(rng, data)}", data)
            clutter(rng, above / name)
        clutter(rng, above)
        (above / "__MACOSX").mkdir()
    return made


def identifiers(rng, root):
    """miniImageNet without tables: WordNet ids begin the files' names or are folders."""
    made = Made(MiniImageNet, classes_of(rng, {split: published("miniimagenet")[split] for split in SPLITS}))
    content = encoded(rng, made, colour)
    images = root / "miniimagenet" / rng.choice(["images", ""])
    for split in SPLITS:
        for name in made.splits[split]:
            for place, (number, member) in enumerate(pictures(made, split, name)):
                data = content(number, member)
                inside = rng.choice(["", name])
                write(images / inside / f"{name}{place:08d}{suffix(rng, data)}", data)
    clutter(rng, images)
    return made


def own_table(rng, root):
    """Own pictures and tables that name them."""
    return own(rng, root, table(rng, root, Folder))


def own_split_folders(rng, root):
    """Own pictures in train/CLASS/*, val/CLASS/* and test/CLASS/*."""
    return own(rng, root, folders(rng, root, Folder))


def own(rng, root, made):
    made.options |= {"path": str(root / "mine"), "size": rng.choice([84, 40])}
    return made


def own_classes(rng, root):
    """Own pictures in a folder a class, of which some are held out: which, the reader says, and that they are all."""
    names = rng.sample(WORDS, len(WORDS))
    splits = classes_of(rng, {split: names[5 * k : 5 * k + 5] for k, split in enumerate(SPLITS)})
    made = Made(Folder, {"train": {name: part for split in SPLITS for name, part in splits[split].items()}})
    content = encoded(rng, made, colour)
    above = root / "mine" / rng.choice(["", "images", "train"])
    for name in made.splits["train"]:
        for place, (number, member) in enumerate(pictures(made, "train", name)):
            data = content(number, member)
            write(above / name / f"{place}{suffix(rng, data)}", data)
        clutter(rng, above / name)
    clutter(rng, above)
    shares = {"validation": rng.choice([0.2, 0.35]), "test": rng.choice([0.2, 0.35])}
    made = own(rng, root, made)
    made.options |= {**shares, "split_seed": rng.randrange(3)}
    benchmark = Folder(Folder.Options(**made.options), root=root)
    held, every = {split: benchmark.load_split(split).names for split in SPLITS}, [*made.splits["train"]]
    assert {split: len(held[split]) for split in shares} == {s: round(p * len(every)) for s, p in shares.items()}
    assert sorted(name for split in SPLITS for name in held[split]) == sorted(every)
    made.splits = {split: {name: made.splits["train"][name] for name in held[split]} for split in SPLITS}
    return made


def arrays(made, split, size):
    """Pixels ``[n, size, size, 3]`` of a split in a random order's classes, and the class's name of each."""
    listed = [(name, *picture) for name in made.splits[split] for picture in pictures(made, split, name)]
    pixels = np.empty((len(listed), size, size, 3), np.uint8)
    for row, (_, number, member) in enumerate(listed):
        pixels[row] = (code(number), code(member), (7 * number + 11 * member) % 256)
    return pixels, [name for name, *_ in listed]


def mini_pickles(rng, root):
    names = rng.sample(WORDS, len(WORDS))
    made = Made(MiniImageNet, classes_of(rng, {split: names[5 * k : 5 * k + 5] for k, split in enumerate(SPLITS)}))
    for split in SPLITS:
        pixels, labels = arrays(made, split, 84)
        order = rng.sample(range(len(pixels)), len(pixels))
        rows = {name: [at for at, row in enumerate(order) if labels[row] == name] for name in made.splits[split]}
        for listed in rows.values():
            listed += listed[: rng.randint(0, 2)]
        content = {"image_data": pixels[order], "class_dict": rows}
        write(root / f"mini-imagenet-cache-{SHORT[split]}.pkl", pickle.dumps(content, rng.randint(0, 5)))
    return made


def fc100_pickles(rng, root):
    first = rng.choice([(0, 0, 0), (0, 60, 80), (5, 100, 200)])
    names = {
        split: [f"label {number}" for number in range(start, start + 5)]
        for split, start in zip(SPLITS, first, strict=True)
    }
    made = Made(FC100, classes_of(rng, names))
    for split in SPLITS:
        # numbered from the first without a gap
        made.splits[split] = dict(zip(sorted(names[split]), made.splits[split].values(), strict=False))
        pixels, labels = arrays(made, split, 32)
        order = rng.sample(range(len(pixels)), len(pixels))
        numbers = [int(labels[row].split()[1]) for row in order]
        kind = rng.choice([list, np.array, lambda n: np.array(n, ">i4"), lambda n: np.array(n, np.uint8)])
        content = {"data": pixels[order], "labels": kind(numbers)}
        if rng.random() < 0.5:
            content = {key.encode(): value for key, value in content.items()}
        write(root / rng.choice(["FC100"]) / f"FC100_{SHORT[split]}.pickle", pickle.dumps(content, rng.randint(0, 5)))
    return made


def cifar_folder(rng, root):
    """All of CIFAR-FS's classes that there are, train and test part mixed."""
    made = Made(CIFARFS, classes_of(rng, {split: published("cifar_fs")[split] for split in SPLITS}))
    if rng.random() < 0.3:
        add_strays(rng, made)
    fine = rng.sample(names := [name for split in SPLITS for name in made.splits[split]], len(names))
    parts = [arrays(made, split, 32) for split in SPLITS]
    pixels = np.concatenate([part[0] for part in parts]).transpose(0, 3, 1, 2).reshape(-1, 3072)
    labels = np.array([fine.index(name) for part in parts for name in part[1]])
    order = np.array(rng.sample(range(len(labels)), len(labels)))
    cut = rng.randint(0, len(order))
    for part, rows in (("train", order[:cut]), ("test", order[cut:])):
        content = {"data": pixels[rows], "fine_labels": labels[rows].tolist(), "coarse_labels": [0] * len(rows)}
        write(root / "cifar-100-python" / part, pickle.dumps({k.encode(): v for k, v in content.items()}, 2))
    meta = {b"fine_label_names": [name.encode() for name in fine], b"coarse_label_names": [b"all"]}
    write(root / "cifar-100-python" / "meta", pickle.dumps(meta, 2))
    return made


def omniglot_drawings(rng, root):
    """Alphabets and characters in folders or zips, drawings in upper and lower case."""
    alphabets = {
        "train": ["background/Greek", "background/Latin"],
        "validation": ["background/Armenian", "background/Hebrew"],
        "test": ["evaluation/Tibetan", "evaluation/ULOG"],
    }
    names = {split: [f"{a}/character{n:02d}" for a in alphabets[split] for n in (1, 2, 3)] for split in SPLITS}
    made = Made(Omniglot, classes_of(rng, names))
    if rng.random() < 0.3:
        add_strays(rng, made)
    content = encoded(rng, made, grey)
    for split in SPLITS:
        for name in made.splits[split]:
            part, alphabet, character = name.split("/")
            above = root / "omniglot-py" / f"images_{part}" / alphabet / character
            for place, (number, member) in enumerate(pictures(made, split, name)):
                write(above / f"{place:04d}{rng.choice(['.png', '.PNG'])}", content(number, member))
            clutter(rng, above)
    if rng.random() < 0.5:
        for part in ("background", "evaluation"):
            folder = root / "omniglot-py"
            shutil.make_archive(str(folder / f"images_{part}"), "zip", folder, f"images_{part}")
            shutil.rmtree(folder / f"images_{part}")
    return made


# ---------------------------------------------------------------- what is drawn


def left(made):
    """How often each picture of each class may be drawn: ``split -> name -> Counter of numbers``."""
    if not made.options.get("drop_duplicates"):
        return {s: {name: Counter(members) for name, (_, members) in made.splits[s].items()} for s in SPLITS}
    places: dict[tuple[int, int], list[tuple[str, str]]] = {}
    for split in SPLITS:
        for name in made.splits[split]:
            for picture in pictures(made, split, name):
                places.setdefault(picture, []).append((split, name))
    result = {split: {name: Counter() for name in made.splits[split]} for split in SPLITS}
    for (number, member), where in places.items():
        last = [split for split in SPLITS if any(split == s for s, _ in where)][-1]
        holders = {name for split, name in where if split == last}
        if len(holders) == 1:
            (name,) = holders
            # a stray that is left alone in a later split bears that split's label, as nothing tells it is one
            key = member if made.splits[last][name][0] == number else (number, member)
            result[last][name][key] = 1
    return result


def codes(x):
    """Class and number of examples ``[..., channels, height, width]``."""
    if x.shape[-3] == 3:
        first, second = x[..., 0, 40 * x.shape[-2] // 84, 8], x[..., 1, 40 * x.shape[-2] // 84, 8]
    else:
        first, second = x[..., 0, 14, 6], x[..., 0, 14, 21]
    return [(read_code(a), read_code(b)) for a, b in zip(first.tolist(), second.tolist(), strict=True)]


def read_classes(data):
    """The code of the class of every name, which is the same in all of its pictures."""
    found, start = {}, 0
    for name, count in zip(data.names, data.counts, strict=True):
        pixels = torch.from_numpy(data.images[start : start + count]).double() / 255
        (found[name],) = {number for number, _ in codes(pixels)}
        start += count
    return found


def try_one(seed, layout, root):
    """Make a data set, ask for tasks, and look; whether it was drawn from or rightly refused."""
    rng = random.Random(f"{layout.__name__} {seed}")
    made = layout(rng, root)
    expected = left(made)
    if any(isinstance(member, tuple) for classes in expected.values() for c in classes.values() for member in c):
        return "a stray that nothing tells from its new class"
    benchmark = made.make(made.make.Options(**made.options), root=root)
    assert benchmark.missing() is None
    sizes = {split: [c.total() for c in expected[split].values()] for split in SPLITS}
    too_many = rng.random() < 0.3
    ways = rng.randint(2, max(2, min(map(len, sizes.values())))) + (too_many and rng.randint(0, 1))
    each = max(2, rng.randint(2, max(2, min(map(min, sizes.values())))) + (too_many and rng.randint(0, 2)))
    shots = rng.randint(1, each - 1)
    queries = each - shots
    if any(len(sizes[split]) < ways or min(sizes[split]) < shots + queries for split in SPLITS):
        with pytest.raises(InputError, match="allowed: "):
            benchmark.check(ways, shots, queries)
        return "refused"
    benchmark.check(ways, shots, queries)
    for split in SPLITS if not made.strays else ():
        assert read_classes(benchmark.load_split(split)) == {name: n for name, (n, _) in made.splits[split].items()}
    for split in SPLITS:
        names = {number: name for name, (number, _) in made.splits[split].items()}
        batch = draw(benchmark, split, 8, ways, shots, queries, seed, first=rng.randrange(1000))
        for sx, sy, qx, qy in zip(batch.support_x, batch.support_y, batch.query_x, batch.query_y, strict=True):
            drawn = list(zip([*codes(sx), *codes(qx)], [*sy.tolist(), *qy.tolist()], strict=True))
            label_of = {number: label for (number, _), label in drawn}
            assert Counter(label for _, label in drawn) == dict.fromkeys(range(ways), shots + queries)
            assert sorted(label_of.values()) == list(range(ways)), "a class under two labels, or two under one"
            for (number, member), label in drawn:
                assert label_of[number] == label, "a picture under the label of another class"
                assert number in names, "a class of another split"
                assert expected[split][names[number]][member], "a picture that is not to be drawn"
            for (number, member), times in Counter(picture for picture, _ in drawn).items():
                assert times <= expected[split][names[number]][member], "support and query share a picture"
    return "drawn"


LAYOUTS = (
    table,
    folders,
    identifiers,
    own_table,
    own_split_folders,
    own_classes,
    mini_pickles,
    fc100_pickles,
    cifar_folder,
    omniglot_drawings,
)


def try_many(seeds, layout, root: Path):
    found = Counter()
    for seed in seeds:
        found[try_one(seed, layout, root / str(seed))] += 1
        shutil.rmtree(root / str(seed))
    assert found["drawn"] >= len(seeds) / 3, found
    return found


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "user-cache")


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_example_has_the_label_of_the_class_of_its_bytes(layout, tmp_path):
    try_many(range(6), layout, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_example_has_the_label_of_the_class_of_its_bytes_many_times(layout, tmp_path):
    try_many(range(6, 6 + 60 * int(os.environ.get("HARNESS_FUZZ", "1"))), layout, tmp_path)
