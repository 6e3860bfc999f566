"""Benchmarks: the same tasks whatever asks for them, no leaks between splits, the mathematics they promise."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from benchmarks import glyphs
from benchmarks.fc100 import FC100
from benchmarks.glyphs import Glyphs
from benchmarks.quadratic import Quadratic, QuadraticOptions
from benchmarks.sinusoid import Sinusoid
from harness.datasets import held
from harness.datasets.class_images import ClassImages
from harness.datasets.drawing import _moved, distinct
from harness.datasets.images import ImageBenchmark
from harness.datasets.store import stored
from harness.errors import InputError
from harness.problem.benchmark import SPLITS, TaskShape
from harness.problem.tasks import random_bits

CPU = torch.device("cpu")


class Numbered(ImageBenchmark):
    """Every image says which class and which example it is, so that tests can see what was drawn."""

    name = "numbered"
    summary = "made for tests"
    data_version = "1"
    shape = (1, 1, 2)
    classes = {"train": 12, "validation": 6, "test": 5}

    def images_per_class(self, split):
        return 9

    def missing(self):
        return None

    def load_split(self, split):
        counts = tuple(9 + number for number in range(self.classes[split]))
        base = 100 * SPLITS.index(split)
        pixels = [[base + number, example] for number, count in enumerate(counts) for example in range(count)]
        names = tuple(f"{split} {number}" for number in range(len(counts)))
        return ClassImages(np.array(pixels, np.uint8).reshape(-1, 1, 1, 2), counts, names)


def draw(benchmark, split="train", first=0, tasks=4, seed=0, ways=None, shots=3, queries=4, dtype=torch.float64):
    ways = ways or (1 if benchmark.loss == "mse" else 5)
    return benchmark.draw(split, first, tasks, TaskShape(seed, ways, shots, queries), CPU, dtype)


def parts(batch):
    return batch.support_x, batch.support_y, batch.query_x, batch.query_y


def quadratic(dim_w, dim_phi):
    """Matrices of many sizes, since BLAS and LAPACK round by size and place in memory."""
    return lambda: Quadratic(QuadraticOptions(dim_w=dim_w, dim_phi=dim_phi))


@pytest.mark.parametrize("make", [Numbered, Sinusoid, Quadratic, quadratic(8, 64), quadratic(33, 7)])
@pytest.mark.parametrize("split", SPLITS)
def test_a_task_does_not_depend_on_the_batch_it_is_drawn_in(make, split):
    together = draw(make(), split, 0, 13)
    for start, stop in ((0, 1), (1, 8), (8, 13)):
        apart = draw(make(), split, start, stop - start)
        for whole, piece in zip(parts(together), parts(apart), strict=True):
            assert torch.equal(whole[start:stop], piece)


@pytest.mark.parametrize("make", [Numbered, Sinusoid, Quadratic], ids=lambda make: make.name)
def test_seeds_splits_and_tasks_differ(make):
    batch = draw(make())
    assert not torch.equal(batch.support_x, draw(make(), seed=1).support_x)
    assert not torch.equal(batch.support_x, draw(make(), "test").support_x)
    assert not torch.equal(batch.support_x[0], batch.support_x[1])


def test_classes_are_distinct_and_support_and_query_share_no_image():
    seen_classes, seen_examples = set(), set()
    batch = draw(Numbered(), tasks=300)
    assert batch.support_x.shape == (300, 15, 1, 1, 2)
    assert batch.query_x.shape == (300, 20, 1, 1, 2)
    for sx, sy, qx, qy in zip(*parts(batch), strict=True):
        assert sy.tolist() == [label for label in range(5) for _ in range(3)]
        assert qy.tolist() == [label for label in range(5) for _ in range(4)]
        support = (sx.reshape(15, 2) * 255).round().long().tolist()
        query = (qx.reshape(20, 2) * 255).round().long().tolist()
        drawn = {tuple(pair) for pair in support + query}
        assert len(drawn) == 35
        labels = {
            (number, label) for (number, _), label in zip(support + query, sy.tolist() + qy.tolist(), strict=True)
        }
        assert len(labels) == 5
        seen_classes |= {number for number, _ in drawn}
        seen_examples |= drawn
    assert seen_classes == set(range(12))
    # Unequal classes: every image is drawn in the end, and none beyond the end of its class.
    assert seen_examples == {(number, example) for number in range(12) for example in range(9 + number)}


def test_images_of_one_split_never_appear_in_another():
    drawn = [
        set((draw(Numbered(), split, tasks=50).query_x[..., 0] * 255).round().flatten().tolist()) for split in SPLITS
    ]
    assert len(set.union(*drawn)) == sum(map(len, drawn))


def test_distinct_draws_every_arrangement_equally_often():
    n = 30_000
    bits = random_bits(3, torch.arange(n)[:, None], torch.arange(3)).numpy()
    cells = np.bincount(distinct(bits, np.full(n, 5)) @ [25, 5, 1], minlength=125)
    assert (cells > 0).sum() == 60
    assert ((cells[cells > 0] - n / 60) ** 2 / (n / 60)).sum() < 99.6  # chi-squared, 59 degrees, p = 0.0008


def test_distinct_can_draw_everybody():
    bits = random_bits(0, torch.arange(20)[:, None], torch.arange(9)).numpy()
    assert (np.sort(distinct(bits, np.full(20, 9)), axis=1) == np.arange(9)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_images_are_scaled_to_the_unit_interval(dtype):
    batch = draw(Numbered(), dtype=dtype)
    assert batch.support_x.dtype == dtype
    assert batch.support_x.max() <= 1
    exact = draw(Numbered()).support_x
    assert torch.allclose(batch.support_x.double(), exact, rtol=torch.finfo(dtype).eps)


def test_check_says_what_is_too_many(tmp_path):
    with pytest.raises(InputError, match=r"ways 6 .* allowed: 2 to 5"):
        Numbered().check(6, 1, 1)
    with pytest.raises(InputError, match=r"shots 5 \+ queries 5"):
        Numbered().check(5, 5, 5)
    with pytest.raises(InputError, match=r"ways 2 .* allowed: 1"):
        Sinusoid().check(2, 10, 10)
    with pytest.raises(InputError, match="harness data prepare fc100"):
        FC100(root=tmp_path).check(5, 5, 5)


def test_sinusoids_have_the_published_ranges():
    batch = draw(Sinusoid(), tasks=2000, shots=50, queries=7)
    assert batch.support_x.shape == (2000, 50, 1)
    assert batch.query_y.shape == (2000, 7, 1)
    x, y = batch.support_x[..., 0], batch.support_y[..., 0]
    assert -5 <= x.min() < -4.99
    assert 4.99 < x.max() <= 5
    # y = p sin x + q cos x with p = A cos b and q = -A sin b; least squares recovers both exactly.
    solution = torch.linalg.lstsq(torch.stack([x.sin(), x.cos()], -1), y[..., None]).solution[..., 0]
    amplitude = solution.norm(dim=1)
    phase = torch.atan2(-solution[:, 1], solution[:, 0])
    assert 0.1 - 1e-9 <= amplitude.min() < 0.12
    assert 4.98 < amplitude.max() <= 5 + 1e-9
    assert -1e-9 <= phase.min() < 0.01
    assert torch.pi - 0.01 < phase.max() <= torch.pi + 1e-9


@pytest.mark.parametrize(
    "options", [{}, {"dim_w": 4, "dim_phi": 3, "mu": 0.5, "L": 20.0}, {"dim_w": 1, "mu": 1.0}], ids=str
)
def test_quadratics_attain_both_ends_of_the_spectrum(options):
    benchmark = Quadratic(QuadraticOptions(**options))
    option = benchmark.options
    batch = draw(benchmark, tasks=20)
    for x, y in ((batch.support_x, batch.support_y), (batch.query_x, batch.query_y)):
        assert x.shape == (20, option.dim_w, *benchmark.input_shape)
        assert y.shape == (20, option.dim_w, 1)
        for task in range(20):

            def loss(w, task=task, x=x, y=y):
                phi = torch.ones(option.dim_phi, dtype=torch.float64)
                prediction = x[task, :, : option.dim_phi] @ phi + x[task, :, option.dim_phi :] @ w
                return ((prediction - y[task, :, 0]) ** 2).mean()

            hessian = torch.autograd.functional.hessian(loss, torch.zeros(option.dim_w, dtype=torch.float64))
            values = torch.linalg.eigvalsh(hessian)
            assert values[0].item() == pytest.approx(option.mu, rel=1e-12)
            assert values[-1].item() == pytest.approx(option.L, rel=1e-12)


@pytest.mark.parametrize("options", [{"mu": 2.0}, {"mu": 0.0}, {"dim_w": 1}, {"L": float("inf")}, {"typo": 1}], ids=str)
def test_impossible_quadratics_are_refused(options):
    with pytest.raises(ValidationError):
        QuadraticOptions(**options)


def test_glyphs_are_the_same_bytes_every_time(tmp_path):
    few = dict(list(glyphs.letters("test").items())[::20])
    first, second = glyphs.render(few), glyphs.render(few)
    assert first.images.tobytes() == second.images.tobytes()
    assert first.images.shape == (25 * len(few), 1, 28, 28)
    # A letter's pictures do not depend on which other letters there are.
    last = dict([list(few.items())[-1]])
    assert glyphs.render(last).images.tobytes() == first.images[-25:].tobytes()
    program = (
        "import hashlib\nfrom benchmarks import glyphs\n"
        "few = dict(list(glyphs.letters('test').items())[::20])\n"
        "print(hashlib.sha256(glyphs.render(few).images.tobytes()).hexdigest())"
    )
    import hashlib

    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    assert other == hashlib.sha256(first.images.tobytes()).hexdigest()


def test_glyphs_are_split_by_script():
    found = {split: glyphs.letters(split) for split in SPLITS}
    assert {split: len(letters) for split, letters in found.items()} == Glyphs.classes
    assert all(len(faces) >= 8 for letters in found.values() for faces in letters.values())
    assert "A" in found["train"]
    assert "А" not in found["train"]  # the Cyrillic one, which looks the same  # noqa: RUF001
    assert "é" not in found["train"]


def test_glyphs_have_ink_and_are_learnable_from_means():
    data = glyphs.render(dict(list(glyphs.letters("validation").items())[:20]))
    images = data.images.reshape(20, 25, -1).astype(float) / 255
    assert images.reshape(500, -1).sum(1).min() > 10
    assert images.mean() < 0.5
    means = images[:, :12].mean(1)
    nearest = ((images[:, 12:, None] - means) ** 2).sum(-1).argmin(-1)
    assert (nearest == np.arange(20)[:, None]).mean() > 0.5


def small(value=7):
    return ClassImages(np.full((4, 1, 2, 2), value, np.uint8), (1, 3), ("a", "b"))


def test_stored_images_are_made_once_and_made_again_when_torn(tmp_path):
    made = []

    def make():
        made.append(1)
        return small()

    for _ in range(2):
        data = stored(tmp_path, "x/y.bin", make)
        assert data.names == ("a", "b")
        assert data.images.tobytes() == small().images.tobytes()
    assert len(made) == 1
    path = tmp_path / "x/y.bin"
    whole = path.read_bytes()
    for torn in (whole[:-1], whole[:20], b"", whole[:-1] + b"\0", whole.replace(b'"b"', b'"c"'), whole + b"1"):
        path.write_bytes(torn)
        assert stored(tmp_path, "x/y.bin", make).names == ("a", "b")
        assert path.read_bytes() == whole
    assert [p.name for p in path.parent.iterdir()] == ["y.bin"]


def test_a_read_only_data_directory_is_not_written(tmp_path, monkeypatch):
    data, cache = tmp_path / "data", tmp_path / "cache"
    data.mkdir()
    data.chmod(0o555)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: cache / name)
    assert stored(data, "x.bin", small).counts == (1, 3)
    assert list(data.iterdir()) == []
    assert len(list(cache.rglob("x.bin"))) == 1
    cache.chmod(0o555)
    assert stored(data, "other.bin", small).counts == (1, 3)
    data.chmod(0o755)


def test_importing_benchmarks_imports_nothing_heavy():
    program = (
        "import sys, benchmarks.glyphs, benchmarks.omniglot, benchmarks.fc100, benchmarks.cifar_fs, "
        "benchmarks.miniimagenet, benchmarks.sinusoid, benchmarks.quadratic\n"
        "print([name for name in ('torch', 'torchvision', 'numpy', 'matplotlib', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rows_go_to_cuda_without_waiting_and_stay_where_they_are_on_the_cpu():
    rows = torch.arange(3)
    assert _moved(rows, torch.device("cpu")) is rows
    asked = []

    class Rows:
        def pin_memory(self):
            return SimpleNamespace(to=lambda device, non_blocking: asked.append((device.type, non_blocking)))

    _moved(Rows(), torch.device("cuda"))
    assert asked == [("cuda", True)]


def test_images_that_a_process_holds_are_read_once_for_all_objects_of_one_kind_and_again_once_their_files_change(
    tmp_path, monkeypatch
):
    read = []

    class OnDisk(Numbered):
        def sources(self):
            return [tmp_path / "images"]

        def load_split(self, split):
            read.append(split)
            return super().load_split(split)

    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(held, "_HELD", {})
    (tmp_path / "images").write_text("1")
    expected = parts(draw(OnDisk(None)))
    held.hold(OnDisk(None))
    read.clear()
    for _ in range(2):
        found = OnDisk(None)
        found.check(5, 3, 4)
        assert all(torch.equal(a, b) for a, b in zip(parts(draw(found)), expected, strict=True))
        held.hold(OnDisk(None))
    assert read == []
    draw(Numbered(None))
    (tmp_path / "images").write_text("22")
    found = OnDisk(None)
    found.check(5, 3, 4)
    draw(found)
    assert set(read) == set(SPLITS)
