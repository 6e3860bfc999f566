"""One run on several processes: the same run to rounding, and whatever happens to one of them ends all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from faulty import signalled_at
from ranked import (
    commanded,
    failing_at,
    impatient,
    initialised,
    ranked,
    refused,
    runs,
    signalled_in_evaluation,
)

import harness
from harness import RunConfig
from harness.errors import CodeFailed, InputError
from harness.experiment.ranks import RankLost
from harness.experiment.shares import take_gpu
from harness.store.directory import load_checkpoint, load_parameters

SMALL: dict[str, Any] = {
    "benchmark": "sinusoid",
    "model_options": {"hidden": [8, 8]},
    "iterations": 4,
    "meta_batch": 5,
    "inner_steps": 2,
    "inner_lr": 0.01,
    "eval_tasks": 7,
    "eval_every": 2,
    "stationarity_every": 2,
    "stationarity_tasks": 6,
    "checkpoint_every": 2,
    "threads": 1,
    "dtype": "float64",
}
FLAGS = [word for name, value in SMALL.items() for word in ("--set", f"{name}={json.dumps(value)}")]
ALGORITHMS = ("maml", "fomaml", "anil:convex", "anil:nonconvex")
#: shares of 3 ranks: 2, 2, 1 tasks, and of the third 1, 1, none
CONFIGS = [{**SMALL, "algo": name} for name in ALGORITHMS]
CONFIGS[2]["meta_batch"] = 2
#: what may be another one with another number of ranks
_OTHER = ("seconds", "peak_memory_bytes", "run_dir", "files", "ranks", "task_chunk", "resumed_elsewhere")


def numbers(folder: Path) -> Iterator[tuple[str, Any]]:
    """Every value that a run has written, by where it is."""

    def leaves(value: Any, at: str) -> Iterator[tuple[str, Any]]:
        parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
        if parts is None:
            yield at, value
            return
        for name, part in parts:
            if name not in _OTHER:
                yield from leaves(part, f"{at} {name}")

    yield from leaves(json.loads((folder / "summary.json").read_text()), "summary")
    for name in ("metrics", "evaluations", "stationarity"):
        lines = (folder / f"{name}.jsonl").read_text().splitlines()
        yield from leaves([json.loads(line) for line in lines], name)


def assert_same(folder: Path, other: Path) -> None:
    """Counts, iterations and words equal, numbers and parameters to 1e-12."""
    expected, found = dict(numbers(folder)), dict(numbers(other))
    assert found.keys() == expected.keys()
    for at, value in expected.items():
        close = isinstance(value, float)
        assert found[at] == (pytest.approx(value, rel=1e-12, abs=1e-14) if close else value), at
    parameters, others = load_parameters(folder), load_parameters(other)
    for part in ("w", "phi"):
        torch.testing.assert_close(others[part], parameters[part], rtol=1e-12, atol=1e-14)


def only(results: Path) -> Path:
    [folder] = results.iterdir()
    return folder


def said(folder: Path) -> list[list[str]]:
    """Lines of each rank."""
    return [file.read_text().splitlines() for file in sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The folder of what one process makes of :data:`CONFIGS`."""
    results = tmp_path_factory.mktemp("alone")
    for config in CONFIGS:
        assert harness.run(RunConfig(**config), results=results)["ranks"] == 1
    return results


@pytest.mark.parametrize("size", [2, 3])
def test_any_number_of_processes_does_the_same_run(tmp_path, alone, size):
    assert ranked(size, runs, CONFIGS, tmp_path) == [0] * size
    assert {folder.name for folder in tmp_path.iterdir()} == {folder.name for folder in alone.iterdir()}
    for folder in tmp_path.iterdir():
        assert_same(alone / folder.name, folder)
        assert json.loads((folder / "summary.json").read_text())["ranks"] == size
        environment = json.loads((folder / "environment.json").read_text())
        assert environment["distributed"] == {"ranks": size}


def test_a_signal_to_one_rank_saves_a_checkpoint_that_any_number_goes_on_from(tmp_path, alone):
    config = ["run", "--algo", "maml", *FLAGS, "--results", str(tmp_path / "runs")]
    assert ranked(2, commanded, config, tmp_path / "first", {1: (signalled_at, 1, signal.SIGINT)}) == [130, 0]
    folder = only(tmp_path / "runs")
    assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"
    assert load_checkpoint(folder / "checkpoint.pt")["totals"]["iteration"] == 1
    first, second = said(tmp_path / "first")
    assert any("--resume" in line for line in first)
    assert second == []
    again = [*config, "--resume"]
    assert ranked(3, commanded, again, tmp_path / "second", {2: (signalled_at, 3, signal.SIGTERM)}) == [130, 0, 0]
    assert load_checkpoint(folder / "checkpoint.pt")["totals"]["iteration"] == 3
    summary = harness.run(RunConfig(**SMALL, algo="maml"), results=tmp_path / "runs", resume=True)
    assert_same(alone / folder.name, folder)
    assert summary["resumed_elsewhere"] == ["distributed ranks: 2 -> 3", "distributed ranks: 3 -> none"]


def test_a_signal_in_the_evaluation_of_one_rank_leaves_the_run_to_be_gone_on_with(tmp_path, alone):
    arguments = ["run", "--algo", "maml", *FLAGS, "--results", str(tmp_path / "runs")]
    harms = {1: (signalled_in_evaluation, "test", signal.SIGINT)}
    assert ranked(2, commanded, arguments, tmp_path / "said", harms) == [130, 0]
    folder = only(tmp_path / "runs")
    assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"
    assert load_checkpoint(folder / "checkpoint.pt")["totals"]["iteration"] == SMALL["iterations"]
    assert ranked(2, commanded, [*arguments, "--resume"], tmp_path / "more") == [0, 0]
    assert_same(alone / folder.name, folder)


def test_each_rank_takes_the_gpu_of_its_number(monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for number, device in (("0", "auto"), ("1", "cuda"), ("2", "cpu")):
        monkeypatch.setenv("LOCAL_RANK", number)
        take_gpu(SimpleNamespace(size=3), device)
    assert taken == [0, 1]
    with pytest.raises(InputError, match="device 'auto': GPUs for 2 ranks a machine alone; allowed: so many, or cpu"):
        take_gpu(SimpleNamespace(size=3), "auto")


@pytest.mark.parametrize("killed", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_killed_rank_ends_the_others_with_one_line(tmp_path, alone, killed):
    arguments = ["run", "--algo", "maml", *FLAGS, "--results", str(tmp_path / "runs")]
    ended = ranked(3, commanded, arguments, tmp_path / "said", {killed: (signalled_at, 3, signal.SIGKILL)})
    assert ended == [-signal.SIGKILL if rank == killed else 1 for rank in range(3)]
    for rank, lines in enumerate(said(tmp_path / "said")):
        assert [line for line in lines if line.startswith("error")] == [f"error: {RankLost()}"] * (rank != killed)
    folder = only(tmp_path / "runs")
    assert not (folder / "summary.json").exists()
    assert load_checkpoint(folder / "checkpoint.pt")["totals"]["iteration"] == 2
    assert ranked(2, commanded, [*arguments, "--resume"], tmp_path / "more") == [0, 0]
    assert_same(alone / folder.name, folder)


@pytest.mark.slow
def test_a_rank_that_gives_no_sign_of_life_is_not_waited_for(tmp_path):
    arguments = ["run", *FLAGS, "--results", str(tmp_path / "runs")]
    harms = {0: (impatient, 0), 1: (impatient, 8)}
    assert ranked(2, commanded, arguments, tmp_path / "said", harms) == [1, 1]
    for lines in said(tmp_path / "said"):
        assert [line for line in lines if line.startswith("error")] == [f"error: {RankLost()}"]
    assert load_checkpoint(only(tmp_path / "runs") / "checkpoint.pt")["totals"]["iteration"] == 2


@pytest.mark.parametrize("failed", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_an_error_in_one_rank_is_one_line_of_the_first(tmp_path, failed):
    arguments = ["run", *FLAGS, "--results", str(tmp_path / "runs")]
    harms = {failed: (failing_at, 3, CodeFailed("model 'own' failed"))}
    assert ranked(2, commanded, arguments, tmp_path / "said", harms) == [1, 0]
    first, second = said(tmp_path / "said")
    assert [line for line in first if line.startswith("error")] == [f"error: {'rank 1: ' * failed}model 'own' failed"]
    assert second == []
    assert load_checkpoint(only(tmp_path / "runs") / "checkpoint.pt")["totals"]["iteration"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("failed", [0, 1])
def test_memory_that_runs_out_in_one_rank_is_halved_there_or_recorded(tmp_path, alone, failed):
    harms = {failed: (failing_at, 3, torch.OutOfMemoryError("out of memory. Tried to allocate 2.00 GiB"))}
    for chunk in ("auto", "5"):
        arguments = ["run", "--algo", "maml", *FLAGS, "--results", str(tmp_path / chunk), "--task-chunk", chunk]
        ended = ranked(2, commanded, arguments, tmp_path / "said", harms)
        folder = only(tmp_path / chunk)
        if chunk == "auto":
            assert ended == [0, 0]
            assert_same(alone / folder.name, folder)
        else:
            assert ended == [1, 0]
            summary = json.loads((folder / "summary.json").read_text())
            assert (summary["status"], summary["iterations_done"]) == ("out_of_memory", 2)
            assert summary["out_of_memory"]["asked_bytes"] == 2 << 30


def test_what_several_ranks_cannot_do_is_one_line_of_the_first(tmp_path):
    refused = {
        ("time",): "harness time by 2 processes of torchrun; allowed: harness run",
        ("compare", "quick"): "harness compare by 2 processes of torchrun; allowed: harness run",
        ("run", *FLAGS, "--device", "cuda:0"): "allowed: cuda, cpu",
        ("run", "--benchmark", "sinusod"): "did you mean 'sinusoid'?",
        ("run", "--itertions", "5"): "--itertions",
    }
    for number, (arguments, words) in enumerate(refused.items()):
        assert ranked(2, commanded, [*arguments], tmp_path / str(number)) == [2, 0], arguments
        first, second = said(tmp_path / str(number))
        assert len(first) == 1, first
        assert words in first[0]
        assert second == []


def test_what_cannot_be_shared_out_is_refused_in_all_ranks(tmp_path):
    config = {**SMALL, "algo": "maml", "eval_every": 0, "stationarity_every": 0}
    assert ranked(2, refused, config, tmp_path) == [0, 0]
    assert len([*tmp_path.iterdir()]) == 1


@pytest.mark.slow
def test_a_program_may_have_a_process_group_of_its_own(tmp_path, alone):
    assert ranked(2, initialised, CONFIGS[1], tmp_path) == [0, 0]
    assert_same(alone / only(tmp_path).name, only(tmp_path))


def torchrun(*arguments: str) -> subprocess.Popen[str]:
    """``torchrun`` of two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "harness"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, *arguments], **pipes, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.slow
def test_torchrun_itself(tmp_path, alone):
    arguments = ["run", "--algo", "fomaml", *FLAGS, "--results", str(tmp_path), "--json"]
    process = torchrun(*arguments)
    printed, words = process.communicate(timeout=300)
    assert process.returncode == 0, words
    summary = json.loads(printed)  # of one rank alone
    assert summary["ranks"] == 2
    assert summary["seconds"]["exchange"] > 0
    assert_same(alone / only(tmp_path).name, only(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_ending_torchrun_saves_a_checkpoint(tmp_path, signum):
    arguments = ["run", *FLAGS, "--iterations", "1000000", "--checkpoint-every", "1000000", "--results", str(tmp_path)]
    process = torchrun(*arguments)
    while process.poll() is None and not [*tmp_path.glob("*/metrics.jsonl")]:
        time.sleep(0.1)
    process.send_signal(signum)
    words = process.communicate(timeout=300)[1]
    folder = only(tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "interrupted", words
    assert load_checkpoint(folder / "checkpoint.pt")["totals"]["iteration"] == summary["iterations_done"] > 0


PEERS = [pytest.param(name, marks=pytest.mark.peers) for name in ("higher", "learn2learn", "torchopt")]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["native", *PEERS])
def test_every_engine_is_shared_out(tmp_path, engine):
    pictures = {"benchmark": "glyphs", "model_options": {"filters": 2}, "shots": 1, "queries": 1, "inner_lr": 0.1}
    common = {**SMALL, **pictures, "engine": engine, "meta_batch": 3, "stationarity_tasks": 2}
    configs = [{**common, "algo": algorithm} for algorithm in ("maml", "anil:nonconvex")]
    runs(configs, tmp_path / "alone")
    assert ranked(2, runs, configs, tmp_path / "two") == [0, 0]
    for folder in (tmp_path / "two").iterdir():
        assert_same(tmp_path / "alone" / folder.name, folder)
