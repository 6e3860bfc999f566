"""A model of one's own: found where it is, built with its own options, refused in one line where it is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import harness
from harness import RunConfig
from harness.cli import main
from harness.errors import InputError
from harness.problem.models import load_factory
from harness.settings.resolve import resolve

SMALL = ("--benchmark", "sinusoid", "--iterations", "1", "--meta-batch", "2", "--eval-tasks", "2", "--inner-steps", "1")
MINE = """
from torch import nn

def net(input_shape, outputs, width=4):
    from beside import hidden
    return nn.Sequential(nn.Flatten(), hidden(width), nn.Tanh(), nn.Linear(width, outputs))
"""
BESIDE = "from torch import nn\ndef hidden(width): return nn.LazyLinear(width).__class__ and nn.Linear(1, width)\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with ``mine.py`` and its helper; neither it nor the current folder is where Python looks."""
    made = tmp_path / "models"
    made.mkdir()
    (made / "mine.py").write_text(MINE)
    (made / "beside.py").write_text(BESIDE)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield made
    for name in [name for name in sys.modules if name.partition("_")[0] in ("mine", "beside")]:
        del sys.modules[name]


def ran(capsys, *words) -> dict:
    assert main(["run", *SMALL, *map(str, words), "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_a_model_of_the_current_folder_is_found_there(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    before = list(sys.path)
    summary = ran(capsys, "--model", "mine:net", "--set", "model_options.width=3", "--results", tmp_path / "runs")
    assert summary["n_w"] + summary["n_phi"] == 3 + 3 + 3 + 1
    assert sys.path == before
    monkeypatch.chdir(tmp_path)
    for module in ("mine", "beside"):
        del sys.modules[module]
    assert main(["run", *SMALL, "--model", "mine:net", "--results", str(tmp_path / "runs")]) == 2


def test_a_file_is_the_same_model_from_everywhere(folder, tmp_path, monkeypatch, capsys):
    found = set()
    for here, name in (
        (folder, "./mine.py:net"),
        (tmp_path, "models/mine.py:net"),
        (Path("/"), folder / "mine.py:net"),
    ):
        monkeypatch.chdir(here)
        found.add(ran(capsys, "--model", name, "--results", tmp_path / "runs")["run_dir"])
    (run_dir,) = found
    assert yaml.safe_load((Path(run_dir) / "config.yaml").read_text())["model"] == f"{folder}/mine.py:net"


def test_two_files_of_one_name_are_two_models(folder, tmp_path):
    (tmp_path / "mine.py").write_text("def net(): 'another'\n")
    first, second = load_factory(f"{folder}/mine.py:net"), load_factory(f"{tmp_path}/mine.py:net")
    assert first is not second
    assert first.__module__ != second.__module__


@pytest.mark.slow
def test_the_current_folder_stands_in_for_nothing_that_is_installed(folder, monkeypatch, tmp_path):
    (folder / "json.py").write_text("raise SystemExit('mine')\n")
    (folder / "yaml.py").write_text("raise SystemExit('mine')\n")
    (folder / "other.py").write_text("import json, yaml\n" + MINE)
    monkeypatch.chdir(folder)
    code = (
        "import os, sys; sys.path[:] = [p for p in sys.path if p not in ('', os.getcwd())]\n"
        "from harness.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    for name in ("other:net", "./other.py:net"):
        words = ["run", *SMALL, "--model", name, "--results", str(tmp_path / name)]
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_workers_find_it_too(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    base = {"benchmark": "sinusoid", "iterations": 1, "meta_batch": 2, "eval_tasks": 2, "inner_steps": 1}
    suite = {"title": "t", "base": base, "grid": [{"model": ["mine:net", "./mine.py:net"]}]}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    assert main(["compare", str(tmp_path / "suite.yaml"), "--results", str(tmp_path / "runs"), "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [run["status"] for run in runs] == ["completed", "completed"]


@pytest.mark.parametrize("name", ["mlp", "mine:net", "./mine.py:net"])
def test_the_benchmarks_options_are_for_its_own_model(folder, monkeypatch, name):
    monkeypatch.chdir(folder)
    assert resolve(RunConfig(model=name)).config.model_options == {}
    assert resolve(RunConfig(model=name, model_options={"width": 7})).config.model_options == {"width": 7}
    assert resolve(RunConfig(model="cnn")).config.model_options == {"filters": 32}
    assert resolve(RunConfig(model_options={"head_hidden": 8})).config.model_options == {
        "filters": 32,
        "head_hidden": 8,
    }


def test_a_factory_in_python_gets_no_options_of_another_model():
    def net(input_shape, outputs):
        return None

    assert resolve(RunConfig(), model=net).config.model_options == {}


def test_a_benchmarks_defaults_for_another_algorithm_are_left_out():
    class Own(type(resolve(RunConfig(benchmark="sinusoid")).benchmark)):
        defaults = {"ways": 1, "geometry": "convex", "algo_options": {"l2": 0.5}}

    assert resolve(RunConfig(algo="maml"), benchmark=Own()).config.geometry == "nonconvex"
    assert resolve(RunConfig(algo="anil"), benchmark=Own()).config.algo_options == {"l2": 0.5}


BAD = """
import sys
import torch
from torch import nn

def good(i, o): return nn.Sequential(nn.Flatten(), nn.Linear(1, 4), nn.Linear(4, o))
def none(i, o): return None
def pair(i, o): return good(i, o), 1
def the_class(i, o): return nn.Linear
def lazy(i, o): return nn.Sequential(nn.Flatten(), nn.LazyLinear(o))
def empty(i, o): return nn.Sequential(nn.Flatten())
def meta(i, o): return nn.Linear(1, o, device="meta")
def whole(i, o):
    made = good(i, o)
    made.register_parameter("n", nn.Parameter(torch.zeros(1, dtype=torch.int64), requires_grad=False))
    return made
def imaginary(i, o): return nn.Linear(1, o, dtype=torch.complex64)
def leaves(i, o): sys.exit(3)
def raises(i, o): raise LookupError("two\\nlines \\x1b[31mred")
def odd(i, o): raise BaseException
def other(i): return good(i, 1)
def more(i, o, needed): return good(i, o)
number = 3

class Own(nn.Module):
    def __init__(self): super().__init__(); self.a = nn.Linear(1, 1); self.seen = 0
class Tuple(Own):
    def forward(self, x): return self.a(x), x
class Late(Own):
    def forward(self, x):
        self.seen += 1
        if self.seen > LATE: raise ZeroDivisionError("late")
        return self.a(x) if len(x) else x
LATE = 10**9
def tuples(i, o): return Tuple()
def late(i, o): return Late()
"""
NAMES = [":", ".x:y", "x:", "a b:c", "builtins:print", "subprocess:Popen", "os:getcwd", "sys:exit", "torch.nn:Identity"]
NAMES += [
    "nowhere:net",
    "./nowhere.py:net",
    ".:net",
    "bad:nothing",
    "./bad.py:",
    "./pipe.py:net",
    "a\0b.py:net",
    "bad.py",
]
NAMES += [
    f"bad:{name}" for name in ("none", "pair", "the_class", "lazy", "empty", "meta", "whole", "imaginary", "leaves")
]
NAMES += [f"bad:{name}" for name in ("raises", "odd", "other", "more", "number", "Own", "tuples", "Tuple")]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_model_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.py").write_text(BAD)
    os.mkfifo(tmp_path / "pipe.py")
    monkeypatch.delitem(sys.modules, "bad", raising=False)
    assert main(["run", *SMALL, "--model", name, "--results", "runs", "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    *printed, error = captured.err.splitlines()
    assert not printed or name == "builtins:print"
    assert error.startswith(("error: --model", "error: model"))
    assert error.isprintable()
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "content", ["import nowhere", "raise SystemExit(0)", "1 +", "x = 1 / 0", "\0", "raise KeyError"]
)
@pytest.mark.parametrize("name", ["broken:net", "./broken.py:net"])
def test_a_module_that_cannot_be_imported_is_one_line(tmp_path, monkeypatch, capsys, content, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text(content)
    assert main(["run", *SMALL, "--model", name, "--results", "runs"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not Path("runs").exists()


def test_an_interruption_in_a_factory_is_one():
    def net(input_shape, outputs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        harness.run(RunConfig(benchmark="sinusoid"), model=net)


@pytest.mark.parametrize("calls", [60, 150])
def test_a_model_that_fails_later_is_one_line(tmp_path, monkeypatch, capsys, calls):
    """In training, and on held-out tasks."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "late.py").write_text(BAD.replace("10**9", str(calls)))
    words = ["run", "--benchmark", "sinusoid", "--meta-batch", "2", "--inner-steps", "1", "--results", "runs"]
    assert main([*words, "--model", "./late.py:late", "--algo", "maml", "--iterations", "9", "--eval-tasks", "50"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "failed (ZeroDivisionError, late.py:" in error
    assert error.endswith("): late")


ATTENTION = """
from torch import nn
class Attends(nn.Module):
    def __init__(self, o):
        super().__init__()
        self.e, self.m, self.h = nn.Linear(1, 8), nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, o)
    def forward(self, x):
        z = self.e(x)[:, None].expand(-1, 4, -1)
        return self.h(self.m(z, z, z, need_weights=False)[0].mean(1))
def net(i, o): return Attends(o)
"""


def test_an_operation_without_a_second_derivative_is_named_and_a_way_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "attends.py").write_text(ATTENTION)
    words = ["run", *SMALL, "--model", "./attends.py:net", "--results", "runs"]
    assert main([*words, "--algo", "maml"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    for part in ("scaled_dot_product", "no second derivative", "--algo fomaml", "sdpa_kernel(SDPBackend.MATH)"):
        assert part in error
    assert not list(Path("runs").glob("*"))
    assert main([*words, "--algo", "fomaml"]) == 0


def test_one_query_for_batch_norm_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "norm.py").write_text(
        "from torch import nn\n"
        "def net(i, o): return nn.Sequential(nn.Flatten(), nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Linear(4, o))\n"
    )
    words = ["run", *SMALL, "--model", "./norm.py:net", "--algo", "maml", "--results", "runs", "--queries", "1"]
    assert main(words) in (1, 2)
    assert "more than 1 value per channel" in capsys.readouterr().err.splitlines()[-1]
    assert not list(Path("runs").glob("*"))


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(InputError, match=r"did you mean 'mlp'\? allowed: .*FILE.py:function"):
        load_factory("mlpp")


def test_what_a_model_prints_is_not_in_the_document(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loud.py").write_text(MINE.replace("from beside", "print(42)\n    from beside"))
    (tmp_path / "beside.py").write_text(BESIDE)
    assert ran(capsys, "--model", "./loud.py:net", "--results", "runs")["status"] == "completed"
