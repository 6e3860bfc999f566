"""Tasks of what Python has in hand: labelled data sets, and other libraries' task sets as they are."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from images_made import draw
from torch import nn
from torch.utils.data import Dataset, TensorDataset

import harness
from harness import InputError, RunConfig
from harness.problem.benchmark import SPLITS
from harness.testing import check_benchmark

TINY = {"iterations": 2, "meta_batch": 2, "eval_tasks": 3, "inner_steps": 1, "device": "cpu", "inner_lr": 0.05}


def points(classes=range(15), each=6):
    """Examples that say which class they are of and which they are; classes in turn."""
    x = torch.tensor([[c, n, 0.5] for n in range(each) for c in classes], dtype=torch.float64)
    return TensorDataset(x, x[:, 0].long())


class Letters(Dataset):
    """Tokens, with names for classes."""

    def __init__(self, names, start=0):
        self.classes, self.start = list(names), start

    def __len__(self):
        return 8 * len(self.classes)

    def __getitem__(self, number):
        if number >= len(self):
            raise IndexError
        label, place = number % len(self.classes), number // len(self.classes)
        return np.array([self.start + label, place, 3, 3]), np.int32(label)


def net(input_shape, outputs):
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, outputs))


def reader(outputs):
    return nn.Sequential(nn.Embedding(64, 4), nn.Flatten(), nn.Linear(16, outputs))


def look(benchmark, ways=2, shots=2, queries=3):
    """Every example has the label of its class, all classes of a split are its own, support and query are disjoint."""
    seen = {}
    for split in SPLITS:
        batch = draw(benchmark, split, 30, ways, shots, queries, seed=3, first=50)
        seen[split] = {float(c) for part in (batch.support_x, batch.query_x) for c in part[..., 0].unique()}
        for sx, sy, qx, qy in zip(*vars(batch).values(), strict=True):
            x, y = torch.cat([sx, qx]), torch.cat([sy, qy])
            assert len({tuple(point) for point in x[:, :2].tolist()}) == ways * (shots + queries)
            assert sy.bincount().tolist() == [shots] * ways
            assert qy.bincount().tolist() == [queries] * ways
            assert len({(float(point[0]), int(label)) for point, label in zip(x, y, strict=True)}) == ways
    assert not any(seen[one] & seen[other] for one, other in (SPLITS[:2], SPLITS[1:], SPLITS[::2]))
    return seen


def test_classes_of_one_data_set_are_split():
    benchmark = harness.tasks_of(points())
    assert {split: len(classes) for split, classes in look(benchmark).items()} == {
        "train": 9,
        "validation": 3,
        "test": 3,
    }
    assert look(harness.tasks_of(points(), split_seed=1)) != look(benchmark)


def test_splits_that_are_given_stay():
    benchmark = harness.tasks_of(points(range(4)), points(range(4, 7)), points(range(7, 12)))
    assert look(benchmark) == {"train": {0, 1, 2, 3}, "validation": {4, 5, 6}, "test": {7, 8, 9, 10, 11}}
    tokens = harness.tasks_of(Letters("abcdefgh"), test=Letters("xyz", start=20))
    assert {split: len(classes) for split, classes in look(tokens).items()} == {"train": 6, "validation": 2, "test": 3}


@pytest.mark.parametrize("make", [lambda: points(), lambda: list(points()), lambda: iter(list(points()))])
def test_anything_that_gives_labelled_examples_will_do(make):
    assert harness.tasks_of(make()).version == harness.tasks_of(points()).version


def test_it_keeps_a_benchmarks_promises_and_runs_through_every_function(tmp_path):
    benchmark = harness.tasks_of(points(range(25)))
    benchmark.model = "mlp"
    check_benchmark(benchmark, ways=3)
    config = RunConfig(**TINY, ways=3, shots=2, queries=2)
    first = harness.run(config, model=net, benchmark=benchmark, results=tmp_path)
    again = harness.run(config, model=net, benchmark=harness.tasks_of(points(range(25))), results=tmp_path)
    assert again["run_dir"] == first["run_dir"]
    other = harness.tasks_of(points(range(25), each=7))
    assert harness.run(config, model=net, benchmark=other, results=tmp_path)["run_dir"] != first["run_dir"]
    assert harness.verify(["anil"], ["native"], config=config, model=net, benchmark=benchmark)["ok"]


def test_tokens_are_tokens(tmp_path):
    benchmark = harness.tasks_of(Letters("abcdefghijklmnopqrst"))
    config = RunConfig(**TINY, ways=3, shots=2, queries=2)
    assert harness.run(config, model=reader, benchmark=benchmark, results=tmp_path)["status"] == "completed"


def taskset(first, tasks=12, ways=3, each=5, seed=0):
    """(data, labels) as a list; the labels of each task are mixed, and count from somewhere."""
    rng = random.Random(seed)
    found = []
    for _ in range(tasks):
        classes = rng.sample(range(first, first + 6), ways)
        rows = [(c, n, 0.5) for c in classes for n in range(each)]
        rng.shuffle(rows)
        x = torch.tensor(rows, dtype=torch.float64)
        found.append((x, x[:, 0].long()))
    return found


@pytest.mark.parametrize("kind", [list, iter])
def test_tasks_as_data_and_labels(kind):
    benchmark = harness.tasks_of(*(kind(taskset(first)) for first in (0, 10, 20)))
    seen = look(benchmark, ways=3)
    assert max(seen["train"]) < 10 <= min(seen["validation"]) < 20 <= min(seen["test"])
    with pytest.raises(InputError, match=r"has 3 classes of 5 to 5 examples; allowed: ways 5, each of shots 2"):
        benchmark.check(5, 2, 3)


def pairs(names, sizes=((4, 3), (2, 6), (4, 3))):
    found = []
    for number, (shots, queries) in enumerate(sizes):
        x = torch.full((shots + queries, 3), float(number), dtype=torch.float64)
        y = torch.arange(shots + queries) % 2
        halves = [(x[:shots], y[:shots]), (x[shots:], y[shots:])]
        found.append(dict(zip(names, halves, strict=True)) if names else tuple(halves))
    return found


@pytest.mark.parametrize("names", [None, ("train", "test"), ("support", "query")])
def test_tasks_that_are_cut_already_stay_as_they_are_and_may_be_unequal(tmp_path, names):
    benchmark = harness.tasks_of(pairs(names), pairs(names), pairs(names))
    batch = draw(benchmark, "train", 40, 2)
    assert {(group.support_x.shape[1], group.query_x.shape[1]) for group in batch.groups} == {(4, 3), (2, 6)}
    for group in batch.groups:
        for x, q in zip(group.support_x, group.query_x, strict=True):
            assert x.unique().equal(q.unique())
    config = RunConfig(**TINY, ways=2)
    assert harness.run(config, model=net, benchmark=benchmark, results=tmp_path)["status"] == "completed"


def test_numbers_for_labels_are_a_regression(tmp_path):
    def waves():
        x = torch.linspace(0, 1, 10)[:, None].expand(10, 3)
        return [(x, torch.sin(number * x[:, 0])) for number in range(5)]

    benchmark = harness.tasks_of(waves(), waves(), waves())
    config = RunConfig(**TINY, shots=6, queries=4)
    assert set(harness.run(config, model=net, benchmark=benchmark, results=tmp_path)["metrics"]) == {"rmse", "r2"}
    batch = draw(benchmark, "test", 3, 1, 6, 4)
    assert (batch.support_y.shape, batch.query_x.shape) == ((3, 6, 1), (3, 4, 3))


@pytest.mark.peers
@pytest.mark.parametrize("tasks", [-1, 7])
def test_learn2learns_task_sets_are_a_stream_by_seed_and_number(tmp_path, tasks):
    data = pytest.importorskip("learn2learn.data")

    def made(classes):
        known = data.MetaDataset(points(classes, each=9))
        cut = [data.transforms.NWays(known, 3), data.transforms.KShots(known, 5), data.transforms.LoadData(known)]
        return data.TaskDataset(known, [*cut, data.transforms.RemapLabels(known)], num_tasks=tasks)

    def fresh():
        return harness.tasks_of(made(range(8)), made(range(8, 13)), made(range(13, 20)))

    benchmark = fresh()
    look(benchmark, ways=3)
    state = random.getstate(), torch.get_rng_state()
    draw(benchmark, "test", 5, 3, 2, 3)
    assert random.getstate() == state[0]
    assert torch.equal(torch.get_rng_state(), state[1])
    assert fresh().version == benchmark.version
    config = RunConfig(**TINY, ways=3, shots=2, queries=3)
    first, again = (harness.run(config, model=net, benchmark=b, results=tmp_path) for b in (benchmark, fresh()))
    assert first["run_dir"] == again["run_dir"]


class Odd(Dataset):
    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, number):
        if callable(self.items[number]):
            raise LookupError("no such\npicture")
        return self.items[number]


X = torch.zeros(3)
BAD = {
    "no pair": (lambda: [Odd(X)], "train, example 0 is a Tensor; allowed: (x, label)"),
    "text": (lambda: [Odd((X, "cat"))], "train, example 0: its label is 'cat'; allowed: a whole number"),
    "half": (lambda: [Odd((X, 0), (X, 1.5))], "example 1: its label is '1.5'"),
    "picture": (lambda: [Odd((object(), 0))], "x is a object; allowed: a tensor, as transform=ToTensor() gives"),
    "bytes": (lambda: [Odd((X.byte(), 0))], "x has type torch.uint8; allowed: floating point, or int64 tokens"),
    "nan": (lambda: [Odd((X / 0, 0))], "x has numbers that are not finite"),
    "shapes": (lambda: [Odd((X, 0), (X[:2], 0))], "example 1 has shape [2] and type torch.float32; allowed: those of"),
    "raises": (lambda: [Odd((X, 0), len)], "tasks_of: train failed (LookupError, test_tasks_of.py:"),
    "shared": (lambda: [Letters("abc"), None, Letters("cde")], "class 'c' is in both train and test"),
    "few": (lambda: [points(each=3)], "has 3 examples of class '"),
    "one class": (lambda: [points([1])], "its train split has 1 classes, allowed: splits of at least 2"),
    "two classes": (lambda: [points([1, 2])], "its validation split has no classes"),
    "some tasks": (lambda: [taskset(0), points()], "validation has no tasks, and others have"),
    "no test": (lambda: [taskset(0), taskset(0)], "test has no tasks, and others have"),
    "empty": (lambda: [[]], "tasks_of: train is empty; allowed: at least one item"),
    "labels": (
        lambda: [[(X[:, None], torch.zeros(2).long())]] * 3,
        "task 0 has [3, 1] examples and [2] labels; allowed: as many",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_are_no_tasks_is_one_line(tmp_path, name):
    make, said = BAD[name]
    config = RunConfig(**TINY, ways=2, shots=2, queries=2)
    with pytest.raises(InputError) as caught:
        harness.run(config, model=net, benchmark=harness.tasks_of(*make()), results=tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*"))
