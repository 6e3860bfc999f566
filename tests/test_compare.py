"""Grids of runs: reused by key, resumed after a kill, failures recorded and kept apart, nothing refused half-way."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from fabricated import seal

from harness.cli import main
from harness.errors import InputError
from harness.grid.child import Place
from harness.grid.compare import compare, estimate, grid, places
from harness.grid.pool import Job, Pool
from harness.grid.workers import Workers
from harness.settings.config import RunConfig
from harness.settings.resolve import resolve
from harness.settings.suites import plan

BASE = {"benchmark": "sinusoid", "iterations": 4, "meta_batch": 2, "eval_tasks": 4, "threads": 1}
TWO = {"algo": "anil", "geometry": ["convex", "nonconvex"], "inner_steps": 1}


def suite(tmp_path: Path, *entries: dict, base: dict | None = None, seeds=(0,), **more) -> str:
    path = tmp_path / "suite.yaml"
    document = {"title": "t", "base": {**BASE, **(base or {})}, "seeds": list(seeds), "grid": list(entries), **more}
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return str(path)


def test_lists_are_crossed_and_the_same_run_is_done_once(tmp_path):
    runs = plan(suite(tmp_path, {**TWO, "inner_steps": [1, 3]}, {"algo": "anil", "inner_steps": 1}, seeds=(0, 1))).runs
    found = [(run.config.seed, run.config.geometry, run.config.inner_steps) for run in runs]
    assert found == [(s, g, n) for s in (0, 1) for g in ("convex", "nonconvex") for n in (1, 3)]


@pytest.mark.slow
def test_finished_runs_are_reused_whatever_the_order_and_the_key_is_that_of_run(tmp_path):
    first = compare(suite(tmp_path, TWO), results=tmp_path / "runs", workers=2)
    assert [entry.state for entry in first] == ["cached", "cached"]
    assert all(entry.summary["run_dir"] == str(entry.directory) for entry in first)
    written = {entry.directory: (entry.directory / "summary.json").stat().st_mtime_ns for entry in first}
    again = compare(suite(tmp_path, {**TWO, "geometry": ["nonconvex", "convex"]}), results=tmp_path / "runs", workers=1)
    assert {entry.directory: (entry.directory / "summary.json").stat().st_mtime_ns for entry in again} == written
    [expected] = {entry.config.iterations for entry in first}
    longer = grid(suite(tmp_path, TWO), tmp_path / "runs", [f"iterations={10 * expected}"])
    assert [entry.state for entry in longer] == ["new", "new"]
    walls = {entry.config.geometry: entry.summary["seconds"]["wall"] for entry in first}
    assert estimate(longer) == pytest.approx([10 * walls[entry.config.geometry] for entry in longer])


@pytest.mark.slow
def test_a_failure_stays_its_own_and_is_repeated_only_on_request(tmp_path, monkeypatch):
    (tmp_path / "fragile.py").write_text(
        "import os, pathlib\nfrom harness.problem.nets import mlp\n"
        "def model(input_shape, outputs, **options):\n"
        "    if os.environ.get('FRAGILE') == 'crash':\n        os._exit(7)\n"
        "    return mlp(input_shape, outputs)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("FRAGILE", "crash")
    path = suite(
        tmp_path,
        {"algo": "maml", "inner_steps": 1, "model": "fragile:model"},
        {"algo": "maml", "inner_steps": 3, "inner_lr": 1e9},
        {"algo": "anil", "inner_steps": 1},
    )
    entries = compare(path, results=tmp_path / "runs")
    assert [entry.summary["status"] for entry in entries] == ["crashed", "diverged", "completed"]
    assert "exit status 7" in entries[0].summary["message"]
    monkeypatch.setenv("FRAGILE", "no")
    assert [entry.state for entry in compare(path, results=tmp_path / "runs")] == ["failed", "failed", "cached"]
    entries = compare(path, results=tmp_path / "runs", retry=True)
    assert [entry.summary["status"] for entry in entries] == ["completed", "diverged", "completed"]
    assert not (entries[0].directory / "failure.json").exists()


@pytest.mark.slow
def test_a_run_stopped_before_it_could_begin_is_interrupted_and_no_failure(tmp_path):
    [entry] = grid(suite(tmp_path, {"algo": "anil"}), tmp_path / "runs")
    job = Job(entry.asked, entry.directory)
    workers = Workers([Place(threads=1)])
    pool = Pool([job], workers)
    threading.Timer(0.3, pool.stop).start()  # while its process still imports torch
    assert [event for _, event in pool.events()] == [{"event": "end"}]
    assert job.result == {"status": "interrupted"}
    workers.close()
    assert not entry.directory.exists()


@pytest.mark.slow
def test_killed_and_started_again_it_redoes_nothing_and_ends_as_if_undisturbed(tmp_path):
    base = {"iterations": 150, "checkpoint_every": 10, "stationarity_every": 25, "stationarity_tasks": 4}
    path = suite(tmp_path, TWO, base=base, seeds=(0, 1))
    command = [sys.executable, "-m", "harness", "compare", path, "--workers", "2", "--results"]
    killed = subprocess.Popen([*command, str(tmp_path / "killed")], stderr=subprocess.DEVNULL)
    while not list((tmp_path / "killed").glob("*/summary.json")):
        time.sleep(0.1)
        assert killed.poll() is None
    time.sleep(0.5)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    time.sleep(1.0)  # the workers notice
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "killed").glob("*/summary.json")}
    finished = {file: at for file, at in before.items() if json.loads(file.read_text())["status"] == "completed"}
    assert 1 <= len(finished) < 4
    subprocess.run([*command, str(tmp_path / "killed")], check=True, capture_output=True)
    assert {file: file.stat().st_mtime_ns for file in finished} == finished
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    for name in ("metrics.jsonl", "stationarity.jsonl", "evaluations.jsonl"):
        disturbed = sorted((tmp_path / "killed").glob(f"*/{name}"))
        whole = sorted((tmp_path / "whole").glob(f"*/{name}"))
        assert [file.parent.name for file in disturbed] == [file.parent.name for file in whole]
        assert [_without_seconds(file) for file in disturbed] == [_without_seconds(file) for file in whole]


def _without_seconds(file: Path) -> list[dict]:
    return [{**json.loads(line), "seconds": None} for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_runs_of_another_torch_are_not_mixed_in_unless_told(tmp_path):
    path = suite(tmp_path, {"algo": "anil", "inner_steps": 1})
    [entry] = compare(path, results=tmp_path / "runs")
    file = entry.directory / "environment.json"
    document = json.loads(file.read_text())
    document["packages"]["torch"] = "1.0"
    file.write_text(json.dumps(document))
    seal(entry.directory)
    with pytest.raises(InputError, match=r"torch 1\.0.*--mix"):
        compare(path, results=tmp_path / "runs")
    assert compare(path, results=tmp_path / "runs", mix=True)[0].state == "cached"


def test_cores_are_shared_out_among_workers(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.grid.compare.usable_cores", lambda: 8)
    [entry] = grid(suite(tmp_path, {"algo": "anil"}), tmp_path)
    assert [place.threads for place in places([entry], None)] == [1] * 8  # the suite asks for one thread
    assert [place.threads for place in places([entry], 2)] == [4, 4]


BAD = {
    "unknown suite": ("quik", {}, ["unknown suite 'quik'", "FILE.yaml"]),
    "unknown key": (None, {"algos": "anil"}, ["suite.yaml:", "unknown key 'algos'", "did you mean 'algo'?"]),
    "unknown algorithm": (None, {"algo": "anli"}, ["suite.yaml:", "did you mean 'anil'?"]),
    "geometry it lacks": (None, {"algo": "maml", "geometry": "convex"}, ["suite.yaml:", "no geometry 'convex'"]),
    "negative step": (None, {"algo": "anil", "inner_lr": [0.1, -1]}, ["suite.yaml:", "-1 is not allowed"]),
    "empty list": (None, {"algo": []}, ["suite.yaml:", "an empty list"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_suite_that_cannot_be_run_is_refused_in_one_line_before_anything_is_run(case, tmp_path, capsys):
    name, entry, words = BAD[case]
    path = name or suite(tmp_path, entry)
    assert main(["compare", path, "--results", str(tmp_path / "runs")]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert all(word in shown for word in words), shown
    assert not (tmp_path / "runs").exists()


def finished(results: Path, seconds: float, **settings) -> None:
    """A finished run beside the others, as far as an estimate looks at it."""
    names = ("geometry", "benchmark", "ways", "shots", "queries", "model", "engine", "dtype", "inner_steps")
    config = resolve(RunConfig(**BASE, **settings)).config
    summary = {name: getattr(config, name) for name in (*names, "iterations", "meta_batch")}
    folder = results / f"done-{settings}"
    folder.mkdir(parents=True)
    summary |= {"status": "completed", "algorithm": config.algo, "seconds": {"wall": seconds}}
    (folder / "summary.json").write_text(json.dumps(summary))


def test_a_dry_run_says_what_it_does_not_know(tmp_path, capsys):
    grids = ({"algo": "anil", "inner_steps": [1, 3, 5]}, {"algo": "maml", "inner_steps": 1})
    path, runs = suite(tmp_path, *grids, seeds=(0, 1)), tmp_path / "runs"

    def said() -> tuple[str, list[float | None]]:
        assert main(["compare", path, "--results", str(runs), "--dry-run", "--json"]) == 0
        out, err = capsys.readouterr()
        return " ".join(err.split()), [run["estimated_seconds"] for run in json.loads(out)["runs"]]

    line, seconds = said()
    assert "8 of 8 runs to do; how long is unknown: there is no finished run like any of them" in line
    assert seconds == [None] * 8
    finished(runs, 7.0, algo="anil", inner_steps=1)
    line, seconds = said()  # one N says nothing of another
    assert (
        "at least 14 s, one after the other, for the 2 that have a finished run like them; 6 have none: unknown" in line
    )
    assert seconds == [7.0, None, None, None] * 2
    finished(runs, 15.0, algo="anil", inner_steps=3)
    line, seconds = said()
    assert (
        "at least 90 s, one after the other, for the 6 that have a finished run like them; 2 have none: unknown" in line
    )
    finished(runs, 2.0, algo="maml", inner_steps=1)
    line, seconds = said()
    assert "8 of 8 runs to do; about 94 s one after the other next, to do them:" in line
    assert seconds == pytest.approx([7, 15, 23, 2] * 2)


def test_dry_run_lists_and_does_nothing(tmp_path, capsys):
    assert main(["compare", suite(tmp_path, TWO), "--results", str(tmp_path / "runs"), "--dry-run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [run["state"] for run in document["runs"]] == ["new", "new"]
    assert not (tmp_path / "runs").exists()
