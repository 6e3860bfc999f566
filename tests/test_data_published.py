"""Data compared with what is published, splits that overlap, and pictures that occur twice."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from images_made import SHORT, Own, coloured, draw, listed, refused, write_table
from PIL import Image

from benchmarks.cifar_fs import CIFARFS
from benchmarks.fc100 import FC100
from benchmarks.miniimagenet import MiniImageNet
from benchmarks.omniglot import Omniglot
from harness.cli import main
from harness.datasets import duplicates
from harness.datasets.class_images import ClassImages
from harness.datasets.options import ImageOptions
from harness.datasets.splits import published
from harness.problem.benchmark import SPLITS

REAL = Path(os.environ.get("HARNESS_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "user-cache")


def exchanged(root):
    """The first class of train.csv and the first of test.csv under each other's split."""
    rows = {split: listed(root, split) for split in SPLITS}
    one, other = rows["train"][0][1], rows["test"][0][1]
    for split in ("train", "test"):
        mine, theirs = (one, other) if split == "train" else (other, one)
        source = rows["test" if split == "train" else "train"]
        write_table(
            root, split, [row for row in rows[split] if row[1] != mine] + [row for row in source if row[1] == theirs]
        )
    return one, other


def test_an_exchanged_class_is_a_fault(tmp_path, monkeypatch, capsys):
    one, other = exchanged(coloured(tmp_path, each=2))
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    assert main(["data", "verify", "miniimagenet", "--json"]) == 1
    faults = json.loads(capsys.readouterr().out)["faults"]
    assert f"train: class {other!r} belongs to test" in faults
    assert f"test: class {one!r} belongs to train" in faults
    assert f"test: class {other!r} is not there" in faults


def test_a_class_that_holds_another_ones_pictures_is_a_fault(tmp_path):
    coloured(tmp_path, each=2)
    rows = listed(tmp_path, "train")
    names = {rows[0][1]: rows[-1][1], rows[-1][1]: rows[0][1]}
    write_table(tmp_path, "train", [(name, names.get(label, label)) for name, label in rows])
    faults = MiniImageNet(root=tmp_path).verify()
    assert f"train: class {rows[0][1]!r} holds pictures of {rows[-1][1]!r}" in faults


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """CIFAR-100's classes with six random pictures each, which are taken for the published ones."""
    known = published("cifar100")
    names = sorted(name for classes in known.values() for name in classes)
    coarse = sorted(known)
    parent = {name: coarse.index(of) for of, classes in known.items() for name in classes}
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (600, 3072), dtype=np.uint8)
    labels = np.repeat(np.arange(100), 6)
    of_class = {name: sorted(row.tobytes() for row in pixels[labels == n]) for n, name in enumerate(names)}
    digests = {name: hashlib.sha256(b"".join(rows)).hexdigest() for name, rows in of_class.items()}
    table = {of: {name: digests[name] for name in classes} for of, classes in known.items()}
    splits = {name: published(name) for name in ("fc100", "cifar_fs")} | {"cifar100": table}
    for module in ("harness.datasets.cifar100", "benchmarks.fc100", "benchmarks.cifar_fs"):
        monkeypatch.setattr(f"{module}.published", splits.__getitem__)
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()

    def write(names=names, pixels=pixels):
        for part, rows in (("train", slice(0, None, 2)), ("test", slice(1, None, 2))):
            content = {
                "data": pixels[rows],
                "fine_labels": labels[rows].tolist(),
                "coarse_labels": [parent[sorted_name] for sorted_name in np.array(names)[labels[rows]].tolist()],
            }
            (folder / part).write_bytes(pickle.dumps(content, 2))
        (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": names, "coarse_label_names": coarse}, 2))

    write()
    return names, pixels, labels, write


def only_counts(faults):
    return [fault for fault in faults if "images, expected 600" not in fault]


@pytest.mark.parametrize("make", [FC100, CIFARFS])
def test_cifar_classes_are_known_by_their_pictures(tmp_path, cifar, make):
    names, pixels, _, write = cifar
    assert only_counts(make(root=tmp_path).verify()) == []
    test, train = (make(root=tmp_path).load_split(split).names[0] for split in ("test", "train"))
    one, other = names.index(test), names.index(train)
    renamed = list(names)
    renamed[one], renamed[other] = names[other], names[one]
    write(names=renamed)
    faults = make(root=tmp_path).verify()
    assert f"train: class {train!r} holds the pictures of {test!r}, a test class" in faults
    assert f"test: class {test!r} holds the pictures of {train!r}, a train class" in faults
    damaged = pixels.copy()
    damaged[6 * one, 5] ^= 1
    write(pixels=damaged)
    assert only_counts(make(root=tmp_path).verify()) == [
        f"test: class {test!r} does not hold the pictures of a class of CIFAR-100"
    ]


def fc100_pickles(tmp_path, cifar, numbers, swap=False):
    names, pixels, labels, _ = cifar
    homes = {split: set(superclasses) for split, superclasses in published("fc100").items()}
    known = published("cifar100")
    members = {split: [n for of in sorted(homes[split]) for n in sorted(known[of])] for split in SPLITS}
    if swap:
        members["train"][0], members["test"][0] = members["test"][0], members["train"][0]
    root = tmp_path / "pickles"
    root.mkdir()
    start = 0
    for split in SPLITS:
        rows = np.concatenate([pixels[labels == names.index(name)] for name in members[split]])
        first = start if numbers == "throughout" else 0
        content = {
            "data": rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).copy(),
            "labels": np.repeat(np.arange(len(members[split])) + first, 6).tolist(),
        }
        (root / f"FC100_{SHORT[split]}.pickle").write_bytes(pickle.dumps(content, 2))
        start += len(members[split])
    return FC100(root=root), members


@pytest.mark.parametrize("numbers", ["from 0 in each split", "throughout"])
def test_fc100_pickles_may_number_their_classes_as_they_like(tmp_path, cifar, numbers):
    benchmark, _ = fc100_pickles(tmp_path, cifar, numbers)
    benchmark.check(5, 1, 1)
    assert only_counts(benchmark.verify()) == []


@pytest.mark.parametrize("numbers", ["from 0 in each split", "throughout"])
def test_an_exchanged_class_of_fc100_pickles_is_known_by_its_pictures(tmp_path, cifar, numbers):
    benchmark, members = fc100_pickles(tmp_path, cifar, numbers, swap=True)
    faults = only_counts(benchmark.verify())
    assert len(faults) == 2
    assert f"holds the pictures of {members['train'][0]!r}, a test class" in faults[0]
    assert f"holds the pictures of {members['test'][0]!r}, a train class" in faults[1]


@pytest.mark.parametrize(
    "labels", [[0.2, 0.9, 1.0], ["a", "b", "c"], [True, False, True], [[0], [1], [2]], [2**70, 1, 2]], ids=str
)
def test_labels_that_are_no_whole_numbers_are_refused(tmp_path, labels):
    for name in SHORT.values():
        content = {"data": np.zeros((3, 32, 32, 3), np.uint8), "labels": labels}
        (tmp_path / f"FC100_{name}.pickle").write_bytes(pickle.dumps(content, 2))
    assert "FC100_train.pickle" in refused(FC100(root=tmp_path).load_split, "train")


def test_a_pickle_with_an_image_in_two_classes_is_refused_and_a_repeated_one_is_one(tmp_path):
    images = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.full((6, 84, 84, 3), 9, np.uint8)
    for name in SHORT.values():
        content = {"image_data": images, "class_dict": {"n1": [0, 0, 1, 0], "n2": [2, 3]}}
        (tmp_path / f"mini-imagenet-cache-{name}.pkl").write_bytes(pickle.dumps(content, 2))
    assert MiniImageNet(root=tmp_path).load_split("train").counts == (2, 2)
    content["class_dict"]["n2"] = [1, 2]
    (tmp_path / "mini-imagenet-cache-train.pkl").write_bytes(pickle.dumps(content, 2))
    assert "an image in two classes" in refused(MiniImageNet(root=tmp_path).load_split, "train")


def test_cifar_with_two_labels_of_one_name_is_refused(tmp_path, cifar):
    names, *_, write = cifar
    write(names=[names[1], *names[1:]])
    assert "two labels have one name" in refused(CIFARFS(root=tmp_path).check, 5, 1, 1)


def test_omniglot_is_compared_character_by_character(tmp_path):
    rng = np.random.default_rng(0)
    for part, alphabet in (("background", "Greek"), ("background", "Klingon"), ("evaluation", "Armenian")):
        path = tmp_path / "omniglot" / f"images_{part}" / alphabet / "character01"
        path.mkdir(parents=True)
        for drawing in range(3):
            Image.fromarray(rng.integers(0, 256, (28, 28), dtype=np.uint8)).save(path / f"{drawing}.png")
    faults = Omniglot(root=tmp_path).verify()
    assert "train: class 'background/Klingon/character01' belongs to no split" in faults
    assert "test: class 'evaluation/Armenian/character01' belongs to no split" in faults
    assert "train: class 'background/Greek/character02' is not there" in faults
    assert not [fault for fault in faults if "Greek/character01" in fault and "expected 20" not in fault]
    for kind in ("original", "vinyals"):
        listed = Omniglot(Omniglot.Options(split=kind), root=tmp_path)
        assert {split: len(listed.class_names(split)) for split in SPLITS} == listed.classes


def test_the_checksums_are_of_the_published_classes():
    known = published("cifar100")
    assert sorted(known) == sorted(chain(*published("fc100").values()))
    assert sorted(n for classes in known.values() for n in classes) == sorted(chain(*published("cifar_fs").values()))
    assert len({digest for classes in known.values() for digest in classes.values()}) == 100


# ---------------------------------------------------------------- splits that overlap


def test_a_run_that_would_test_on_training_classes_is_refused(tmp_path, monkeypatch, capsys):
    coloured(tmp_path)
    write_table(tmp_path, "test", listed(tmp_path, "train"))
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    command = ["run", "--benchmark=miniimagenet", "--ways=2", "--shots=1", "--queries=1"]
    assert main([*command, f"--results={tmp_path / 'runs'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is in both train and test; allowed: held-out classes that nothing trains on" in line
    assert not (tmp_path / "runs").exists()
    assert any("is in both train and test" in fault for fault in MiniImageNet(root=tmp_path).verify())


def test_validating_on_test_classes_is_told(tmp_path, caplog):
    coloured(tmp_path)
    write_table(tmp_path, "validation", listed(tmp_path, "test"))
    with caplog.at_level(logging.WARNING, "harness"):
        MiniImageNet(root=tmp_path).check(2, 1, 1)
    assert "is in both validation and test" in caplog.text


def test_the_same_pictures_under_another_name_are_told(caplog):
    class Twice(Own):
        name = "twice"
        sizes = {"train": (4, 4), "validation": (4, 4), "test": (4, 4)}

        def load_split(self, split):
            data = super().load_split("train" if split == "test" else split)
            return ClassImages(data.images, data.counts, tuple(f"{split} {name}" for name in data.names))

    with caplog.at_level(logging.WARNING, "harness"):
        Twice().check(2, 1, 1)
    assert "train class 'train train 0' and test class 'test train 0' hold the same images" in caplog.text
    assert "train class 'train train 0' and test class 'test train 0' share 4 pictures" in Twice().verify()


def test_numbers_from_0_in_every_split_are_no_overlap(caplog):
    class Numbered(Own):
        name = "numbered"

        def load_split(self, split):
            data = super().load_split(split)
            return ClassImages(data.images, data.counts, tuple(map(str, range(len(data.counts)))))

    Numbered().check(2, 1, 1)
    assert Numbered().verify() == []
    assert not caplog.records


# ---------------------------------------------------------------- duplicates


class Doubled(Own):
    """One pair within a class, one under two labels of train, one in train and test."""

    name = "doubled"
    sizes = dict.fromkeys(SPLITS, (6, 6, 6))

    def load_split(self, split):
        data = super().load_split(split)
        images = data.images.copy()
        if split == "train":
            images[1] = images[0]
            images[7] = images[12]
            images[17] = super().load_split("test").images[3]
        return ClassImages(images, data.counts, data.names)


def test_duplicates_are_counted_by_what_they_spoil():
    faults, groups = Doubled().examine()
    assert faults == []
    found = duplicates.summary(groups)
    assert {kind: found[kind] for kind in duplicates.KINDS} == dict.fromkeys(duplicates.KINDS, 1)
    assert {"kind": "across_splits", "pictures": {"train: train 2": 1, "test: test 0": 1}} in found["groups"]
    assert {"kind": "within_class", "pictures": {"train: train 0": 2}} in found["groups"]


def test_dropped_duplicates_are_not_drawn():
    benchmark = Doubled(ImageOptions(drop_duplicates=True))
    assert benchmark.identities()["train"].counts == (5, 5, 4)
    assert benchmark.identities()["test"].counts == (6, 6, 6)
    assert benchmark.version != Doubled().version
    assert duplicates.identical({split: benchmark._usable(split) for split in SPLITS}) == []
    batch = draw(benchmark, "train", tasks=200, ways=3, shots=2, queries=2)
    for task in torch.cat([batch.support_x, batch.query_x], 1):
        assert len({tuple(picture.flatten().tolist()) for picture in task}) == 12
    assert "its train split has 4 images" in refused(benchmark.check, 3, 3, 2)
    # off, the pair is support and query of one task
    batch = draw(Doubled(), "train", tasks=200, ways=3, shots=2, queries=2)
    tasks = torch.cat([batch.support_x, batch.query_x], 1)
    assert min(len({tuple(picture.flatten().tolist()) for picture in task}) for task in tasks) < 12


def test_the_option_is_recorded_where_it_is_set():
    assert ImageOptions().model_dump(mode="json") == {}
    assert ImageOptions(drop_duplicates=True).model_dump(mode="json") == {"drop_duplicates": True}
    assert "drop_duplicates" in Omniglot.Options.model_fields


@pytest.mark.data
@pytest.mark.parametrize(("make", "numbers"), [(FC100, (9, 14, 3)), (CIFARFS, (9, 2, 15)), (Omniglot, (1, 0, 0))])
def test_duplicates_of_the_real_data(make, numbers, tmp_path):
    benchmark = make(root=REAL)
    if benchmark.missing() is not None:
        pytest.skip(benchmark.missing())
    faults, groups = benchmark.examine()
    found = duplicates.summary(groups)
    assert faults == []
    assert tuple(found[kind] for kind in duplicates.KINDS) == numbers
    once = make(make.Options(drop_duplicates=True), root=REAL)
    assert duplicates.identical({split: once._usable(split) for split in SPLITS}) == []
