"""A number that is not finite: seen in the iteration it comes up, named, and nothing after it is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

import harness
from harness import RunConfig
from harness.cli import main
from harness.engines.native import Native
from harness.problem.oracle import MetaGradient, Outcome
from harness.store.directory import load_parameters

SMALL = {
    "benchmark": "sinusoid",
    "iterations": 9,
    "meta_batch": 2,
    "eval_tasks": 4,
    "inner_lr": 0.01,
    "inner_steps": 1,
    "threads": 1,
}
INF, NAN = float("inf"), float("nan")


def lines(summary: dict, name: str = "metrics") -> list[dict]:
    return [json.loads(line) for line in (Path(summary["run_dir"]) / f"{name}.jsonl").read_text().splitlines()]


@pytest.fixture
def broken(monkeypatch):
    """Spoils what one meta-gradient gives: ``broken(iteration, loss=..., w=..., phi=...)`` puts a value into each."""
    rule = Native.meta_gradient

    def at(iteration: int, **spoilt: float) -> None:
        calls = []

        def meta_gradient(self, w, phi, batch, counts=None, clock=None):
            gradient, outcome = rule(self, w, phi, batch, counts, clock)
            calls.append(1)
            if len(calls) != iteration:
                return gradient, outcome
            parts = {"w": gradient.w, "phi": gradient.phi, "loss": outcome.loss}
            parts = {name: part.detach().clone() for name, part in parts.items()}
            for name, value in spoilt.items():
                parts[name][-2:] = value
            return MetaGradient(parts["w"], parts["phi"]), Outcome(parts["loss"], outcome.accuracy)

        monkeypatch.setattr(Native, "meta_gradient", meta_gradient)

    return at


@pytest.mark.parametrize(
    ("spoilt", "quantity"),
    [
        ({"loss": NAN}, "loss"),
        ({"loss": INF, "w": NAN, "phi": NAN}, "loss"),
        ({"w": NAN}, "grad_w_norm"),
        ({"w": -INF, "phi": INF}, "grad_w_norm"),
        ({"phi": NAN}, "grad_phi_norm"),
    ],
)
def test_the_first_quantity_that_is_not_finite_is_named_with_its_iteration(tmp_path, broken, spoilt, quantity):
    broken(6, **spoilt)
    summary = harness.run(RunConfig(**SMALL), results=tmp_path)
    assert summary["status"] == "diverged"
    assert summary["diverged"] == {"iteration": 6, "quantity": quantity}
    found = lines(summary)
    assert [line["iteration"] for line in found] == [1, 2, 3, 4, 5, 6]
    assert found[-1][quantity] is None
    names = {"loss": "loss", "w": "grad_w_norm", "phi": "grad_phi_norm"}
    assert {name for name in names if found[-1][names[name]] is None} == set(spoilt)
    assert all(line["loss"] is not None for line in found[:-1])


@pytest.mark.parametrize("part", ["w", "phi"])
def test_a_parameter_that_the_step_makes_infinite_is_named(tmp_path, monkeypatch, part):
    step = torch.optim.Adam.step

    def too_far(self):
        step(self)
        group = self.param_groups[("w", "phi").index(part)]
        group["params"][0].data[-1] = INF

    monkeypatch.setattr(torch.optim.Adam, "step", too_far)
    summary = harness.run(RunConfig(**SMALL), results=tmp_path)
    [line] = lines(summary)
    assert summary["diverged"] == {"iteration": 1, "quantity": part}
    assert None not in (line["loss"], line["grad_w_norm"], line["grad_phi_norm"])


def test_the_iterations_until_it_is_noticed_are_not_timed(tmp_path, broken):
    """Records are looked at some twenty iterations at a time, so that CUDA need not wait for each."""
    broken(2, loss=NAN)
    summary = harness.run(RunConfig(**{**SMALL, "iterations": 60}), results=tmp_path)
    seconds = summary["seconds"]
    assert summary["iterations_done"] == 2
    assert seconds["train"] == lines(summary)[-1]["seconds"]
    phases = ("features", "inner_gradient", "outer_gradient", "second_order", "outer_update")
    assert sum(seconds[phase] or 0.0 for phase in phases) <= seconds["train"]


def test_what_came_after_is_not_counted_and_not_saved(tmp_path, broken):
    config = RunConfig(**{**SMALL, "iterations": 12, "checkpoint_every": 4, "meta_batch": 4})
    broken(6, loss=NAN)
    summary = harness.run(config, results=tmp_path)
    assert (summary["iterations_done"], summary["counts_per_task"]["hessian_vector_products"]) == (6, 1)
    assert summary["counts"]["hessian_vector_products"] == 6 * 4
    assert summary["counts"] == lines(summary)[-1]["counts"]
    saved = torch.load(Path(summary["run_dir"]) / "checkpoint.pt", weights_only=True)
    assert saved["totals"]["iteration"] == 4
    assert all(tensor.isfinite().all() for tensor in load_parameters(summary["run_dir"])["state_dict"].values())
    assert summary["train_loss"] is None
    assert summary["accuracy"]["tasks"] == 0
    assert harness.run(config, results=tmp_path) == summary  # a result, not to be repeated


@pytest.mark.parametrize(
    ("spoilt", "quantity"),
    [({"loss": 3e38}, "loss"), ({"w": 1e30}, "grad_w_norm"), ({"phi": -1e30}, "grad_phi_norm")],
)
def test_what_overflows_in_float32_is_a_divergence(tmp_path, broken, spoilt, quantity):
    """The mean of two losses; and the square of a gradient, which Adam would keep."""
    broken(2, **spoilt)
    assert harness.run(RunConfig(**SMALL), results=tmp_path)["diverged"] == {"iteration": 2, "quantity": quantity}


def test_an_inner_iterate_that_is_not_finite_is_none_where_nothing_outside_is(tmp_path, monkeypatch):
    """An infinite w_m is not itself recorded; it counts by what it does to the loss and the gradients."""
    from harness.engines.native.oracle import LayerOracle

    gradient = LayerOracle._inner_gradient
    seen = []

    def spoilt(self, w, linearise):
        found = gradient(self, w, linearise)
        if found.dtype == torch.float32:  # in training, and not where the model is compared with its own forward
            seen.append(1)
        return found * INF if len(seen) == 3 else found

    monkeypatch.setattr(LayerOracle, "_inner_gradient", spoilt)
    assert harness.run(RunConfig(**SMALL), results=tmp_path)["diverged"] == {"iteration": 3, "quantity": "loss"}


def test_numbers_on_held_out_and_fixed_tasks_that_are_not_finite_are_written_as_none_and_end_nothing(
    tmp_path, monkeypatch
):
    """Only what training itself computes diverges; Lanczos meets NaN there too."""
    monkeypatch.setattr("harness.experiment.stationarity._FIRST_FIXED_TASK", 10**6)
    from benchmarks.sinusoid import Sinusoid

    draw = Sinusoid.draw

    def spoilt(self, split, first, tasks, *more):
        batch = draw(self, split, first, tasks, *more)
        if split == "train" and first < 10**6:
            return batch
        vast = 6e37  # inputs are finite, as they have to be, and no loss is
        return harness.TaskBatch(batch.support_x * vast, batch.support_y, batch.query_x * vast, batch.query_y)

    monkeypatch.setattr(Sinusoid, "draw", spoilt)
    config = RunConfig(**{**SMALL, "iterations": 4, "eval_every": 2, "stationarity_every": 2, "stationarity_tasks": 4})
    summary = harness.run(config, results=tmp_path)
    assert (summary["status"], summary["diverged"], summary["loss"]["mean"]) == ("completed", None, None)
    assert [line["loss"] for line in lines(summary, "evaluations")] == [None] * 3
    measured = lines(summary, "stationarity")
    assert [(line["loss"], line["L"], line["smoothness_w"]) for line in measured] == [(None,) * 3] * 3
    assert all(line["loss"] is not None for line in lines(summary))


def images(folder: Path) -> None:
    """A small FC100 of noise, as pickles."""
    import pickle

    import numpy as np

    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name in ("train", "val", "test"):
        labels = np.repeat(np.arange(6), 12)
        data = random.integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
        (folder / f"FC100_{name}.pickle").write_bytes(pickle.dumps({"data": data, "labels": labels.tolist()}))


FC100 = {
    "benchmark": "fc100",
    "algo": "anil",
    "geometry": "nonconvex",
    "inner_steps": 30,
    "model_options": {"filters": 8},
    "meta_batch": 2,
    "eval_tasks": 2,
    "threads": 1,
}


@pytest.mark.slow
def test_nonconvex_anil_with_thirty_large_steps_diverges_on_fc100_and_the_others_of_its_grid_go_on(
    tmp_path, monkeypatch, capsys
):
    """The paper's case, on noise in the shape of FC100: 3x32x32, last block and classifier adapted."""
    images(tmp_path / "data")
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    entries = [{"inner_lr": 200.0, "iterations": 200}, {"inner_lr": 0.01, "iterations": 2}]
    suite = tmp_path / "suite.yaml"
    suite.write_text(yaml.safe_dump({"title": "t", "base": FC100, "seeds": [0], "grid": entries}))
    assert main(["compare", str(suite), "--results", str(tmp_path / "runs"), "--workers", "1", "--json"]) == 0
    shown = capsys.readouterr()
    runs = json.loads(shown.out)["runs"]
    assert [run["status"] for run in runs] == ["diverged", "completed"]
    summary = json.loads((Path(runs[0]["run_dir"]) / "summary.json").read_text())
    found = summary["diverged"]
    assert found["iteration"] == summary["iterations_done"] == len(lines(summary)) < 200
    assert f"diverged at iteration {found['iteration']} ({found['quantity']})" in shown.err

    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump({**FC100, **entries[0]}))
    assert main(["run", "--config", str(config), "--results", str(tmp_path / "alone"), "--json"]) == 0
    shown = capsys.readouterr()
    alone = json.loads(shown.out)
    assert (alone["status"], alone["diverged"], alone["key"]) == ("diverged", found, summary["key"])
    said = f"diverged: {found['quantity']} is not finite at meta-iteration {found['iteration']}"
    assert said in " ".join(shown.err.split())
