"""``--log``: what the tools' own libraries read back of a run, offline; and what becomes of a run where one fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import harness
from harness import InputError, RunConfig
from harness.cli import main
from harness.experiment import trackers

CONFIG = RunConfig(
    benchmark="sinusoid", iterations=4, meta_batch=2, eval_tasks=4, eval_every=2, inner_steps=1, checkpoint_every=2,
    stationarity_every=2, stationarity_tasks=4, model_options={"hidden": (4,)},
)  # fmt: skip


class Interrupted:
    """Ends a run after its second iteration."""

    def __init__(self):
        self.inner = harness.experiment.progress.Silent()

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def measured(self, what, record):
        return "enough" if record["iteration"] == 2 else None


@pytest.fixture
def both(tmp_path, monkeypatch):
    """A run that is stopped half way and goes on, told to one tracker; its summary."""
    monkeypatch.chdir(tmp_path)

    def run(name):
        first = harness.run(CONFIG, results=tmp_path / "runs", progress=Interrupted(), log_to=[name])
        assert first["status"] == "stopped"
        return harness.run(CONFIG, results=tmp_path / "runs", resume=True, log_to=[name])

    return run


def losses(summary):
    lines = (Path(summary["run_dir"]) / "metrics.jsonl").read_text().splitlines()
    return [(record["iteration"], record["loss"]) for record in map(json.loads, lines)]


def near(points):
    return [(step, pytest.approx(value, rel=1e-6)) for step, value in points]


@pytest.mark.slow
def test_tensorboard_has_one_course(both):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    summary = both("tensorboard")
    events = EventAccumulator(str(Path(summary["run_dir"]) / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == near(losses(summary))
    [held_out] = events.Scalars("test/loss.mean")
    assert held_out.value == pytest.approx(summary["loss"]["mean"], rel=1e-6)
    assert {"validation/loss", "stationarity/grad_w_squared_norm"} <= set(events.Tags()["scalars"])


@pytest.mark.slow
def test_mlflow_has_one_run(both, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    summary = both("mlflow")
    client = MlflowClient()
    [experiment] = [each for each in client.search_experiments() if each.name == "anil-vs-maml"]
    [run] = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted((metric.step, metric.value) for metric in history) == near(losses(summary))
    assert run.data.params["inner_steps"] == "1"
    assert run.data.metrics["test/loss.mean"] == pytest.approx(summary["loss"]["mean"])
    assert run.info.status == "FINISHED"


@pytest.mark.slow
def test_aim_has_one_run(both, tmp_path):
    from aim import Repo, Run
    from aim.sdk.index_manager import RepoIndexManager

    summary = both("aim")
    repo = Repo(str(tmp_path))
    [name] = repo.list_all_runs()
    RepoIndexManager.get_index_manager(repo).index(name)  # as `aim up` does
    run = Run(name, repo=repo, read_only=True)
    series = {metric.name: metric for metric in run.metrics()}
    _, values = series["train/loss"].values.sparse_list()
    assert sorted(values) == pytest.approx(sorted(value for _, value in losses(summary)))
    assert run["settings", "inner_steps"] == 1
    assert run["status"] == "completed"


@pytest.mark.slow
def test_wandb_writes_offline(both, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    both("wandb")
    folders = list((tmp_path / "wandb").glob("offline-run-*"))
    assert len(folders) == 2  # offline, each part is a folder of its own, of the same id
    assert len({folder.name.partition("-run-")[2].partition("-")[2] for folder in folders}) == 1
    assert all(list(folder.glob("run-*.wandb")) for folder in folders)


def test_a_tracker_that_fails_ends_no_run(tmp_path, monkeypatch, caplog):
    class Failing(trackers.Tracker):
        name = "wandb"

        def open(self, directory, settings, done):
            raise OSError("no network\nand more")

        scalars = close = None

    monkeypatch.setattr(trackers, "_made", lambda name: Failing())
    summary = harness.run(CONFIG, results=tmp_path, log_to=["tensorboard"])
    assert summary["status"] == "completed"
    [line] = [record.getMessage() for record in caplog.records if "told nothing more" in record.getMessage()]
    assert line == "wandb is told nothing more of this run: OSError: no network"


def test_every_scalar_is_finite_and_named(tmp_path, monkeypatch):
    seen = {}

    class Kept(trackers.Tracker):
        name = "kept"

        def open(self, directory, settings, done):
            seen["settings"], seen["done"] = settings, done

        def scalars(self, values, step):
            seen.setdefault(step, {}).update(values)

        def close(self, status):
            seen["status"] = status

    monkeypatch.setattr(trackers, "_made", lambda name: Kept())
    summary = harness.run(CONFIG, results=tmp_path, log_to=["tensorboard"])
    assert seen["status"] == "completed"
    assert seen["settings"]["model_options.hidden"] == [4]
    assert seen[4]["train/counts.gradient_entries"] == summary["counts"]["gradient_entries"]
    assert seen[4]["test/seconds.train"] == summary["seconds"]["train"]
    assert all(isinstance(value, float) for step in range(5) for value in seen.get(step, {}).values())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tensorbord", "unknown tracker 'tensorbord': did you mean 'tensorboard'"),
        ("aim", r"not installed; try pip install aim"),
    ],
)
def test_a_tracker_that_is_not_there_is_one_line(tmp_path, monkeypatch, capsys, name, reason):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=reason):
        harness.run(CONFIG, results=tmp_path, log_to=[name])
    assert main(["run", "--log", name, "--results", str(tmp_path)]) == 2
    assert not list(tmp_path.iterdir())
