"""The script for a day with a GPU, tried without one: every part leaves its file, whatever happens to the others."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest
import torch

from benchmarks.suites.gpu import meta_gradients
from benchmarks.suites.gpu.__main__ import PARTS, main
from benchmarks.suites.gpu.bench import Bench, Part


@pytest.fixture(autouse=True)
def _no_data(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))


def found(folder):
    return {file.stem: json.loads(file.read_text()) for file in folder.iterdir()}


def part(folder, name="some", seconds=1e9):
    return Part(Bench(torch.device("cpu"), True, folder, seconds), name)


@pytest.mark.slow
def test_every_part_goes_through_without_a_gpu(tmp_path):
    assert main([*PARTS, "--dry", "--out", str(tmp_path / "out")]) == 0
    documents = found(tmp_path / "out")
    assert set(documents) == set(PARTS)
    for document in documents.values():
        assert document["status"] == "done"
        assert document["rows"]
        assert not any("failed" in row for row in document["rows"])
        assert "cut" not in document
    exact = [row for row in documents["correct"]["rows"] if row["mode"] == "float64"]
    assert {row["case"] for row in exact} == {"maml:nonconvex", "fomaml:nonconvex", "anil:convex", "anil:nonconvex"}
    assert {row["strategy"] for row in exact} == {"linearised", "recursion", "checkpointed"}
    assert {row["statistics"] for row in exact if row["case"].startswith("anil")} == {"separate", "joint"}
    assert len(exact) == 18
    assert all(max(row["gradient"], row["loss"]) <= 1e-9 for row in exact)
    assert documents["correct"]["ok"]
    assert all(row["difference"] <= 1e-6 for row in documents["graph"]["rows"])
    assert {row["benchmark"] for row in documents["figures"]["rows"]} == {"fc100", "miniimagenet"}


def test_a_part_that_fails_says_so_and_leaves_the_others_alone(tmp_path, monkeypatch):
    def fails(part):
        with part.row(what="done before"):
            pass
        raise ZeroDivisionError("in the middle")

    def works(part):
        with part.row(what="a") as row:
            row["ms"] = 1.5

    monkeypatch.setitem(PARTS, "micro", fails)
    monkeypatch.setitem(PARTS, "graph", works)
    assert main(["micro", "graph", "--dry", "--out", str(tmp_path)]) == 1
    documents = found(tmp_path)
    assert documents["micro"]["status"] == "failed"
    assert "ZeroDivisionError: in the middle" in documents["micro"]["error"]
    assert documents["micro"]["rows"] == [{"what": "done before"}]
    assert documents["graph"]["status"] == "done"
    assert documents["graph"]["rows"] == [{"what": "a", "ms": 1.5}]


def test_what_was_done_is_on_disk_when_the_process_is_cut_off(tmp_path):
    def cut_off(part):
        for number in range(5):
            with part.row(what=number):
                if number == 3:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        part(tmp_path).measured(cut_off)
    (document,) = found(tmp_path).values()
    assert document["status"] == "unfinished"
    assert [row["what"] for row in document["rows"]] == [0, 1, 2]


def test_a_row_that_fails_leaves_the_next_alone(tmp_path):
    def measure(part):
        for divisor in (0, 1):
            with part.row(divisor=divisor) as row:
                row["ms"] = 1 / divisor

    assert not part(tmp_path).measured(measure)
    (document,) = found(tmp_path).values()
    assert document["status"] == "done"
    assert document["rows"] == [
        {"divisor": 0, "failed": "ZeroDivisionError: division by zero"},
        {"divisor": 1, "ms": 1.0},
    ]


def test_what_cannot_be_set_up_leaves_the_next_alone(tmp_path):
    def measure(part):
        for divisor in (0, 1):
            with part.attempt(divisor=divisor):
                made = 1 / divisor
                with part.row(made=made):
                    pass

    assert not part(tmp_path).measured(measure)
    (document,) = found(tmp_path).values()
    assert document["rows"] == [{"divisor": 0, "failed": "ZeroDivisionError: division by zero"}, {"made": 1.0}]


def test_nothing_is_begun_that_would_not_be_done_in_time(tmp_path):
    some = part(tmp_path, seconds=-1e9)
    assert list(some.while_time(["a", "b"], seconds=1)) == []
    assert some.document["cut"] == "no time left from a on"


def test_a_device_that_computes_something_else_is_told(tmp_path, monkeypatch):
    calls = []

    def off(cell):
        calls.append(cell)
        return torch.ones(3, dtype=torch.float64) * (1 + 1e-8 * (len(calls) == 6)), torch.ones(2)

    monkeypatch.setattr(meta_gradients, "gradient_of", off)
    assert main(["correct", "--dry", "--out", str(tmp_path)]) == 1
    document = found(tmp_path)["correct"]
    assert document["ok"] is False
    assert [row["case"] for row in document["rows"] if row.get("ok") is False] == ["maml:nonconvex"]


def test_without_a_gpu_it_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        main(["info", "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert "device 'cuda' is not there; allowed: auto, cpu, or --dry" in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_kernels_compute_what_torch_does():
    """In Triton's interpreter, which has to be asked for before Triton is imported."""
    script = """
import os
os.environ["TRITON_INTERPRET"] = "1"
import torch
from benchmarks.suites.gpu import kernels
from benchmarks.suites.gpu.problems import relative
torch.manual_seed(0)
for name, call, expected in kernels.work(2, 2, torch.device("cpu"), "ieee", channels=16):
    print(relative(call(), expected()), name)
x, weight = torch.rand(4, 3, 32, 32), torch.randn(2, 16, 3, 3, 3)
pooled, which = kernels.first_forward(x, weight, "ieee")
full = torch.cat([torch.conv2d(a, b, padding=1) for a, b in zip(x.split(2), weight)])
_, at = torch.nn.functional.max_pool2d(full, 2, return_indices=True)
at = at.permute(0, 2, 3, 1)
print(float((which != at // 32 % 2 * 2 + at % 2).double().mean()), "which pixel")
out, sums = kernels.grouped(torch.randn(2, 3, 4, 4, 16), torch.randn(2, 9, 16, 16), "ieee")
print(relative(sums, torch.stack([out.sum((1, 2, 3)), out.square().sum((1, 2, 3))], 1)), "sums")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    errors = {name: float(error) for error, _, name in (line.partition(" ") for line in done.stdout.splitlines())}
    assert len(errors) == 7
    assert max(errors.values()) < 1e-5, errors
