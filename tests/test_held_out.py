"""Held-out tasks of another size, and another N to adapt to them, than in training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import functional_call

import harness
from harness import InputError, RunConfig
from harness.cli import main
from harness.problem.tasks import draw
from harness.settings import registry

SIZE = {"benchmark": "glyphs", "algo": "maml", "ways": 3, "shots": 2, "queries": 2, "inner_steps": 2, "inner_lr": 0.3}
USUAL = {**SIZE, "iterations": 2, "meta_batch": 2, "eval_tasks": 7, "device": "cpu", "dtype": "float64"}
OTHER = {"eval_ways": 2, "eval_shots": 1, "eval_queries": 4, "eval_inner_steps": 5}


def net(input_shape, outputs):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(input_shape[-1] ** 2 * input_shape[0], 6), nn.Tanh(), nn.Linear(6, outputs)
    )


def losses(run):
    lines = (Path(run["run_dir"]) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_they_are_what_a_plain_loop_gives_and_training_does_not_change(tmp_path):
    first = harness.run(RunConfig(**USUAL), model=net, results=tmp_path)
    second = harness.run(RunConfig(**USUAL, **OTHER), model=net, results=tmp_path)
    assert first["run_dir"] != second["run_dir"]
    assert losses(first) == losses(second)
    glyphs = registry.benchmark_named("glyphs")()
    config = RunConfig(**{**USUAL, "ways": 2, "shots": 1, "queries": 4})
    batch = draw(glyphs, config, "test", 0, 7, torch.device("cpu"), torch.float64)
    module, right = net(glyphs.input_shape, 3).double(), []
    module.load_state_dict(harness.load_parameters(second["run_dir"])["state_dict"])
    for sx, sy, qx, qy in zip(*vars(batch).values(), strict=True):
        values = {name: part.detach().requires_grad_() for name, part in module.named_parameters()}
        for _ in range(5):
            loss = nn.functional.cross_entropy(functional_call(module, values, (sx,)), sy)
            slopes = torch.autograd.grad(loss, [*values.values()])
            moved = [part - 0.3 * slope for part, slope in zip(values.values(), slopes, strict=True)]
            values = {name: part.detach().requires_grad_() for name, part in zip(values, moved, strict=True)}
        assert len(qy) == 8
        right.append((functional_call(module, values, (qx,)).argmax(1) == qy).double().mean())
    assert second["accuracy"]["mean"] == pytest.approx(float(torch.stack(right).mean()), abs=1e-12)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--eval-ways=4"], "--eval-ways: 4 for a model with outputs for 3 classes"),
        (["--eval-shots=500"], "shots 500 + queries 2"),
        (["--eval-inner-steps=3", "--algo=mamlpp"], "--eval-inner-steps: 3, where mamlpp has parameters for each step"),
        (["--eval-inner-steps=-1"], "--eval-inner-steps"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, capsys, words, said):
    usual = [f"--{name.replace('_', '-')}={value}" for name, value in USUAL.items() if name != "algo"]
    assert main(["run", *usual, *words, f"--results={tmp_path}"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert not list(tmp_path.glob("*"))


def test_steps_that_an_algorithm_learns_once_for_all_go_on(tmp_path):
    config = RunConfig(**{**USUAL, "algo": "metasgd"}, eval_inner_steps=4)
    assert harness.run(config, model=net, results=tmp_path)["status"] == "completed"


def test_fewer_classes_than_the_tasks_have_are_refused_in_python_too(tmp_path):
    with pytest.raises(InputError, match="eval_ways: 9 for a model with outputs for 3"):
        harness.run(RunConfig(**USUAL, eval_ways=9), results=tmp_path)
