"""Processes that a grid or a study starts: they run the code of the one that started them, and tell it events alone."""

from __future__ import annotations

import json
import os
import queue
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
from harness.path import import_path

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
from harness.grid.worker import accept
def main(channel):
    request, out = accept(channel)
    import json, yaml, benchmarks, algorithms, torch, harness
    print(42, flush=True)
    print('{"event": "end", "summary": {}}', flush=True)
    os.write(1, b"...")
    print("a warning", file=sys.stderr)
    here = [module.__file__ for module in (json, yaml, benchmarks, algorithms, harness)]
    import own
    flag = torch.are_deterministic_algorithms_enabled()
    out.write(json.dumps({"event": "told", "files": here, "own": own.__file__, "flag": flag}) + "\\n")
    out.flush()
    return 7
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
    heard: queue.Queue = queue.Queue()
    torch.use_deterministic_algorithms(True)
    try:
        child = Child("talks", {}, Place(threads=1), heard)
    finally:
        torch.use_deterministic_algorithms(False)
    told = []
    while (event := heard.get(timeout=60)[1]) is not None:
        told.append(event)
    assert child.exit_status() == 7, child.errors()
    assert [event["event"] for event in told] == ["told"]
    here = [module.__file__ for module in (json, yaml, benchmarks, algorithms, sys.modules["harness"])]
    assert told[0]["files"] == here
    assert told[0]["own"] == str(traps / "own.py")  # a model of one's own is found
    assert told[0]["flag"] is True
    assert child.printed() == b'42\n{"event": "end", "summary": {}}\n...a warning\n'
    assert child.errors() == ["a warning"]


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
    for _ in Pool([job], [Place(threads=1)]).events():
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
