"""A run of more meta-iterations goes on from a finished shorter one, and ends as if it had run from its beginning."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

import harness
from harness import RunConfig

BASE = {
    "benchmark": "sinusoid",
    "meta_batch": 2,
    "eval_tasks": 4,
    "inner_lr": 0.01,
    "threads": 1,
    "eval_every": 2,
    "stationarity_every": 4,
    "stationarity_tasks": 4,
    "checkpoint_every": 3,
}


def run(folder: Path, iterations: int, **settings) -> dict:
    fresh = settings.pop("fresh", False)
    return harness.run(RunConfig(**{**BASE, "iterations": iterations, **settings}), results=folder, fresh=fresh)


def written(summary: dict) -> dict:
    """All that a run has on disk, without seconds."""
    folder = Path(summary["run_dir"])
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    lines = {
        name: [{**json.loads(line), "seconds": None} for line in (folder / name).read_text().splitlines()]
        for name in ("metrics.jsonl", "evaluations.jsonl", "stationarity.jsonl")
    }
    kept = ("key", "status", "counts", "train_loss", "accuracy", "loss", "iterations_done", "resumed_elsewhere")
    return {
        **lines,
        "w": state["w"].tolist(),
        "phi": state["phi"].tolist(),
        "optimizer": repr(state["optimizer"]),
        "summary": {name: summary[name] for name in kept},
    }


@pytest.mark.parametrize("algo", ["anil", "maml"])
def test_it_ends_bit_for_bit_as_if_it_had_run_from_its_beginning(tmp_path, algo, caplog):
    whole = run(tmp_path / "whole", 13, algo=algo)
    shorter = run(tmp_path / "parts", 4, algo=algo)
    before = written(shorter)
    run(tmp_path / "parts", 8, algo=algo)
    with caplog.at_level(logging.INFO, logger="harness"):
        longer = run(tmp_path / "parts", 13, algo=algo)
    assert "going on from the 8 meta-iterations of" in caplog.text
    assert written(longer) == written(whole)
    assert written(shorter) == before
    assert run(tmp_path / "parts", 4, algo=algo) == shorter
    sittings = json.loads((Path(longer["run_dir"]) / "environment.json").read_text())["sittings"]
    assert len(sittings) == 3


@pytest.mark.parametrize("done", [5, 6])
def test_where_the_shorter_one_measured_and_this_one_does_not_it_starts_anew_and_says_so(tmp_path, done, caplog):
    whole = run(tmp_path / "whole", 9)
    run(tmp_path / "parts", done)
    with caplog.at_level(logging.INFO, logger="harness"):
        longer = run(tmp_path / "parts", 9)
    assert "it starts anew" in caplog.text
    assert written(longer) == written(whole)


def test_one_that_differs_in_anything_else_or_is_not_finished_is_left_alone(tmp_path, caplog):
    run(tmp_path, 4, seed=1)
    run(tmp_path, 4, inner_lr=0.02)
    unfinished = run(tmp_path, 4)
    path = Path(unfinished["run_dir"]) / "summary.json"
    path.write_text(json.dumps({**unfinished, "status": "interrupted"}))
    with caplog.at_level(logging.INFO, logger="harness"):
        run(tmp_path, 8)
    assert "going on" not in caplog.text


def test_fresh_starts_anew(tmp_path, caplog):
    run(tmp_path, 4)
    with caplog.at_level(logging.INFO, logger="harness"):
        run(tmp_path, 8, fresh=True)
    assert "going on" not in caplog.text


def test_killed_while_it_was_copying_it_begins_again(tmp_path, monkeypatch):
    from harness.experiment import longer

    whole = run(tmp_path / "whole", 8)
    run(tmp_path / "parts", 4)
    real = longer.write

    def killed(path, content):
        if path.name == "checkpoint.pt":
            raise KeyboardInterrupt
        real(path, content)

    monkeypatch.setattr(longer, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", 8)
    monkeypatch.setattr(longer, "write", real)
    assert written(run(tmp_path / "parts", 8)) == written(whole)


def test_what_is_no_plain_file_there_is_not_read(tmp_path, caplog):
    whole = run(tmp_path / "whole", 8)
    shorter = Path(run(tmp_path / "parts", 4)["run_dir"])
    (shorter / "metrics.jsonl").rename(tmp_path / "elsewhere")
    (shorter / "metrics.jsonl").symlink_to(tmp_path / "elsewhere")
    with caplog.at_level(logging.INFO, logger="harness"):
        longer = run(tmp_path / "parts", 8)
    assert "metrics.jsonl changed after it ended: this run starts anew" in caplog.text
    assert written(longer) == written(whole)


def test_where_steps_fall_a_shorter_run_is_no_beginning(tmp_path, caplog):
    run(tmp_path, 4, outer_schedule="cosine")
    with caplog.at_level(logging.INFO, logger="harness"):
        longer = run(tmp_path, 8, outer_schedule="cosine")
    assert "going on" not in caplog.text
    assert written(longer) == written(run(tmp_path / "alone", 8, outer_schedule="cosine"))
