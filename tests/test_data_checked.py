"""What is drawn is what is there, counted, and data are known by their content."""

from __future__ import annotations

import json
import logging
import os
import pickle

import numpy as np
import pytest
import torch
from images_made import SHORT, Own, coloured, draw, listed, refused, write_table
from PIL import Image

import harness
from benchmarks.fc100 import FC100
from benchmarks.glyphs import Glyphs
from benchmarks.miniimagenet import MiniImageNet
from benchmarks.omniglot import Omniglot
from harness.cli import main
from harness.datasets import store
from harness.datasets.class_images import ClassImages
from harness.problem.benchmark import SPLITS


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Nothing here writes to the person's own cache."""
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "user-cache")


# ---------------------------------------------------------------- what is there


def test_own_images_are_drawn_as_many_as_there_are():
    own = Own()
    assert own.missing() is None
    own.check(2, 1, 1)
    message = refused(own.check, 2, 2, 1)
    assert message == (
        "shots 2 + queries 1 for benchmark own: its test split has 2 images of class 'test 1', "
        "allowed: at most 2 together"
    )
    assert "its validation split has 2 classes, allowed: 2 to 2" in refused(own.check, 3, 1, 1)
    # also for a caller that has not checked
    assert "class 'test 1'" in refused(draw, own, "test", shots=2, queries=1)
    assert "ways 3" in refused(draw, own, "validation", ways=3)
    assert draw(own, "train", ways=3, shots=2, queries=1).support_x.shape == (20, 6, 1, 2, 3)


def test_a_constant_of_the_class_is_not_believed():
    class Boastful(Own):
        classes = dict.fromkeys(SPLITS, 100)

        def images_per_class(self, split):
            return 600

    assert "3 images of class 'train 0'" in refused(Boastful().check, 2, 20, 20)
    faults = Boastful().verify()
    assert "test: 3 classes, expected 100" in faults
    assert "train: class 'train 1' has 9 images, expected 600" in faults


@pytest.mark.parametrize("few", ["images", "classes"])
def test_a_run_is_refused_before_anything_is_written(tmp_path, monkeypatch, capsys, few):
    coloured(tmp_path / "data", each=4)
    rows = listed(tmp_path / "data", "test")
    write_table(tmp_path / "data", "test", rows[:-1] if few == "images" else rows[:4])
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    command = ["run", "--benchmark=miniimagenet", "--ways=3", "--shots=2", "--queries=2", "--iterations=1"]
    assert main([*command, f"--results={tmp_path / 'runs'}"]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    expected = "its test split has 3 images of class" if few == "images" else "its test split has 1 classes"
    assert expected in line
    assert not (tmp_path / "runs").exists()


def test_classes_of_cifar_pickles_and_omniglot_are_counted(tmp_path):
    rng = np.random.default_rng(0)
    for name, sizes in (("train", (5, 7)), ("val", (4, 4)), ("test", (3, 9))):
        content = {
            "data": rng.integers(0, 256, (sum(sizes), 32, 32, 3), dtype=np.uint8),
            "labels": np.repeat([0, 1], sizes).tolist(),
        }
        (tmp_path / f"FC100_{name}.pickle").write_bytes(pickle.dumps(content, 2))
    FC100(root=tmp_path).check(2, 1, 2)
    assert "its test split has 3 images of class 'label 0'" in refused(FC100(root=tmp_path).check, 2, 2, 2)
    assert "2 classes, allowed: 2 to 2" in refused(FC100(root=tmp_path).check, 5, 1, 1)
    for part, number in (("background", 3), ("evaluation", 2)):
        for alphabet in ("Armenian", "Greek") if part == "background" else ("Tibetan",):
            for character in (1, 2):
                for drawing in range(number):
                    path = tmp_path / "omniglot" / f"images_{part}" / alphabet / f"character{character:02d}"
                    path.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(rng.integers(0, 256, (28, 28), dtype=np.uint8)).save(path / f"{drawing}.png")
    Omniglot(root=tmp_path).check(2, 1, 1)
    assert "its test split has 2 images of class 'evaluation/Tibetan" in refused(Omniglot(root=tmp_path).check, 2, 1, 2)


# ---------------------------------------------------------------- known by content


def means(benchmark):
    return draw(benchmark, "test", ways=3).support_x.mean((2, 3, 4))


@pytest.mark.parametrize("again", ["another object", "the same object"])
@pytest.mark.parametrize("hide", ["nothing", "mtime", "mtime and inode"])
def test_pictures_replaced_under_the_same_names_and_sizes_are_noticed(tmp_path, again, hide):
    images = coloured(tmp_path).joinpath("miniimagenet", "images")
    first = MiniImageNet(root=tmp_path)
    first.check(2, 1, 1)
    before, version, sizes = means(first), first.version, {path: path.stat() for path in images.iterdir()}
    assert MiniImageNet(root=tmp_path).version == version
    if hide == "mtime and inode":  # written into the same files
        contents = {path.name: path for path in coloured(tmp_path / "other", seed=1).rglob("*.png")}
        for path in images.iterdir():
            path.open("r+b").write(contents[path.name].read_bytes())
    else:
        for path in images.iterdir():
            path.unlink()
        coloured(tmp_path, seed=1)
    for path, found in sizes.items():
        assert path.stat().st_size == found.st_size
        if hide != "nothing":
            os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    second = first if again == "the same object" else MiniImageNet(root=tmp_path)
    second.check(2, 1, 1)
    assert second.version != version
    assert not torch.equal(means(second), before)
    truth = MiniImageNet(root=coloured(tmp_path / "truth", seed=1))
    assert torch.equal(means(second), means(truth))
    assert truth.version == second.version


def test_the_same_pictures_are_the_same_data_wherever_they_lie(tmp_path):
    one, other = (MiniImageNet(root=coloured(tmp_path / name)) for name in ("one", "other"))
    assert one.version == other.version
    for split in SPLITS:  # without tables the names of the files tell the same
        (tmp_path / "other" / "miniimagenet" / f"{SHORT[split]}.csv").unlink()
    assert MiniImageNet(root=tmp_path / "other").version == one.version
    rows = listed(tmp_path / "one", "test")
    write_table(tmp_path / "one", "test", [*rows[1:4], ("n0193011200000000.png", rows[-1][1]), *rows[4:]])
    assert MiniImageNet(root=tmp_path / "one").version != one.version


def run(tmp_path, **options):
    config = harness.RunConfig(
        algo="fomaml",
        benchmark="miniimagenet",
        iterations=1,
        meta_batch=1,
        inner_steps=1,
        ways=2,
        shots=1,
        queries=1,
        eval_tasks=2,
        model_options={"filters": 2},
    )
    return harness.run(config, results=tmp_path / "runs", **options)


def test_a_run_of_other_pictures_is_another_run(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_DATA", str(coloured(tmp_path)))
    first = run(tmp_path)
    assert run(tmp_path)["run_dir"] == first["run_dir"]
    coloured(tmp_path, seed=1)
    second = run(tmp_path)
    assert second["run_dir"] != first["run_dir"]
    assert second["train_loss"] != first["train_loss"]
    coloured(tmp_path)
    assert run(tmp_path)["run_dir"] == first["run_dir"]


def test_changed_pickles_and_drawings_are_other_data(tmp_path):
    def write(seed):
        rng = np.random.default_rng(seed)
        for name in SHORT.values():
            content = {"data": rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8), "labels": [0, 0, 0, 1, 1, 1]}
            (tmp_path / f"FC100_{name}.pickle").write_bytes(pickle.dumps(content, 4))
        for part, alphabet in (("background", "Armenian"), ("background", "Greek"), ("evaluation", "Tibetan")):
            path = tmp_path / "omniglot" / f"images_{part}" / alphabet / "character01"
            path.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(rng.integers(0, 256, (28, 28), dtype=np.uint8))
            picture.save(path / "0001_01.png", compress_level=0)

    write(0)
    before = {make: make(root=tmp_path).version for make in (FC100, Omniglot)}
    sizes = {path: path.stat().st_size for path in tmp_path.rglob("*.p*") if path.is_file()}
    write(1)
    assert {path: path.stat().st_size for path in sizes} == sizes
    after = {make: make(root=tmp_path).version for make in (FC100, Omniglot)}
    assert all(after[make] != before[make] for make in before)
    write(0)
    assert {make: make(root=tmp_path).version for make in (FC100, Omniglot)} == before


def test_own_images_are_known_by_content():
    class Other(Own):
        def load_split(self, split):
            data = super().load_split(split)
            return ClassImages(data.images + np.uint8(split == "test"), data.counts, data.names)

    class Renamed(Own):
        data_version = "another"

    assert Own().version == Own().version == Renamed().version
    assert Other().version != Own().version


def test_a_subclass_that_reads_otherwise_is_not_known_by_its_base_files(tmp_path):
    coloured(tmp_path)

    class Dark(MiniImageNet):
        shade = 1

        def load_split(self, split):
            data = super().load_split(split)
            return ClassImages(data.images // self.shade, data.counts, data.names)

    first = Dark(root=tmp_path).version
    Dark.shade = 2
    assert Dark(root=tmp_path).version != first


def kept(tmp_path):
    """A root with kept images, and what they are."""
    coloured(tmp_path, each=2)
    benchmark = MiniImageNet(root=tmp_path)
    benchmark.check(2, 1, 1)
    return benchmark.version, sorted(tmp_path.glob("miniimagenet-84/*.bin")), sorted(tmp_path.glob("identities/*"))


@pytest.mark.parametrize("damage", ["torn", "one bit", "other images, whole", "what is remembered"])
def test_damaged_kept_images_are_noticed_and_made_anew(tmp_path, caplog, damage):
    version, files, (record,) = kept(tmp_path)
    assert len(files) == 3
    path = files[0]
    whole = path.read_bytes()
    right = means(MiniImageNet(root=tmp_path))
    if damage == "torn":
        path.write_bytes(whole[:-5])
    elif damage == "one bit":
        path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    elif damage == "other images, whole":
        data = store._read(path)
        store._write(path, ClassImages(255 - data.images, data.counts, data.names))
    else:
        known = json.loads(record.read_text())
        known["test"]["digest"] = "0" * 64
        record.write_text(json.dumps(known))
    with caplog.at_level(logging.WARNING, "harness"):
        benchmark = MiniImageNet(root=tmp_path)
        benchmark.check(2, 1, 1)
        assert torch.equal(means(benchmark), right)
        assert benchmark.version == version
    if damage in ("torn", "one bit"):
        assert f"{path} is damaged; its images are made anew" in [r.getMessage() for r in caplog.records]
    assert path.read_bytes() == whole
    assert json.loads(record.read_text())["test"]["digest"].encode() in whole
    assert MiniImageNet(root=tmp_path).version == version


def test_verify_decodes_anew_and_says_which_kept_images_were_wrong(tmp_path):
    _, files, _ = kept(tmp_path)
    data = store._read(files[1])
    store._write(files[1], ClassImages(255 - data.images, data.counts, data.names))
    files[0].write_bytes(b"class images")
    faults = MiniImageNet(root=tmp_path).verify()
    assert [fault for fault in faults if "made anew" in fault] == [
        f"{path} was not what its sources give, and has been made anew" for path in sorted(files[:2], key=split_of)
    ]
    assert not [fault for fault in MiniImageNet(root=tmp_path).verify() if "made anew" in fault]


def split_of(path):
    return SPLITS.index(path.name.partition("-")[0])


def test_verify_notices_other_glyphs(tmp_path, monkeypatch, capsys):
    few = {"train": "AB", "validation": "Ա", "test": "Ⴀ"}
    letters = {split: {letter: ["DejaVuSans.ttf"] for letter in few[split]} for split in SPLITS}
    monkeypatch.setattr("benchmarks.glyphs.letters", letters.__getitem__)
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    right = Glyphs(root=tmp_path).load_split("train")
    (path,) = tmp_path.glob("glyphs/*train*")
    wrong = ClassImages(right.images[::-1].copy(), right.counts, right.names)
    store._write(path, wrong)
    assert main(["data", "verify", "glyphs", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert f"{path} was not what its sources give, and has been made anew" in document["faults"]
    assert Glyphs(root=tmp_path).load_split("train").identity == right.identity


def test_nothing_is_decoded_where_no_file_has_changed(tmp_path, monkeypatch):
    version, *_ = kept(tmp_path)

    def never(*arguments):
        raise AssertionError("decoded again")

    monkeypatch.setattr("harness.datasets.picture_files.read_picture", never)
    benchmark = MiniImageNet(root=tmp_path)
    benchmark.check(2, 1, 1)
    assert benchmark.version == version
    draw(benchmark, "test")
