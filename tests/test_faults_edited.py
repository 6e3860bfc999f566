"""Runs edited by hand after they ended, runs that only say that they are done, runs repeated by two at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from fabricated import write_run

import harness
from harness import RunConfig
from harness.cli import main
from harness.errors import InputError
from harness.grid.compare import grid
from harness.report.findings.comparison import compare_runs
from harness.report.findings.costs import Target
from harness.report.reading.runs import read_runs
from harness.store.directory import outcome

SETTINGS = {"benchmark": "sinusoid", "iterations": 2, "meta_batch": 1, "eval_tasks": 2, "threads": 1}
EDITS = {
    "config.yaml": ("inner_lr: 0.01", "inner_lr: 0.02"),
    "environment.json": ("sittings", "settings"),
    "metrics.jsonl": ('"loss": ', '"loss": 1'),
    "evaluations.jsonl": ('"tasks": 2', '"tasks": 600'),
}


@pytest.fixture
def run(tmp_path) -> tuple[Path, RunConfig]:
    config = RunConfig(**SETTINGS, inner_lr=0.01)
    return Path(harness.run(config, results=tmp_path / "runs")["run_dir"]), config


def edit(path: Path) -> None:
    before, after = EDITS[path.name]
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


def suite(folder: Path) -> Path:
    path = folder / "suite.yaml"
    entry = {"algo": "anil", "inner_lr": 0.01}
    path.write_text(yaml.safe_dump({"title": "t", "base": SETTINGS, "grid": [entry]}))
    return path


@pytest.mark.parametrize("name", EDITS)
def test_what_was_edited_is_no_result_to_be_used_again(run, tmp_path, name):
    folder, config = run
    path, results = suite(tmp_path), folder.parent
    assert [entry.state for entry in grid(str(path), results)] == ["cached"]
    edit(folder / name)
    for more in ({}, {"resume": True}):
        with pytest.raises(InputError, match=rf"{folder}: {name} changed after the run ended; add --fresh"):
            harness.run(config, results=results, **more)
    [entry] = grid(str(path), results)
    assert (entry.directory, entry.state) == (folder, "failed")
    assert entry.summary == {
        "status": "changed", "message": f"{name} changed after the run ended", "run_dir": str(folder)
    }  # fmt: skip
    repeated = harness.run(config, results=results, resume=True, replaces=entry.summary)
    assert repeated["status"] == "completed"
    assert [entry.state for entry in grid(str(path), results)] == ["cached"]
    assert EDITS[name][1] not in (folder / name).read_text()


def test_to_say_that_it_is_done_is_not_enough(run, tmp_path):
    folder, config = run
    (folder / "summary.json").write_text('{"status": "completed"}')
    assert [entry.state for entry in grid(str(suite(tmp_path)), folder.parent)] == ["unfinished"]
    with pytest.raises(InputError, match="holds an unfinished run"):
        harness.run(config, results=folder.parent)
    assert harness.run(config, results=folder.parent, resume=True)["accuracy"]["tasks"] == 2


def test_a_summary_that_is_a_link_is_none(run, tmp_path):
    folder, _ = run
    (folder / "summary.json").rename(tmp_path / "elsewhere.json")
    (folder / "summary.json").symlink_to(tmp_path / "elsewhere.json")
    assert [entry.state for entry in grid(str(suite(tmp_path)), folder.parent)] == ["unfinished"]


def test_a_report_says_what_was_edited_and_what_nobody_could_know(tmp_path, capsys):
    for seed, name in enumerate(("config", "environment", "metrics", "older", "whole")):
        write_run(tmp_path / "runs", name=name, seed=seed)
    folder = tmp_path / "runs"
    text = (folder / "config" / "config.yaml").read_text()
    (folder / "config" / "config.yaml").write_text(text.replace("inner_lr: 0.1", "inner_lr: 0.2"))
    text = (folder / "environment" / "environment.json").read_text()
    (folder / "environment" / "environment.json").write_text(text.replace("Some CPU", "Another CPU"))
    text = (folder / "metrics" / "metrics.jsonl").read_text()
    (folder / "metrics" / "metrics.jsonl").write_text(text.replace('"loss": 1.', '"loss": 0.', 1))
    summary = json.loads((folder / "older" / "summary.json").read_text())
    del summary["files"]
    (folder / "older" / "summary.json").write_text(json.dumps(summary))
    runs, skipped = read_runs([folder])
    assert skipped == [f"{folder / 'config'}: config.yaml: changed after the run ended"]
    assert [run.path.name for run in runs if not run.environment] == ["environment"]
    warnings = compare_runs(runs, [Target("loss", 1.3)], skipped=skipped).warnings
    for name, file in (("environment", "environment.json"), ("metrics", "metrics.jsonl")):
        assert f"{folder / name}: {file} changed after the run ended" in warnings
    [line] = [line for line in warnings if "digests" in line]
    assert line.startswith("1 of 4 runs have no digests of their files")


def test_a_failed_run_that_another_process_has_repeated_is_not_repeated_again(tmp_path):
    config = RunConfig(**{**SETTINGS, "inner_lr": 1e20})
    first = harness.run(config, results=tmp_path)
    assert first["status"] == "diverged"
    seen, summary = outcome(Path(first["run_dir"])), Path(first["run_dir"]) / "summary.json"
    stamps = [summary.stat().st_mtime_ns]
    for _ in range(2):  # both had seen the first failure when they began
        assert harness.run(config, results=tmp_path, resume=True, replaces=seen)["status"] == "diverged"
        stamps.append(summary.stat().st_mtime_ns)
    assert stamps[0] < stamps[1] == stamps[2]


@pytest.mark.slow
def test_two_grids_that_retry_at_once_leave_each_others_runs_alone(tmp_path):
    (tmp_path / "fragile.py").write_text(
        "import os\nfrom harness.problem.nets import mlp\n"
        "def model(input_shape, outputs, **options):\n"
        "    if os.environ.get('FRAGILE'):\n        os._exit(7)\n"
        "    return mlp(input_shape, outputs)\n"
    )
    path = tmp_path / "suite.yaml"
    entry = {"algo": "anil", "model": "fragile:model", "iterations": 400}
    path.write_text(yaml.safe_dump({"title": "t", "base": SETTINGS, "seeds": [0, 1], "grid": [entry]}))
    given = [
        sys.executable,
        "-m",
        "harness",
        "compare",
        str(path),
        "--workers",
        "1",
        "--results",
        str(tmp_path / "runs"),
    ]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])}
    assert subprocess.run(given, env={**env, "FRAGILE": "1"}, capture_output=True, check=False).returncode == 1
    both = [subprocess.Popen([*given, "--retry"], env=env, stderr=subprocess.DEVNULL) for _ in range(2)]
    while all(process.poll() is None for process in both):
        time.sleep(0.02)
    ended = time.time_ns()
    assert [process.wait() for process in both] == [0, 0]
    summaries = list(tmp_path.glob("runs/*/summary.json"))
    assert len(summaries) == 2
    assert all(summary.stat().st_mtime_ns < ended for summary in summaries), "a finished run was repeated"


def test_a_grid_says_in_one_line_what_was_edited(run, tmp_path, capsys):
    folder, _ = run
    edit(folder / "config.yaml")
    words = ["compare", str(suite(tmp_path)), "--results", str(folder.parent), "--workers", "1"]
    assert main(words) == 1
    shown = capsys.readouterr().out
    assert "changed: config.yaml changed after the run ended:" in shown
    assert str(folder) in shown
