"""Pictures of one's own in a folder: what they are known by, what is held out, and what is refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from images_made import refused
from PIL import Image

from benchmarks.folder import Folder
from harness.cli import main
from harness.problem.benchmark import SPLITS

TINY = ["--iterations=1", "--meta-batch=2", "--eval-tasks=2", "--inner-steps=1", "--ways=2", "--shots=1", "--queries=2"]
NAMES = [f"animal{number}" for number in range(10)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "user-cache")
    monkeypatch.chdir(tmp_path)


def put(folder, names=NAMES, each=3, first=0):
    """A folder a class, each class a shade of grey, each picture with a pixel of its own."""
    for number, name in enumerate(names, first):
        (folder / name).mkdir(parents=True)
        for place in range(each):
            pixels = np.full((16, 16, 3), 20 * number, np.uint8)
            pixels[0, 0] = place
            Image.fromarray(pixels).save(folder / name / f"{place}.PNG")
    return folder


def of(folder, **options):
    return Folder(Folder.Options(path=str(folder), size=16, **options))


def told(capsys, *words) -> dict:
    assert main(["run", *TINY, "--benchmark=folder", "--results=runs", "--json", *words]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def options(**values) -> str:
    return "--benchmark-options=" + yaml.safe_dump({"size": 16, **values}, default_flow_style=True).strip()


def test_the_same_pictures_in_another_folder_and_layout_are_the_same_run(tmp_path, capsys):
    put(tmp_path / "a")
    first = told(capsys, options(path="a"))
    config = yaml.safe_load((Path(first["run_dir"]) / "config.yaml").read_text())
    assert config["benchmark_options"]["path"] == str(tmp_path / "a")  # as it is found from everywhere
    held = {split: of(tmp_path / "a").load_split(split).names for split in SPLITS}
    for split in SPLITS:
        for name in held[split]:
            shutil.copytree(tmp_path / "a" / name, tmp_path / "b" / split / name)
    shutil.rmtree(tmp_path / "a")
    assert told(capsys, options(path="b"))["run_dir"] == first["run_dir"]
    Image.fromarray(np.full((16, 16, 3), 7, np.uint8)).save(tmp_path / "b" / "train" / held["train"][0] / "0.PNG")
    assert told(capsys, options(path="b"))["run_dir"] != first["run_dir"]


def test_what_is_held_out_is_told_and_goes_by_the_seed_alone(tmp_path, caplog):
    put(tmp_path / "a")
    held = {seed: of(tmp_path / "a", split_seed=seed).load_split("test").names for seed in range(8)}
    assert len(set(held.values())) > 1
    assert of(tmp_path / "a").load_split("test").names == held[0]
    of(tmp_path / "a").check(2, 1, 1)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.endswith("classes are split by split_seed 0 (train 6, validation 2, test 2)")
    (tmp_path / "a" / held[0][0]).rename(tmp_path / "a" / "zebra")  # others stay where they are, but for its place
    assert len(set(of(tmp_path / "a").load_split("test").names) & set(held[0])) >= 1


def test_only_what_is_missing_is_made(tmp_path):
    put(tmp_path / "a" / "Train")
    put(tmp_path / "a" / "test", ["x", "y"], first=10)
    benchmark = of(tmp_path / "a")
    names = {split: benchmark.load_split(split).names for split in SPLITS}
    assert names["test"] == ("x", "y")
    assert len(names["validation"]) == 2
    assert sorted(names["train"] + names["validation"]) == NAMES


def test_grey_and_size(tmp_path):
    put(tmp_path / "a")
    assert of(tmp_path / "a", grey=True).load_split("train").images.shape == (18, 1, 16, 16)
    images = Folder(Folder.Options(path=str(tmp_path / "a"), size=20)).load_split("train").images
    assert images.shape == (18, 3, 20, 20)


def test_a_class_called_train_is_a_class(tmp_path):
    put(tmp_path / "a", ["train", "car", "bus", "tram", "bike"])
    benchmark = of(tmp_path / "a")
    assert sum(len(benchmark.load_split(split).names) for split in SPLITS) == 5


def few(tmp_path):
    put(tmp_path / "a")
    (tmp_path / "a" / "animal3" / "2.PNG").unlink()


def empty(tmp_path):
    (put(tmp_path / "a") / "none").mkdir()


def flat(tmp_path):
    shutil.copy(put(tmp_path / "a") / "animal0" / "0.PNG", tmp_path / "a")


def no_train(tmp_path):
    put(tmp_path / "a" / "val")
    put(tmp_path / "a" / "test")


def numbers_twice(tmp_path):
    for split in ("train", "val", "test"):
        put(tmp_path / "a" / split, ["0", "1", "2"])


def torn(tmp_path):
    (put(tmp_path / "a") / "animal1" / "1.PNG").write_bytes(b"\x89PNG torn")


def another_kind(tmp_path):
    (put(tmp_path / "a") / "animal1" / "1.webp").write_bytes(b"RIFF")


BAD = {
    few: "images of class 'animal3'",
    empty: "has 0 images of class 'none'",
    flat: "0.PNG is of no class; allowed: a folder for each class",
    no_train: "has no train/",
    numbers_twice: "class '0' is in both train and validation",
    torn: "1.PNG is no readable PNG or JPEG",
    another_kind: "1.webp is not read; allowed: .jpg, .jpeg, .png",
    lambda tmp_path: None: "a is no folder",
    lambda tmp_path: (tmp_path / "a").mkdir(): "the train split of folder has no class with pictures",
}


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__.strip("<>"))
def test_a_folder_that_will_not_do_is_one_line(tmp_path, capsys, make):
    make(tmp_path)
    words = ["run", *TINY, "--benchmark=folder", options(path="a"), "--results=runs"]
    assert main(words) == 2
    said = [line for line in capsys.readouterr().err.strip().splitlines() if "split_seed" not in line]
    assert len(said) == 1
    assert BAD[make] in said[0]
    assert not list(tmp_path.glob("runs/*"))


def test_without_a_path_it_is_said_how_to_give_one(capsys):
    assert main(["run", *TINY, "--benchmark=folder", "--results=runs"]) == 2
    assert "--benchmark-options '{path: FOLDER}'" in capsys.readouterr().err
    assert "is no folder" in refused(of("nowhere").check, 2, 1, 1)


def test_data_verify_looks_for_identical_pictures_in_a_path(tmp_path, capsys):
    put(tmp_path / "a")
    assert main(["data", "verify", "folder", "--path", "a", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["duplicates"]["groups"] == []
    one = next((tmp_path / "a").glob("*/0.PNG"))
    shutil.copy(one, one.with_name("again.png"))
    assert main(["data", "verify", "folder", "--path", "a", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["duplicates"]["within_class"] == 1
    assert main(["data", "verify", "folder"]) == main(["data", "verify", "table", "--path", "nowhere.csv"]) == 2
    assert main(["data", "prepare", "table"]) == main(["data", "verify", "fc100", "--path", "a"]) == 2
    assert "unknown option of fc100 'path'" in capsys.readouterr().err
