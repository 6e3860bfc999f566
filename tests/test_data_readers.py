"""Readers of data sets on disk: every layout is read, nothing that a file asks for is done."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import subprocess
import tarfile
import zipfile
import zlib
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import miniimagenet, omniglot
from benchmarks.cifar_fs import CIFARFS
from benchmarks.fc100 import FC100
from benchmarks.miniimagenet import MiniImageNet
from benchmarks.omniglot import Omniglot, OmniglotOptions
from harness.datasets import cifar100, downloads
from harness.datasets.pickles import read_pickle
from harness.datasets.pictures import read_picture
from harness.datasets.splits import published
from harness.datasets.zips import read_zip
from harness.errors import HarnessError, InputError
from harness.problem.benchmark import SPLITS, TaskShape

REAL = Path(os.environ.get("HARNESS_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Nothing here writes to the person's own cache."""
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "user-cache")


def refused(call, *arguments):
    """The message of the error, which has to be one line."""
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def dump(path, content, protocol=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol))
    return path


# ---------------------------------------------------------------- pickles


class Call:
    """Pickles to a call of ``function``."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_and_containers_are_read(tmp_path, protocol):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    content = {
        "a": array,
        b"fortran": np.asfortranarray(array.astype(">i4")),
        "list": [1, 2.5, "text", None, True, (1, 2)],
        "scalar": np.int64(-3),
        "bytes": b"\x00\xff",
        "empty": np.zeros((0, 3), np.float32),
    }
    read = read_pickle(dump(tmp_path / "p", content, protocol))
    assert set(read) == {"a", "fortran", "list", "scalar", "bytes", "empty"}
    assert np.array_equal(read["a"], array)
    assert np.array_equal(read["fortran"], array)
    assert read["list"] == content["list"]
    assert read["scalar"] == -3
    assert read["bytes"] == b"\x00\xff"
    assert read["empty"].shape == (0, 3)


def test_pickles_of_python_2_and_older_numpy_are_read(tmp_path):
    # cPickle of Python 2, protocol 2: {'data': array([[1, 2]], dtype=uint8)}, with numpy.core and byte strings
    raw = (
        b"\x80\x02}U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01K\x02\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x02\x01\x02tbs."
    )
    (tmp_path / "old").write_bytes(raw)
    assert read_pickle(tmp_path / "old")["data"].tolist() == [[1, 2]]


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("where", ["top", "inside"])
def test_a_pickle_that_calls_something_is_refused_and_nothing_runs(tmp_path, protocol, where):
    flag = tmp_path / "executed"
    for call in (
        Call(os.system, f"touch {flag}"),
        Call(eval, f"open({str(flag)!r}, 'w')"),
        Call(subprocess.check_output, ["touch", str(flag)]),
        Call(np.load, str(flag)),
    ):
        path = dump(tmp_path / "bad", {"data": [call]} if where == "inside" else call, protocol)
        message = refused(read_pickle, path)
        assert str(path) in message
        assert "allowed: arrays of numbers and plain containers" in message
        assert not flag.exists()


def test_arrays_of_objects_and_records_are_refused(tmp_path):
    for array in (np.array([{}, []], dtype=object), np.zeros(2, "i4,f4"), np.array(["text"]), np.zeros(1, "O,i4")):
        assert "refused" in refused(read_pickle, dump(tmp_path / "bad", {"data": array}))


def test_torn_and_lying_pickles_are_refused(tmp_path):
    good = pickle.dumps({"data": np.arange(10, dtype=np.uint8)}, 2)
    path = tmp_path / "bad"
    for content in (
        b"",
        good[:-5],
        b"no pickle",
        pickle.dumps([1]),
        good.replace(b"K\n\x85", b"K\x0b\x85"),  # the shape says 11
        b"\x80\x02" + b"(" * 50_000,
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",  # 8 EiB of bytes
        b"\x80\x02cnumpy\nndarray\n)R.",  # never filled
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00zlib\x86R.",
        b"\x80\x02}X\x01\x00\x00\x00a" + b"\x8c\x02os\x8c\x06system\x93s.",
    ):
        path.write_bytes(content)
        refused(read_pickle, path)
    assert "cannot be read" in refused(read_pickle, tmp_path / "absent")


# ---------------------------------------------------------------- CIFAR-100


@pytest.fixture
def cifar(tmp_path):
    """A folder with all 100 classes in the layout of torchvision, six images each."""
    fine = {}
    for superclass in chain(*published("fc100").values()):
        fine[superclass] = [f"{superclass}-{i}" for i in range(5)]
    real = sorted(chain(*published("cifar_fs").values()))
    coarse = sorted(fine)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(100), 6)
    pixels = rng.integers(0, 256, (600, 3072), dtype=np.uint8)
    pixels[:, 0] = labels
    for part, rows in (("train", slice(0, None, 2)), ("test", slice(1, None, 2))):
        content = {
            "data": pixels[rows],
            "fine_labels": labels[rows].tolist(),
            "coarse_labels": (labels[rows] // 5).tolist(),
        }
        dump(tmp_path / "cifar-100-python" / part, {key.encode(): value for key, value in content.items()})
    dump(tmp_path / "cifar-100-python" / "meta", {"fine_label_names": real, "coarse_label_names": coarse})
    return tmp_path


def test_fc100_is_split_by_superclass(cifar):
    benchmark = FC100(root=cifar)
    assert benchmark.missing() is None
    names = published("cifar_fs")
    real, coarse = sorted(chain(*names.values())), sorted(chain(*published("fc100").values()))
    for split in SPLITS:
        data = benchmark.load_split(split)
        assert data.images.shape == (6 * benchmark.classes[split], 3, 32, 32)
        for number, name in enumerate(data.names):
            assert (data.images[6 * number : 6 * number + 6, 0, 0, 0] == real.index(name)).all()
            assert coarse[real.index(name) // 5] in published("fc100")[split]
    faults = benchmark.verify()
    assert len(faults) == 3
    assert faults[0] == "train: a class has 6 images, expected 600"


def test_repacking_cifar_changes_no_task(cifar):
    def task():
        batch = CIFARFS(root=cifar).draw(
            "train", 3, 2, TaskShape(1, ways=5, shots=2, queries=3), torch.device("cpu"), torch.float32
        )
        return batch.support_x, batch.query_x

    before = task()
    folder = cifar / "cifar-100-python"
    parts = {part: read_pickle(folder / part) for part in ("train", "test")}
    for part, other in (("train", "test"), ("test", "train")):
        dump(folder / part, {key: value[::-1] for key, value in parts[other].items()}, protocol=5)
    for old, new in zip(before, task(), strict=True):
        assert torch.equal(old, new)


def test_cifar_fs_has_the_published_classes(cifar):
    for split in SPLITS:
        assert list(CIFARFS(root=cifar).load_split(split).names) == sorted(published("cifar_fs")[split])
    assert CIFARFS(root=cifar / "cifar-100-python").missing() is None


def test_a_damaged_cifar_folder_is_named(cifar):
    path = cifar / "cifar-100-python" / "train"
    for content in (
        {},
        {"data": 3, "fine_labels": [1], "coarse_labels": [1]},
        {"data": np.zeros((1, 3072), np.uint8), "fine_labels": [1, 2], "coarse_labels": [1]},
        {"data": np.zeros((1, 3072), np.uint8), "fine_labels": [-1], "coarse_labels": [1]},
        {"data": np.zeros((1, 3072), np.uint8), "fine_labels": ["x"], "coarse_labels": [1]},
    ):
        dump(path, content)
        assert str(path) in refused(FC100(root=cifar).load_split, "train")
    dump(path, {"data": np.zeros((1, 3072), np.uint8), "fine_labels": [100], "coarse_labels": [1]})
    assert "no name in meta" in refused(FC100(root=cifar).load_split, "train")


def test_fc100_pickles(tmp_path):
    rng = np.random.default_rng(0)
    for number, name in enumerate(("train", "val", "test")):
        images = rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
        dump(tmp_path / f"FC100_{name}.pickle", {b"data": images, b"labels": [7 + number, 9, 9, 9, 7 + number, 9]})
    benchmark = FC100(root=tmp_path)
    data = benchmark.load_split("train")
    assert data.counts == (2, 4)
    assert data.names == ("label 7", "label 9")
    assert data.images.shape == (6, 3, 32, 32)
    assert "class 'label 9' is in both train and validation" in benchmark.verify()
    dump(tmp_path / "FC100_val.pickle", {"data": np.zeros((2, 3)), "labels": [1, 2]})
    assert "FC100_val.pickle" in refused(benchmark.load_split, "validation")


# ---------------------------------------------------------------- miniImageNet


def test_miniimagenet_pickles(tmp_path):
    for name in ("train", "val", "test"):
        images = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((4, 84, 84, 3), np.uint8)
        content = {"image_data": images, "class_dict": {f"n2-{name}": [0, 2], f"n1-{name}": np.array([3, 1])}}
        dump(tmp_path / "miniimagenet" / f"mini-imagenet-cache-{name}.pkl", content)
    data = MiniImageNet(root=tmp_path).load_split("validation")
    assert data.names == ("n1-val", "n2-val")
    assert data.images.shape == (4, 3, 84, 84)
    assert data.images[:, 0, 0, 0].tolist() == [3, 1, 0, 2]
    dump(
        tmp_path / "miniimagenet" / "mini-imagenet-cache-test.pkl", {"image_data": images, "class_dict": {"n": [0, 4]}}
    )
    assert "mini-imagenet-cache-test.pkl" in refused(MiniImageNet(root=tmp_path).load_split, "test")


@pytest.fixture
def mini_folder(tmp_path):
    images = tmp_path / "miniimagenet" / "images"
    images.mkdir(parents=True)
    for split in SPLITS:
        for label in published("miniimagenet")[split][:2]:
            for number in range(3):
                Image.new("RGB", (100, 60), (40 * number, 0, 0)).save(images / f"{label}{number:08d}.jpg")
    return tmp_path


def test_miniimagenet_folder_without_and_with_its_tables(mini_folder):
    benchmark = MiniImageNet(root=mini_folder)
    data = benchmark.load_split("test")
    assert data.names == tuple(published("miniimagenet")["test"][:2])
    assert data.images.shape == (6, 3, 84, 84)
    (mini_folder / "miniimagenet" / "test.csv").write_text(
        f"filename,label\n{data.names[1]}00000002.jpg,{data.names[1]}\n"
    )
    listed = benchmark.load_split("test")
    assert listed.counts == (1,)
    assert listed.images[0, 0].mean() == pytest.approx(80, abs=3)


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "a\\..\\b.jpg"])
def test_a_table_that_names_files_elsewhere_is_refused(mini_folder, name):
    (mini_folder / "miniimagenet" / "test.csv").write_text(f"filename,label\n{name},n1\n")
    assert "no plain file name" in refused(MiniImageNet(root=mini_folder).load_split, "test")
    (mini_folder / "miniimagenet" / "test.csv").write_text("something,else\n1,2\n")
    assert "filename,label" in refused(MiniImageNet(root=mini_folder).load_split, "test")


def test_a_missing_data_set_says_where_it_belongs(tmp_path):
    for benchmark in (MiniImageNet, Omniglot, FC100, CIFARFS):
        message = refused(benchmark(root=tmp_path).check, 5, 1, 1)
        assert str(tmp_path) in message
    assert "cannot be downloaded" in refused(MiniImageNet(root=tmp_path).prepare)


# ---------------------------------------------------------------- pictures and zips


def png(size=(105, 105), colour=1):
    file = io.BytesIO()
    Image.new("1", size, colour).save(file, "PNG")
    return file.getvalue()


def test_pictures_that_lie_about_their_size_are_refused():
    honest = png()
    huge = honest[:16] + (60_000).to_bytes(4, "big") * 2 + honest[24:]
    huge = huge[:29] + zlib.crc32(huge[12:29]).to_bytes(4, "big") + huge[33:]
    assert "60000" in refused(read_picture, huge, "a.png", "L", 28) or "exceeds" in refused(
        read_picture, huge, "a.png", "L", 28
    )
    for bad in (b"", honest[:60], b"GIF89a" + bytes(100)):
        assert "a.png" in refused(read_picture, bad, "a.png", "L", 28)


def write_zip(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "/evil.png", "..\\evil.png", "C:\\evil.png"])
def test_a_zip_that_reaches_outside_itself_is_refused(tmp_path, name):
    path = write_zip(tmp_path / "z.zip", {"a/b/c.png": b"1", name: b"2"})
    assert "outside the archive" in refused(lambda: list(read_zip(path, ".png")))


def test_zip_bombs_and_torn_zips_are_refused(tmp_path):
    bomb = write_zip(tmp_path / "bomb.zip", {"a/b/c.png": bytes(1 << 21)})
    assert "would grow" in refused(lambda: list(read_zip(bomb, ".png")))
    good = write_zip(tmp_path / "good.zip", {"a/b/c.png": bytes(range(256)) * 20})
    content = good.read_bytes()
    for torn in (content[:-10], b"", content[:40] + b"\xff\xff\xff" + content[43:]):
        good.write_bytes(torn)
        assert str(good) in refused(lambda: list(read_zip(good, ".png")))


def omniglot_members(part):
    alphabets = {"background": ["Armenian", "Greek"], "evaluation": ["Tibetan"]}[part]
    return {
        f"images_{part}/{alphabet}/character{number:02d}/{number:04d}_{drawer:02d}.png": png(colour=drawer % 2)
        for alphabet in alphabets
        for number in (1, 2)
        for drawer in (1, 2)
    }


@pytest.mark.parametrize("unpacked", [False, True])
def test_omniglot_zips_and_folders(tmp_path, unpacked):
    for part in omniglot.PARTS:
        if unpacked:
            for name, content in omniglot_members(part).items():
                path = tmp_path / "omniglot" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        else:
            write_zip(tmp_path / "omniglot-py" / f"images_{part}.zip", omniglot_members(part))
    for _ in range(2):  # the second time from the kept pictures
        benchmark = Omniglot(root=tmp_path)
        assert benchmark.load_split("test").names == (
            "evaluation/Tibetan/character01",
            "evaluation/Tibetan/character02",
        )
        assert benchmark.load_split("validation").names[0] == "background/Armenian/character01"
        train = benchmark.load_split("train")
        assert train.names == ("background/Greek/character01", "background/Greek/character02")
        # The white picture is without ink and the black one is all ink.
        assert train.images[:, 0, 5, 5].tolist() == [0, 255, 0, 255]
    turned = Omniglot(OmniglotOptions(split="vinyals", rotations=True), root=tmp_path)
    assert turned.classes == {"train": 4112, "validation": 172, "test": 423}
    data = turned.load_split("train")
    assert len(data.names) == len(data.counts) == 8
    assert len(set(data.names)) == 8
    assert len(data.images) == 16


# ---------------------------------------------------------------- downloads


CONTENT = b"what the server has" * 1000
URL, MD5 = "https://example.org/file", hashlib.md5(CONTENT).hexdigest()


class Response(io.BytesIO):
    def __init__(self, url: str, content: bytes) -> None:
        super().__init__(content)
        self.url, self.length = url, len(content)


@pytest.fixture
def server(monkeypatch):
    """Says what ``server.content`` is, whatever is asked for; None is no network."""
    found = SimpleNamespace(content=CONTENT)

    def asked(request, timeout=None):
        if found.content is None:
            raise OSError("<urlopen error\nno network>")
        return Response(request.full_url, found.content)

    monkeypatch.setattr("urllib.request.urlopen", asked)
    return found


def test_a_failed_download_is_one_line_and_stdout_stays_clean(tmp_path, capsys, server):
    server.content = None
    with pytest.raises(HarnessError, match=r"CIFAR-100 could not be downloaded .*: <urlopen error no network>"):
        FC100(root=tmp_path).prepare()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "downloading CIFAR-100" in captured.err
    assert not list(tmp_path.iterdir())


def test_a_download_has_its_name_only_when_it_is_whole_and_the_file_that_is_known(tmp_path, server):
    downloads.fetch(URL, MD5, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    for content in (CONTENT[:-1], CONTENT[:-1] + b"!", CONTENT * 9):
        server.content = content
        with pytest.raises(RuntimeError, match="corrupted"):
            downloads.fetch(URL, MD5, tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_cifar_100_is_unpacked_by_name_and_nothing_else_of_the_archive_is_written(tmp_path, server, monkeypatch):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name in ("../outside", *(f"{cifar100.FOLDER}/{part}" for part in cifar100.PARTS)):
            member = tarfile.TarInfo(name)
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    server.content = file.getvalue()
    monkeypatch.setattr("torchvision.datasets.CIFAR100.tgz_md5", hashlib.md5(server.content).hexdigest())
    root = tmp_path / "data"
    assert FC100(root=root).prepare() == str(root)
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert found == [f"data/{cifar100.FOLDER}/{part}" for part in sorted(cifar100.PARTS)]
    assert (root / cifar100.FOLDER / "meta").read_text() == f"{cifar100.FOLDER}/meta"


# ---------------------------------------------------------------- the real data


def real(benchmark):
    if benchmark.missing() is not None:
        pytest.skip(benchmark.missing())
    return benchmark


@pytest.mark.data
@pytest.mark.parametrize("make", [FC100, CIFARFS])
def test_real_cifar_splits(make):
    benchmark = real(make(root=REAL))
    assert benchmark.verify() == []
    for split in SPLITS:
        data = benchmark.load_split(split)
        assert set(data.counts) == {600}
        assert len(data.counts) == benchmark.classes[split]


@pytest.mark.data
@pytest.mark.parametrize("kind", ["original", "vinyals"])
@pytest.mark.parametrize("rotations", [False, True])
def test_real_omniglot_splits(kind, rotations):
    benchmark = real(Omniglot(OmniglotOptions(split=kind, rotations=rotations), root=REAL))
    assert benchmark.verify() == []


@pytest.mark.data
def test_real_miniimagenet_split():
    assert real(MiniImageNet(root=REAL)).verify() == []
    assert miniimagenet.SHORT["validation"] == "val"
