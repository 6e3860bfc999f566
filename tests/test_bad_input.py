"""Twelve kinds of bad input, at every command that takes a model, tasks and a loss: one line, exit 2, nothing left."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.cli import main

MINE = """
import torch
from torch import nn
import harness

def net(input_shape, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(input_shape).numel(), outputs))

def raises(input_shape, outputs):
    raise LookupError("no such weights\\nanywhere")

def no_module(input_shape, outputs):
    return net

def lazy(input_shape, outputs):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(outputs))

def wrong_size(input_shape, outputs):
    return net(input_shape, outputs + 1)

class NotNumbers(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.a = net(i, o)
    def forward(self, x):
        return self.a(x) / 0 * 0

def not_numbers(input_shape, outputs):
    return NotNumbers(input_shape, outputs)

class Points(harness.Benchmark):
    name, summary, version, input_shape = "points", "points around centres", "1", (3,)
    defaults = {"ways": 2, "shots": 2, "queries": 2}

    def check(self, ways, shots, queries):
        pass

    def draw(self, split, first, tasks, shape, device, dtype):
        return harness.TaskBatch.of([self.task(100 * first + n, shape) for n in range(tasks)])

    def task(self, number, shape):
        y = torch.arange(shape.ways).repeat_interleave(shape.shots)
        z = torch.arange(shape.ways).repeat_interleave(shape.queries)
        def x(labels):
            generator = torch.Generator().manual_seed(number)
            return labels[:, None] + torch.randn(len(labels), 3, generator=generator)
        return x(y), y, x(z), z

class OtherShape(Points):
    def task(self, number, shape):
        return tuple(part[:, None] if not part.is_floating_point() else part for part in super().task(number, shape))

class OtherType(Points):
    def task(self, number, shape):
        return tuple(part.int() if not part.is_floating_point() else part for part in super().task(number, shape))

class NaN(Points):
    def task(self, number, shape):
        x, y, *query = super().task(number, shape)
        return x / 0, y, *query

class Unequal(Points):
    def task(self, number, shape):
        x, y, *query = super().task(number, shape)
        return (x[:, :2] if number % 2 else x), y, *query

class Huge(Points):
    def task(self, number, shape):
        x, y, *query = super().task(number, shape)
        return x[:1].expand(1_000_001, 3), y[:1].expand(1_000_001), *query
"""
FOLDER = ["--benchmark", "folder", "--model", "mine:net", "--benchmark-options"]
BAD = {
    "a factory that raises": (["--model", "mine:raises"], "(LookupError, mine.py:"),
    "no module": (["--model", "mine:no_module"], "gives a function; allowed: an nn.Module"),
    "a lazy module": (["--model", "mine:lazy"], "has no size before the first forward"),
    "another output size": (
        ["--model", "mine:wrong_size"],
        "gives [4, 3] for examples of shape [4, 3]; allowed: [4, 2]",
    ),
    "NaN from a model": (["--model", "mine:not_numbers"], "allowed: finite"),
    "NaN in tasks": (["--benchmark", "mine:NaN"], "support_x has numbers that are not finite; allowed: finite ones"),
    "targets of another shape": (["--benchmark", "mine:OtherShape"], "support_y has shape ["),
    "targets of another type": (
        ["--benchmark", "mine:OtherType"],
        "support_y has type int32; allowed: classes as int64",
    ),
    "an empty class": ([*FOLDER, "{path: pictures}"], "has no class with pictures"),
    "no folder": ([*FOLDER, "{path: nowhere}"], "nowhere is no folder"),
    "unequal examples": (
        ["--benchmark", "mine:Unequal"],
        "support_x is [examples, 2] of float32 on cpu; allowed: as in",
    ),
    "a task beyond the limit": (["--benchmark", "mine:Huge"], "has shape [1000001, 3]; allowed: 1 to 1000000 examples"),
    "an unknown loss": (["--loss", "mine:focl"], "has no attribute 'focl'"),
}
DOORS = {
    "run": ["--iterations", "1", "--eval-tasks", "2", "--inner-steps", "1", "--meta-batch", "2", "--results", "runs"],
    "time": ["--rounds", "1", "--memory", "false", "--inner-steps", "1", "--meta-batch", "2"],
    "verify": ["--engine", "native", "--meta-batch", "2"],
    "theory": ["--inner-steps", "1", "--meta-batch", "2"],
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    for name in ("a", "b", "c", "d", "e"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    yield tmp_path
    sys.modules.pop("mine", None)


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("door", DOORS)
def test_it_is_one_line_and_leaves_nothing(folder, capsys, door, kind):
    words, said = BAD[kind]
    usual = {"--benchmark": "mine:Points", "--model": "mine:net"}
    words = [*words, *(word for name, value in usual.items() if name not in words for word in (name, value))]
    assert main([door, *words, *DOORS[door]]) == 2
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.strip().splitlines() if not line.startswith("first step: ")]
    assert line.startswith("error: ")
    assert line.isprintable()
    assert said in line
    assert not Path("runs").exists()


@pytest.mark.parametrize("door", DOORS)
def test_what_is_right_goes_through(capsys, door):
    assert main([door, "--benchmark", "mine:Points", "--model", "mine:net", *DOORS[door]]) == 0, capsys.readouterr().err
