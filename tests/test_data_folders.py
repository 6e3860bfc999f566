"""Tables and folders of pictures as people have them: found and read right, or refused in one line."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import omniglot
from benchmarks.miniimagenet import MiniImageNet
from benchmarks.omniglot import Omniglot
from harness.cli import main
from harness.datasets.zips import read_zip
from harness.errors import InputError
from harness.problem.benchmark import SPLITS, data_root

SHORT = {"train": "train", "validation": "val", "test": "test"}
CLASSES = {
    "train": ("n01532829", "n01558993"),
    "validation": ("n01855672", "n02091244"),
    "test": ("n01930112", "n01981276"),
}
EACH = 3


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "user-cache")


def grey(label):
    """The grey of a class, by which it is known again in the pixels."""
    return 20 + 30 * sorted(name for names in CLASSES.values() for name in names).index(label)


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (84, 84), (value,) * 3).save(path, "PNG" if path.suffix.lower() == ".png" else "JPEG")


@pytest.fixture
def folder(tmp_path):
    """``images/`` with six classes of three pictures, and nothing beside it."""
    for label in (name for names in CLASSES.values() for name in names):
        for number in range(EACH):
            picture(tmp_path / "miniimagenet" / "images" / f"{label}{number:08d}.jpg", grey(label))
    return tmp_path / "miniimagenet"


def rows(split):
    return [(f"{label}{number:08d}.jpg", label) for label in CLASSES[split] for number in range(EACH)]


def table(folder, split, text, encoding="utf-8"):
    (folder / f"{SHORT[split]}.csv").write_bytes(text.encode(encoding))


def plain(split, comma=",", end="\n", each=rows):
    return end.join([f"filename{comma}label", *(f"{name}{comma}{label}" for name, label in each(split)), ""])


def assert_read(folder, each=EACH):
    """Both test classes are there under their names, each with its own grey and no other."""
    benchmark = MiniImageNet(root=folder.parent)
    assert benchmark.missing() is None
    data = benchmark.load_split("test")
    assert data.names == CLASSES["test"]
    assert data.counts == (each,) * 2
    for number, label in enumerate(data.names):
        assert abs(data.images[each * number : each * (number + 1)].astype(int) - grey(label)).max() <= 2
    benchmark.check(2, 1, each - 1)


def refused(folder, *words):
    with pytest.raises(InputError) as caught:
        MiniImageNet(root=folder.parent).check(2, 1, 1)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


TABLES = {
    "plain": (plain("test"), "utf-8"),
    "byte-order mark": (plain("test"), "utf-8-sig"),
    "UTF-16": (plain("test"), "utf-16"),
    "space after the comma": (plain("test", comma=", "), "utf-8"),
    "spaces around": (plain("test", comma="\t , "), "utf-8"),
    "CRLF": (plain("test", end="\r\n"), "utf-8"),
    "CR": (plain("test", end="\r"), "utf-8"),
    "no end": (plain("test").rstrip(), "utf-8"),
    "empty lines": (plain("test", end="\n\n"), "utf-8"),
    "quoted": ("\n".join(f'"{a}","{b}"' for a, b in [("filename", "label"), *rows("test")]), "utf-8"),
    "quoted after a space": ("\n".join(f'"{a}", "{b}"' for a, b in [("filename", "label"), *rows("test")]), "utf-8"),
    "columns exchanged": ("\n".join(f"{b},{a}" for a, b in [("filename", "label"), *rows("test")]), "utf-8"),
    "another column": (
        "\n".join(f"{n},{a},{b}" for n, (a, b) in enumerate([("filename", "label"), *rows("test")])),
        "utf-8",
    ),
    "capitals": (plain("test").replace("filename,label", "Filename,Label"), "utf-8"),
    "another order": (plain("test", each=lambda split: rows(split)[::-1]), "utf-8"),
    "repeated rows": (plain("test", each=lambda split: rows(split) * 10), "utf-8"),
    "with the class's folder": (plain("test", each=lambda split: [(f"{b}/{a}", b) for a, b in rows(split)]), "utf-8"),
    "another suffix": (plain("test").replace(".jpg", ".JPEG"), "utf-8"),
    "what macOS stores": (
        plain("test", each=lambda split: [(f"._{a}", b) for a, b in rows(split)] + rows(split)),
        "utf-8",
    ),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_is_read_as_it_is_meant(folder, kind):
    for split in ("train", "validation"):
        table(folder, split, plain(split))
    table(folder, "test", *TABLES[kind])
    if kind == "with the class's folder":
        for path in list((folder / "images").iterdir()):
            (folder / "images" / path.name[:9]).mkdir(exist_ok=True)
            path.rename(folder / "images" / path.name[:9] / path.name)
    assert_read(folder)


def test_repeated_rows_are_told_once(folder, caplog):
    table(folder, "test", *TABLES["repeated rows"])
    with caplog.at_level(logging.WARNING, "harness"):
        assert_read(folder)
        assert_read(folder)
    assert [record.getMessage() for record in caplog.records] == [
        f"{folder / 'test.csv'} names 54 images again; each is counted once"
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column 'filename'; columns: filename,label"),
        ("filename,label\n", "names no images"),
        ("file,label\na.jpg,n1\n", "no column 'filename'"),
        ("filename;label\na.jpg;n1\n", "columns: filename,label"),
        ("a.jpg,n1\n", "columns: filename,label"),
        ("filename,label\na.jpg\n", "line 2 has no file or no label"),
        ("filename,label\n,n1\n", "line 2 has no file or no label"),
        ("filename,label\nn0193011200000000.jpg, \n", "line 2 has no file or no label"),
        ("filename,label\nn0193011200000007.jpg,n01930112\n", "n0193011200000007.jpg is not there"),
        (plain("test") + "n0193011200000000.jpg,n01981276\n", "line 8 calls n0193011200000000.jpg 'n01981276'"),
        (plain("test") + "n0193011200000000.JPEG,n01981276\n", "line 8 calls"),
        ("filename,label\nn0193011200000000.jpg,n01930112\0\n", "test.csv"),
    ],
)
def test_a_table_that_says_nothing_or_two_things_is_refused(folder, text, words):
    table(folder, "test", text)
    refused(folder, "test", words)


def test_a_table_in_another_encoding_is_refused(folder):
    (folder / "test.csv").write_bytes(plain("test").encode() + b"\xff\xff.jpg,n1\n")
    refused(folder, "test.csv", "utf-8")


@pytest.mark.parametrize("end", [".JPG", ".JPEG", ".jpeg", ".png", ".PNG", ".Jpg"])
@pytest.mark.parametrize("layout", ["flat", "a folder a class", "split folders", "validation written out"])
def test_pictures_are_found_whatever_their_suffix_and_layout(tmp_path, end, layout):
    folder = tmp_path / "miniimagenet"
    for split in SPLITS:
        for label in CLASSES[split]:
            above = {
                "flat": folder / "images",
                "a folder a class": folder / "images" / label,
                "split folders": folder / SHORT[split] / label,
                "validation written out": folder / split / label,
            }[layout]
            for number in range(EACH):
                picture(above / f"{label}{number:08d}{end}", grey(label))
            # what macOS and Windows put there
            for name in (f"._{label}00000000{end}", ".DS_Store", "Thumbs.db", "desktop.ini"):
                (above / name).write_bytes(b"no picture")
    (folder / "__MACOSX").mkdir()
    for above in (folder, folder / "train", folder / "images"):
        (above / ".DS_Store").write_bytes(b"") if above.is_dir() else None
    assert_read(folder)
    assert MiniImageNet(root=folder).load_split("test").names == CLASSES["test"]  # the folder itself is named too


def test_a_class_without_pictures_is_not_dropped(tmp_path):
    for split in SPLITS:
        for label in CLASSES[split]:
            picture(tmp_path / "miniimagenet" / split / label / "a.png", grey(label))
            picture(tmp_path / "miniimagenet" / split / label / "b.png", grey(label) + 1)
    (tmp_path / "miniimagenet" / "test" / "empty").mkdir()
    refused(tmp_path / "miniimagenet", "has 0 images of class 'empty'")


def test_another_suffix_is_taken_only_where_one_picture_has_the_name(folder):
    for end, value in ((".png", 200), (".jpeg", 100)):
        picture(folder / "images" / f"n01930112{7:08d}{end}", value)
    table(folder, "test", plain("test") + f"n01930112{7:08d}.png,n01930112\n")
    assert MiniImageNet(root=folder.parent).load_split("test").images[EACH].max() == 200
    table(folder, "test", plain("test") + f"n01930112{7:08d}.jpg,n01930112\n")
    refused(folder, f"n01930112{7:08d}.jpg is not there")


def test_pictures_that_are_not_read_are_no_empty_class(folder):
    Image.new("RGB", (84, 84)).save(folder / "images" / "n0193011200000009.bmp")
    refused(folder, "n0193011200000009.bmp is not read; allowed: .jpg, .jpeg, .png")


def test_omniglot_ignores_what_an_operating_system_adds(tmp_path):
    for number, part in enumerate(omniglot.PARTS):
        for character in (1, 2):
            for drawing, end in enumerate((".png", ".PNG")):
                above = tmp_path / "omniglot" / f"images_{part}" / f"Alphabet{number}" / f"character{character:02d}"
                above.mkdir(parents=True, exist_ok=True)
                Image.new("1", (105, 105), drawing).save(above / f"{drawing}{end}", "PNG")
                (above / f"._{drawing}{end}").write_bytes(b"no picture")
        (tmp_path / "omniglot" / f"images_{part}" / "__MACOSX" / "a").mkdir(parents=True)
        (tmp_path / "omniglot" / f"images_{part}" / "__MACOSX" / "a" / "b.png").write_bytes(b"no picture")
    data = Omniglot(root=tmp_path).load_split("test")
    assert data.counts == (2, 2)
    for part in omniglot.PARTS:
        packed = shutil.make_archive(str(tmp_path / f"images_{part}"), "zip", tmp_path / "omniglot", f"images_{part}")
        assert len(list(read_zip(Path(packed), ".png"))) == 9
    zipped = Omniglot(root=tmp_path / "zips")
    (tmp_path / "zips").mkdir()
    for part in omniglot.PARTS:
        (tmp_path / f"images_{part}.zip").rename(tmp_path / "zips" / f"images_{part}.zip")
    assert zipped.load_split("test").identity == data.identity


def test_the_home_directory_is_meant_by_its_sign(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HARNESS_DATA", "~/data")
    assert data_root() == tmp_path / "home" / "data"
    monkeypatch.chdir(tmp_path)
    settings = tmp_path / "home" / "settings.yaml"
    settings.parent.mkdir()
    settings.write_text("iterations: 1\n")
    run = ["run", "--benchmark=sinusoid", "--eval-tasks=2", "--meta-batch=1", "--inner-steps=1", "--algo=fomaml"]
    assert main([*run, "--results=~/runs", "--config=~/settings.yaml"]) == 0
    capsys.readouterr()
    assert len(list((tmp_path / "home" / "runs").iterdir())) == 1
    assert not (tmp_path / "~").exists()
