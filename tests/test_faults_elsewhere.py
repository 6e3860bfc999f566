"""A run that goes on on another machine or version says so, and its seconds are left out of every comparison."""

from __future__ import annotations

import copy
import json
import math
import time
from datetime import datetime
from pathlib import Path

import pytest
from fabricated import write_run

import harness
from harness import RunConfig
from harness.measure.environment import environment
from harness.report.findings.comparison import compare_runs
from harness.report.findings.costs import Target
from harness.report.reading.runs import read_runs
from harness.report.tables.build import tables_of

CONFIG = RunConfig(
    benchmark="sinusoid", iterations=6, meta_batch=1, eval_tasks=2, inner_lr=0.01, threads=1, checkpoint_every=2
)


class StopAt:
    """A watcher that stops a run as Ctrl-C does at once: what comes after the last checkpoint is lost."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def trained(self, record):
        if record["iteration"] == self.iteration:
            raise KeyboardInterrupt

    begin = evaluated = measured = end = lambda self, *_: None


@pytest.fixture
def place(monkeypatch):
    """What this machine looks like to runs, to be changed."""
    import torch

    here = environment(torch.device("cpu"))
    monkeypatch.setattr("harness.experiment.run.environment", lambda *_: copy.deepcopy(here))
    return here


def stored(summary: dict) -> tuple[dict, list]:
    """Its environment, and apart from it when each part of it began; what it started from is no part of either."""
    found = json.loads((Path(summary["run_dir"]) / "environment.json").read_text())
    assert {"model", "given", "computed"} == found.pop("start").keys()
    return found, found.pop("sittings")


def test_versions_and_machines_are_recorded_with_every_result(tmp_path):
    summary = harness.run(CONFIG, results=tmp_path)
    found, [sitting] = stored(summary)
    assert abs(datetime.fromisoformat(sitting["started"]).timestamp() - time.time()) < 600
    assert sitting["load_average"] is None or sitting["load_average"] >= 0
    assert {"torch", "numpy", "higher", "learn2learn", "torchopt"} <= found["packages"].keys()
    assert {"model", "cores", "threads"} <= found["cpu"].keys()
    assert {"harness", "python", "platform", "gpu", "git", "determinism"} <= found.keys()
    assert {"commit", "dirty"} <= found["git"].keys()
    assert found["determinism"].keys() >= {"deterministic_algorithms", "cudnn_benchmark", "float32_matmul_precision"}
    assert summary["resumed_elsewhere"] == []
    assert "earlier" not in found


def test_resumed_in_the_same_place_it_says_nothing(tmp_path, place):
    harness.run(CONFIG, results=tmp_path, progress=StopAt(4))
    summary = harness.run(CONFIG, results=tmp_path, resume=True)
    assert summary["resumed_elsewhere"] == []
    found, sittings = stored(summary)
    assert found == place
    assert len({sitting["started"] for sitting in sittings}) == 2


def test_resumed_elsewhere_it_says_what_differed_and_keeps_every_environment(tmp_path, place):
    whole = harness.run(CONFIG, results=tmp_path / "whole")
    place["git"] = {"commit": "a" * 40, "dirty": False}
    first = copy.deepcopy(place)
    assert harness.run(CONFIG, results=tmp_path, progress=StopAt(1))["resumed_elsewhere"] == []
    place["packages"]["torch"] = "9.8.7"  # there was no checkpoint yet, so that the run starts anew, all of it there
    assert harness.run(CONFIG, results=tmp_path, resume=True, progress=StopAt(4))["resumed_elsewhere"] == []
    second = copy.deepcopy(place)
    place["gpu"] = {"name": "NVIDIA X"}
    place["harness"] = "9.9"
    place["git"] = {"commit": "f" * 40, "dirty": True}
    place["determinism"]["cudnn_benchmark"] = "odd"
    harness.run(CONFIG, results=tmp_path, resume=True, progress=StopAt(5))
    place["packages"]["torch"] = first["packages"]["torch"]
    last = harness.run(CONFIG, results=tmp_path, resume=True)
    assert {
        "gpu name: none -> NVIDIA X",
        f"harness: {first['harness']} -> 9.9",
        f"git commit: {'a' * 40} -> {'f' * 40}",
        "git dirty: False -> True",
        "determinism cudnn_benchmark: False -> odd",
        f"torch: 9.8.7 -> {first['packages']['torch']}",
    } <= set(last["resumed_elsewhere"])
    assert json.loads((Path(last["run_dir"]) / "summary.json").read_text()) == last
    history, sittings = stored(last)
    assert len(sittings) == 3
    third = history.pop("earlier")
    assert third[0] == second
    assert len(third) == 2
    assert history == place
    assert whole["loss"] == last["loss"]


def test_an_environment_that_is_lost_is_another_place(tmp_path, place):
    summary = harness.run(CONFIG, results=tmp_path, progress=StopAt(4))
    (Path(summary["run_dir"]) / "environment.json").write_text("torn")
    summary = harness.run(CONFIG, results=tmp_path, resume=True)
    assert summary["resumed_elsewhere"] == ["environment of the earlier part: unknown"]


@pytest.fixture
def runs(tmp_path) -> Path:
    """Five seeds of two methods; seed 0 of ANIL, which took longest, and all of MAML went on elsewhere."""
    for algo in ("anil", "maml"):
        for seed in range(5):
            slow = 9.0 if seed == 0 else 0.01
            folder = write_run(tmp_path, algo=algo, seed=seed, seconds=slow, rate=0.1)
            if algo == "maml" or seed == 0:
                path = folder / "summary.json"
                path.write_text(json.dumps({**json.loads(path.read_text()), "resumed_elsewhere": ["torch: 1 -> 2"]}))
                path = folder / "environment.json"
                there = json.loads(path.read_text())
                path.write_text(json.dumps({**there, "cpu": {**there["cpu"], "model": "Another CPU"}}))
    return tmp_path


def test_its_seconds_and_memory_are_left_out_and_the_rest_stays(runs):
    found, skipped = read_runs([runs])
    target = Target("epsilon", 0.1)
    comparison = compare_runs(found, [target], skipped=skipped)  # although the machines differ
    results = {result.group.algorithm: result for result in comparison.results}
    anil, maml = results["anil"], results["maml"]
    assert anil.seconds["train"] == pytest.approx(0.01)
    assert anil.costs[target].median.seconds == pytest.approx(0.01 * anil.costs[target].median.iterations)
    assert anil.costs[target].seeds == 5
    assert math.isnan(maml.seconds["train"])
    assert math.isnan(maml.peak_memory_bytes)
    assert math.isnan(maml.costs[target].median.seconds)
    assert math.isfinite(maml.costs[target].median.iterations)
    assert math.isfinite(maml.costs[target].median.gradient_entries)
    assert maml.accuracy.seeds == 5
    [line] = [line for line in comparison.warnings if "resumed elsewhere" in line]
    assert line == "6 of 10 runs were resumed elsewhere (torch: 1 -> 2): their seconds and memory are left out"
    assert not any("Not at" in line and "MAML" in line for line in comparison.findings)
    tables = {table.name: table for table in tables_of(comparison)}
    timing = [dict(zip(tables["timing"].columns, row, strict=True)) for row in tables["timing"].rows]
    assert {row["group"].split(" (")[0]: row["seconds per iteration"] for row in timing} == {
        "MAML": None,
        "ANIL convex": pytest.approx(0.01),
    }
