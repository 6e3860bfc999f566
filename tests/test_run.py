"""A run from configuration to summary: repeatable, counted as the paper counts, honest about divergence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import harness
from harness import RunConfig
from harness.errors import InputError
from harness.store.directory import load_parameters

SMALL = {"benchmark": "sinusoid", "iterations": 3, "meta_batch": 2, "eval_tasks": 4, "inner_lr": 0.01, "threads": 1}
CONTRACT = """
    status run_dir algorithm geometry engine benchmark ways shots queries inner_steps meta_batch iterations seed device
    n_w n_phi counts train_loss accuracy seconds peak_memory_bytes
"""


def test_summary_has_every_key_of_the_contract(tmp_path):
    summary = harness.run(RunConfig(**SMALL), results=tmp_path)
    assert set(CONTRACT.split()) <= set(summary)
    assert summary["status"] == "completed"
    assert {"mean", "ci95", "before_adaptation", "tasks"} <= set(summary["accuracy"])
    phases = ("train", "inner_gradient", "outer_gradient", "second_order", "outer_update")
    assert all(summary["seconds"][phase] > 0 for phase in phases)
    assert summary["seconds"]["train"] >= sum(summary["seconds"][phase] for phase in phases[1:])


def test_repeating_a_run_is_bit_identical(tmp_path):
    runs = [harness.run(RunConfig(**SMALL), results=tmp_path / name) for name in "ab"]
    first, second = (load_parameters(run["run_dir"]) for run in runs)
    assert torch.equal(first["w"], second["w"])
    assert torch.equal(first["phi"], second["phi"])
    assert runs[0]["loss"] == runs[1]["loss"]
    assert runs[0]["key"] == runs[1]["key"]
    other = harness.run(RunConfig(**{**SMALL, "seed": 1}), results=tmp_path / "a")
    assert other["loss"] != runs[0]["loss"]


@pytest.mark.parametrize("steps", [0, 1, 5])
@pytest.mark.parametrize(
    ("algorithm", "geometry"),
    [("maml", "nonconvex"), ("fomaml", "nonconvex"), ("anil", "convex"), ("anil", "nonconvex")],
)
def test_counts_equal_the_formulas_of_table_2(tmp_path, algorithm, geometry, steps):
    config = RunConfig(**SMALL, algo=algorithm, geometry=geometry, inner_steps=steps)
    summary = harness.run(config, results=tmp_path)
    n_w, n_phi = summary["n_w"], summary["n_phi"]
    tasks = 3 * 2
    second = 0 if algorithm == "fomaml" else steps
    assert summary["counts"] == {
        "gradient_entries": tasks * (steps * n_w + n_w + n_phi),
        "second_order_entries": tasks * second * (n_w**2 + n_w * n_phi),
        "hessian_vector_products": tasks * second,
        "mixed_products": tasks * second * (n_phi > 0),
        "query_gradients": tasks,
        "solves": 0,
        "pseudo_gradients": 0,
    }
    assert (n_phi == 0) == (algorithm != "anil")


def test_divergence_is_a_result(tmp_path):
    config = RunConfig(**{**SMALL, "iterations": 30, "inner_lr": 1e30, "inner_steps": 5})
    summary = harness.run(config, results=tmp_path)
    assert summary["status"] == "diverged"
    assert summary["diverged"]["iteration"] == summary["iterations_done"] < 30
    assert summary["accuracy"]["mean"] is None
    lines = (Path(summary["run_dir"]) / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == summary["iterations_done"]
    assert "NaN" not in "".join(lines)


def test_out_of_memory_is_recorded(tmp_path, monkeypatch):
    from harness.engines.native import Native

    def exhausted(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Native, "meta_gradient", exhausted)
    assert harness.run(RunConfig(**SMALL), results=tmp_path)["status"] == "out_of_memory"


def test_training_learns(tmp_path):
    short = harness.run(RunConfig(**SMALL), results=tmp_path)
    long = harness.run(RunConfig(**{**SMALL, "iterations": 60}), results=tmp_path)
    assert long["loss"]["mean"] < short["loss"]["mean"]


class Lines(harness.RegressionBenchmark):
    """A person's own tasks: lines through the origin."""

    name = "lines"
    summary = "lines through the origin"
    version = "1"
    model = "mlp"
    input_shape = (1,)

    def draw(self, split, first, tasks, shape, device, dtype):
        generator = torch.Generator().manual_seed(
            shape.seed * 1000 + first + 500 * ["train", "validation", "test"].index(split)
        )
        x = torch.randn(tasks, shape.shots + shape.queries, 1, generator=generator)
        y = x * torch.randn(tasks, 1, 1, generator=generator)
        x, y = x.to(device, dtype), y.to(device, dtype)
        return harness.TaskBatch(x[:, : shape.shots], y[:, : shape.shots], x[:, shape.shots :], y[:, shape.shots :])


def own_model(input_shape, outputs, width=8):
    return nn.Sequential(nn.Linear(input_shape[0], width), nn.Tanh(), nn.Linear(width, outputs))


def test_own_model_and_own_tasks(tmp_path):
    config = RunConfig(**{**SMALL, "model_options": {"width": 4}})
    summary = harness.run(config, results=tmp_path, model=own_model, benchmark=Lines())
    assert (summary["status"], summary["benchmark"], summary["n_w"], summary["n_phi"]) == ("completed", "lines", 5, 8)


def test_two_models_of_one_source_have_two_keys(tmp_path):
    def factory(width):
        return lambda input_shape, outputs: own_model(input_shape, outputs, width)

    keys = {harness.run(RunConfig(**SMALL), results=tmp_path, model=factory(width))["key"] for width in (3, 4)}
    assert len(keys) == 2


def test_a_model_of_the_wrong_output_is_refused_before_a_file_is_written(tmp_path):
    with pytest.raises(InputError, match="allowed: \\[10, 1\\]"):
        harness.run(RunConfig(**SMALL), results=tmp_path, model=lambda shape, outputs: nn.Sequential(nn.Linear(1, 2)))
    assert list(tmp_path.iterdir()) == []


def test_joint_statistics_need_a_shared_body(tmp_path):
    with pytest.raises(InputError, match="allowed: separate"):
        harness.run(RunConfig(**SMALL, algo="maml", norm_statistics="joint"), results=tmp_path)


def test_tf32_is_recorded_and_holds_for_that_run_only(tmp_path):
    def environment(**settings):
        summary = harness.run(RunConfig(**SMALL, **settings), results=tmp_path)
        return json.loads((Path(summary["run_dir"]) / "environment.json").read_text())["determinism"]

    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    assert before == (True, "highest")  # what torch does unless told
    usual, exact = environment(), environment(tf32=False)
    assert (usual["cudnn_allow_tf32"], exact["cudnn_allow_tf32"]) == (True, False)
    assert exact["float32_matmul_precision"] == "highest"
    assert before == (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision())
    assert len(list(tmp_path.rglob("summary.json"))) == 2
