"""Processes that a grid or a study starts: they run the code of the one that started them, and tell it events alone."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import algorithms
import benchmarks
from harness import path
from harness.grid.child import Child, Place
from harness.grid.compare import grid
from harness.grid.pool import Job, Pool
from harness.grid.workers import Workers
from harness.path import import_path
from harness.store.directory import load_checkpoint

#: names that the project imports, and a person may have in the folder that he works in
TRAPS = ("json.py", "yaml.py", "queue.py", "benchmarks/__init__.py", "algorithms/__init__.py", "harness/__init__.py")
SUITE = {
    "title": "t",
    "base": {"benchmark": "sinusoid", "iterations": 2, "meta_batch": 1, "eval_tasks": 2, "threads": 1},
    "grid": [{"algo": "anil", "inner_steps": 1}],
}
MODEL = """
from torch import nn
def net(shape, outputs):
    {prints}
    return nn.Sequential(nn.Linear(1, 2), nn.Linear(2, outputs))
"""
TALKS = """
import os, sys
def main(request, events):
    import json, yaml, benchmarks, algorithms, torch, harness
    print(42, flush=True)
    print('{"event": "end", "summary": {}}', flush=True)
    os.write(1, b"...")
    print("a warning", file=sys.stderr)
    here = [module.__file__ for module in (json, yaml, benchmarks, algorithms, harness)]
    import own
    flag = torch.are_deterministic_algorithms_enabled()
    events.send("told", files=here, own=own.__file__, flag=flag)
    os._exit(7)
"""


@pytest.fixture
def traps(tmp_path, monkeypatch):
    """Works in a folder of traps, as ``python -m`` and prompts do: with that folder first on the path."""
    for name in TRAPS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise SystemExit('trapped')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path


def test_a_worker_imports_what_its_parent_did_and_prints_no_events(traps, monkeypatch):
    (traps / "talks.py").write_text(TALKS)
    (traps / "own.py").write_text("")
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    told: list[dict] = []
    child = Child(Place(threads=1))
    child.work({"module": "talks", "flags": {"deterministic_algorithms": True}}, told.append)
    child.leave()
    ended = told.pop()
    assert [event["event"] for event in told] == ["told"]
    here = [module.__file__ for module in (json, yaml, benchmarks, algorithms, sys.modules["harness"])]
    assert told[0]["files"] == here
    assert told[0]["own"] == str(traps / "own.py")  # a model of one's own is found
    assert told[0]["flag"] is True
    assert ended["printed"] == b'42\n{"event": "end", "summary": {}}\n...a warning\n'
    assert (ended["how"], ended["errors"]) == ("exit status 7: a warning", ["a warning"])


def test_the_current_folder_stands_last_unless_the_project_lies_in_it_or_the_user_put_it_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setattr(sys, "path", ["", "a", str(tmp_path), "b"])
    assert import_path() == ["a", "b", str(tmp_path)]
    monkeypatch.setattr(sys, "path", ["a", "b"])
    assert import_path() == ["a", "b"]
    monkeypatch.setattr(sys, "path", ["", "a"])
    monkeypatch.setenv("PYTHONPATH", f"elsewhere{os.pathsep}.")
    assert import_path() == [str(tmp_path), "a"]
    monkeypatch.setenv("PYTHONPATH", "")
    home = Path(path.__file__).parents[1]  # a checkout, or where the package is installed
    monkeypatch.chdir(home)
    assert import_path() == [str(home), "a"]


LEAVES = """
import gc, os, resource, torch
held = []
def main(request, events):
    here = {
        "dtype": str(torch.get_default_dtype()), "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(), "random": torch.rand(3).tolist(), "held": len(held), "folder": os.getcwd(),
        "left": os.environ.get("LEFT"), "limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "collects": gc.isenabled(), "cuda": not torch.cuda._is_in_bad_fork(),
    }
    events.send("told", here=here, pid=os.getpid(), parent=os.getppid())
    torch.set_default_dtype(torch.float64)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(3)
    torch.manual_seed(5)
    torch.rand(1000, 1000) @ torch.rand(1000, 1000)
    held.append(torch.rand(1000, 1000))
    os.chdir("/")
    os.environ["LEFT"] = "something"
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    gc.disable()
    os._exit(request["status"])
"""


def test_nothing_that_a_run_leaves_behind_meets_the_next_one(tmp_path, monkeypatch):
    (tmp_path / "leaves.py").write_text(LEAVES)
    monkeypatch.syspath_prepend(tmp_path)
    told: list[dict] = []
    child = Child(Place(threads=2))
    for status in (0, 3, 0):
        child.work({"module": "leaves", "flags": {}, "status": status}, told.append)
    child.leave()
    child.wait()
    runs = [event for event in told if event["event"] == "told"]
    assert [event["how"] for event in told if event["event"] == "ended"] == [None, "exit status 3: no message", None]
    assert len({event["pid"] for event in runs}) == 3
    assert len({event["parent"] for event in runs}) == (1 if sys.platform == "linux" else 3)  # which stays warm
    assert runs[0]["here"] == runs[1]["here"] == runs[2]["here"]
    assert (runs[0]["here"]["threads"], runs[0]["here"]["cuda"]) == (2, True)


def harness(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "HARNESS_DATA": str(cwd / "data")}
    command = [sys.executable, "-m", "harness", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_compare_and_tune_run_no_code_of_the_current_folder_and_no_print_disturbs_them(traps):
    (traps / "harness" / "__init__.py").unlink()  # what is started here is that of the current folder by name
    prints = "import os; print(42); os.write(1, b'.....'); os.system('echo 7')"
    (traps / "mine.py").write_text(MODEL.format(prints=prints))
    suite = {**SUITE, "grid": [{"algo": "anil", "inner_steps": 1, "model": "mine:net"}]}
    (traps / "suite.yaml").write_text(yaml.safe_dump(suite))
    done = harness("compare", "suite.yaml", "--results", "runs", "--json", cwd=traps)
    assert done.returncode == 0, done.stderr
    [run] = (traps / "runs").iterdir()
    assert json.loads((run / "summary.json").read_text())["status"] == "completed"
    assert "....." in (run / "output.txt").read_text()
    flags = "--benchmark sinusoid --model mine:net --iterations 2 --eval-tasks 2 --trials 1 --test-seeds 0 --threads 1"
    done = harness("tune", *flags.split(), "--out", "tuned", "--json", cwd=traps)
    assert done.returncode == 0, done.stderr
    [kept] = (traps / "tuned").glob("*/output.txt")
    assert "....." in kept.read_text()


LEAVING = """
import torch
from harness.problem.nets import mlp
torch.set_num_threads(2)
def net(shape, outputs, **options):
    torch.manual_seed(9)
    torch.use_deterministic_algorithms(True)
    torch.set_default_dtype(torch.float64)
    return mlp(shape, outputs).float()
"""


@pytest.mark.slow
def test_a_run_after_others_in_a_warm_worker_has_the_bits_of_one_by_itself(tmp_path, monkeypatch):
    (tmp_path / "leaving.py").write_text(LEAVING)
    monkeypatch.syspath_prepend(tmp_path)
    first = [{"algo": "maml", "inner_steps": 1, "model": "leaving:net"}, {"algo": "anil", "inner_steps": 1}]
    base = {**SUITE["base"], "benchmark": "glyphs", "iterations": 3, "model_options": {"filters": 4}, "eval_tasks": 4}
    grids = [{**first[0], "model_options": {}}, first[1], {"algo": "maml", "inner_steps": 2}]
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump({**SUITE, "base": base, "grid": grids}))
    words = ["suite.yaml", "--workers", "1", "--results", "warm"]
    assert harness("compare", *words, cwd=tmp_path).returncode == 0
    *_, last = grid(str(tmp_path / "suite.yaml"), tmp_path / "warm")
    (tmp_path / "run.yaml").write_text((last.directory / "config.yaml").read_text())
    assert harness("run", "--config", "run.yaml", "--results", "new", cwd=tmp_path).returncode == 0
    alone = tmp_path / "new" / last.directory.name
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        lines = [(place / name).read_text().splitlines() for place in (last.directory, alone)]
        warm, new = ([{**json.loads(line), "seconds": 0} for line in part] for part in lines)
        assert warm == new
    states = [load_checkpoint(place / "checkpoint.pt") for place in (last.directory, alone)]
    assert all(torch.equal(states[0][part], states[1][part]) for part in ("w", "phi"))
    sizes = [json.loads((place / "summary.json").read_text())["peak_memory_bytes"] for place in (last.directory, alone)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.25)


@pytest.mark.slow
def test_code_that_changes_while_a_grid_runs_is_refused(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MODEL.format(prints="pass"))
    (tmp_path / "suite.yaml").write_text(
        yaml.safe_dump({**SUITE, "grid": [{"algo": "anil", "inner_steps": 1, "model": "mine:net"}]})
    )
    monkeypatch.syspath_prepend(tmp_path)
    [entry] = grid(str(tmp_path / "suite.yaml"), tmp_path / "runs")
    (tmp_path / "mine.py").write_text(MODEL.format(prints="outputs = outputs"))
    job = Job(entry.asked, entry.directory)
    with contextlib.closing(Workers([Place(threads=1)])) as workers:
        for _ in Pool([job], workers).events():
            pass
    assert job.result["status"] == "refused"
    assert "have changed since this command began" in job.result["message"]
    assert not entry.directory.exists()
    del sys.modules["mine"]


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a/b", "..", ".hidden", "a\nb", "x" * 101])
def test_a_study_is_a_folder_of_its_out(name, tmp_path, capsys):
    from harness.cli import main

    assert main(["tune", "--study", name, "--benchmark", "sinusoid", "--out", str(tmp_path / "out")]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: --study: ")
    assert "no slash" in line or "not readable as YAML" in line
    assert not list(tmp_path.iterdir())
