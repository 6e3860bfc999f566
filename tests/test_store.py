"""Run directories survive kills: torn lines, resumption, locks."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch

import harness
from harness import RunConfig
from harness.errors import HarnessError, InputError
from harness.store.directory import RunDirectory, load_parameters
from harness.store.lock import Locked

SMALL = RunConfig(
    benchmark="sinusoid",
    iterations=7,
    meta_batch=2,
    eval_tasks=4,
    eval_every=3,
    checkpoint_every=2,
    inner_lr=0.01,
    threads=1,
)


class StopAfter:
    """A watcher that asks the run to stop after an iteration, as Ctrl-C does."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def begin(self, config, done): ...

    def trained(self, record):
        if record["iteration"] == self.iteration:
            os.kill(os.getpid(), signal.SIGINT)

    def evaluated(self, split, done, total): ...

    def measured(self, what, record): ...

    def end(self): ...


def metrics(summary: dict) -> list[dict]:
    lines = (Path(summary["run_dir"]) / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def interrupted(tmp_path: Path) -> dict:
    # The record of iteration 1 is written at once, later ones in batches; so this stops after the second.
    return harness.run(SMALL, results=tmp_path, progress=StopAfter(1))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_resumed_run_equals_an_undisturbed_one(tmp_path, optimizer):
    config = SMALL.model_copy(update={"outer_optimizer": optimizer})
    whole = harness.run(config, results=tmp_path / "a")
    first = harness.run(config, results=tmp_path / "b", progress=StopAfter(3))
    assert first["status"] == "interrupted"
    assert 3 <= first["iterations_done"] < 7
    second = harness.run(config, results=tmp_path / "b", resume=True)
    assert second["status"] == "completed"
    for key in ("accuracy", "loss", "counts", "train_loss", "key"):
        assert whole[key] == second[key]
    assert metrics(whole) == metrics(second)
    ours, theirs = load_parameters(whole["run_dir"]), load_parameters(second["run_dir"])
    assert torch.equal(ours["w"], theirs["w"])
    assert torch.equal(ours["phi"], theirs["phi"])
    evaluations = [(Path(run["run_dir"]) / "evaluations.jsonl").read_text() for run in (whole, second)]
    assert evaluations[0] == evaluations[1]


def test_lines_after_the_checkpoint_are_cut_and_a_torn_one_is_mentioned(tmp_path, caplog):
    whole = harness.run(SMALL, results=tmp_path / "a")
    first = interrupted(tmp_path / "b")
    with (Path(first["run_dir"]) / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 99}\n{"iterat')
    (Path(first["run_dir"]) / "summary.json").unlink()
    second = harness.run(SMALL, results=tmp_path / "b", resume=True)
    assert "torn" in caplog.text
    assert metrics(whole) == metrics(second)


def test_unfinished_work_is_neither_deleted_nor_silently_continued(tmp_path):
    first = interrupted(tmp_path)
    with pytest.raises(InputError, match="--resume or --fresh"):
        harness.run(SMALL, results=tmp_path)
    assert (Path(first["run_dir"]) / "checkpoint.pt").exists()
    assert harness.run(SMALL, results=tmp_path, fresh=True)["status"] == "completed"


def test_a_finished_run_is_not_repeated(tmp_path):
    first = harness.run(SMALL, results=tmp_path)
    stamp = (Path(first["run_dir"]) / "metrics.jsonl").stat().st_mtime_ns
    assert harness.run(SMALL, results=tmp_path) == first
    assert (Path(first["run_dir"]) / "metrics.jsonl").stat().st_mtime_ns == stamp


def test_files_of_a_run(tmp_path):
    summary = harness.run(SMALL, results=tmp_path)
    names = {path.name for path in Path(summary["run_dir"]).iterdir()}
    assert names == {
        "config.yaml", "environment.json", "metrics.jsonl", "evaluations.jsonl", "checkpoint.pt", "summary.json"
    }  # fmt: skip
    assert json.loads((Path(summary["run_dir"]) / "summary.json").read_text()) == summary
    environment = json.loads((Path(summary["run_dir"]) / "environment.json").read_text())
    assert environment["packages"]["torch"]
    assert environment["cpu"]["threads"] == 1


def test_checkpoint_loads_with_weights_only_and_fits_the_model(tmp_path):
    summary = harness.run(SMALL, results=tmp_path)
    state = torch.load(Path(summary["run_dir"]) / "checkpoint.pt", weights_only=True)
    assert state["totals"]["iteration"] == 7
    from harness.problem.nets import mlp

    mlp((1,), 1).load_state_dict(load_parameters(summary["run_dir"])["state_dict"])


def test_a_damaged_checkpoint_is_one_line(tmp_path):
    first = interrupted(tmp_path)
    (Path(first["run_dir"]) / "checkpoint.pt").write_bytes(b"nonsense")
    with pytest.raises(HarnessError, match="not a readable checkpoint"):
        harness.run(SMALL, results=tmp_path, resume=True)


def test_two_processes_do_not_share_a_directory(tmp_path):
    with RunDirectory(tmp_path / "run").claim():
        second = RunDirectory(tmp_path / "run").claim()
        with pytest.raises(Locked, match=f"another process is working on this run: {os.getpid()} on .* since 20"):
            second.__enter__()
    with RunDirectory(tmp_path / "run").claim():
        pass
    assert list((tmp_path / "run").iterdir()) == []


def test_a_checkpoint_of_something_else_is_one_line(tmp_path):
    first = interrupted(tmp_path)
    checkpoint = Path(first["run_dir"]) / "checkpoint.pt"
    state = torch.load(checkpoint)
    for wrong in ([1], {}, {**state, "w": torch.zeros(3)}, {**state, "logs": {"metrics.jsonl": ["x", -1]}}):
        torch.save(wrong, checkpoint)
        with pytest.raises(HarnessError, match="not a checkpoint of this run"):
            harness.run(SMALL, results=tmp_path, resume=True)


def test_what_is_neither_file_nor_json_is_read_as_nothing(tmp_path):
    first = interrupted(tmp_path)
    (Path(first["run_dir"]) / "environment.json").write_text('{"a":' * 5000 + "1" + "}" * 5000)
    (Path(first["run_dir"]) / "summary.json").unlink()
    os.mkfifo(Path(first["run_dir"]) / "summary.json")
    os.mkfifo(Path(first["run_dir"]) / "lock.json")
    assert harness.run(SMALL, results=tmp_path, resume=True)["status"] == "completed"


def test_an_environment_nested_without_end_is_cut_short(tmp_path):
    first = interrupted(tmp_path)
    (Path(first["run_dir"]) / "environment.json").write_text('{"a":' * 900 + "1" + "}" * 900)
    assert "a a: none -> none" not in harness.run(SMALL, results=tmp_path, resume=True)["resumed_elsewhere"]
