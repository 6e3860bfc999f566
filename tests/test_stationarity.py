"""Definition 1 as measured: the exact meta-gradient on fixed tasks, off the clock, on any (w, phi)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.func import functional_call

import harness
from harness import RunConfig
from harness.experiment.setup import set_up
from harness.experiment.stationarity import _FIRST_FIXED_TASK, Stationarity
from harness.problem.benchmark import TaskShape
from harness.settings.resolve import resolve

SMALL = {
    "benchmark": "quadratic",
    "dtype": "float64",
    "iterations": 6,
    "meta_batch": 3,
    "eval_tasks": 4,
    "inner_steps": 3,
    "threads": 1,
    "stationarity_every": 4,
    "stationarity_tasks": 5,
}


def lines(summary: dict, name: str = "stationarity.jsonl") -> list[dict]:
    return [json.loads(line) for line in (Path(summary["run_dir"]) / name).read_text().splitlines()]


@pytest.mark.parametrize(("algorithm", "geometry"), [("anil", "convex"), ("maml", None), ("fomaml", None)])
def test_norms_are_those_of_l_meta_by_plain_autograd(algorithm, geometry):
    config = RunConfig(**SMALL, algo=algorithm, geometry=geometry)
    setup = set_up(resolve(config))
    network, benchmark = setup.problem.network, resolve(config).benchmark
    record = Stationarity(setup.config, setup.problem, benchmark).measure(setup.w, setup.phi)

    module, l2 = network.module, setup.problem.algorithm.l2
    parameters = {name: value.detach().requires_grad_() for name, value in module.named_parameters()}
    adapted = [slot.name for slot in network.w_slots]
    total = 0.0
    for task in range(5):
        batch = benchmark.draw(
            "train", _FIRST_FIXED_TASK + task, 1, TaskShape(0, ways=1, shots=10, queries=10),
            torch.device("cpu"), torch.float64,
        )  # fmt: skip
        fast = dict(parameters)
        for _ in range(3):
            loss = (functional_call(module, fast, batch.support_x[0]) - batch.support_y[0]).square().mean()
            loss = loss + l2 / 2 * sum(fast[name].square().sum() for name in adapted)
            gradients = torch.autograd.grad(loss, [fast[name] for name in adapted], create_graph=True)
            fast |= {name: fast[name] - config.inner_lr * g for name, g in zip(adapted, gradients, strict=True)}
        total = total + (functional_call(module, fast, batch.query_x[0]) - batch.query_y[0]).square().mean() / 5
    exact = dict(zip(parameters, torch.autograd.grad(total, parameters.values()), strict=True))
    assert record["loss"] == pytest.approx(float(total.detach()), rel=1e-10)
    assert record["squared_norms"] == pytest.approx({n: float(g.square().sum()) for n, g in exact.items()}, rel=1e-9)
    in_w = sum(float(exact[name].square().sum()) for name in adapted)
    assert record["grad_w_squared_norm"] == pytest.approx(in_w, rel=1e-9)


def test_one_task_alone_tells_nothing_of_all_tasks():
    config = RunConfig(**{**SMALL, "stationarity_tasks": 1})
    setup = set_up(resolve(config))
    record = Stationarity(setup.config, setup.problem, resolve(config).benchmark).measure(setup.w, setup.phi)
    assert record["grad_w_squared_norm"] > 0
    assert record["unbiased"]["products"] == {}
    assert [record["unbiased"][name] for name in ("w", "w_error", "w_noise")] == [None] * 3


def test_measuring_changes_nothing_but_what_is_known(tmp_path):
    with_it = harness.run(RunConfig(**SMALL), results=tmp_path / "with")
    without = harness.run(RunConfig(**{**SMALL, "stationarity_every": 0}), results=tmp_path / "without")
    strip = {"seconds": None}
    assert [{**line, **strip} for line in lines(with_it, "metrics.jsonl")] == [
        {**line, **strip} for line in lines(without, "metrics.jsonl")
    ]
    assert with_it["loss"] == without["loss"]
    assert with_it["counts"] == without["counts"]
    assert with_it["flops_per_iteration"] > 0
    assert without["flops_per_iteration"] is None
    assert not (Path(without["run_dir"]) / "stationarity.jsonl").exists()


def test_it_is_measured_before_training_every_e_iterations_and_at_the_end(tmp_path):
    found = lines(harness.run(RunConfig(**SMALL), results=tmp_path))
    assert [line["iteration"] for line in found] == [0, 4, 6]
    assert found[0]["counts"]["gradient_entries"] == 0
    assert found[0]["smoothness_w"] is None
    assert all(line["smoothness_phi"] > 0 for line in found[1:])
    assert found[2]["seconds"] > found[1]["seconds"] > found[0]["seconds"] == 0
    assert found[0]["L"] == pytest.approx(1 + 1e-3, rel=0.01)  # the benchmark's L, and lambda


def test_a_resumed_run_measures_as_an_undisturbed_one(tmp_path, monkeypatch):
    config = RunConfig(**{**SMALL, "checkpoint_every": 4})
    whole = lines(harness.run(config, results=tmp_path / "whole"))

    class Stop:
        def trained(self, record):
            if record["iteration"] == 5:
                raise KeyboardInterrupt

        begin = evaluated = measured = end = lambda self, *_: None

    stopped = harness.run(config, results=tmp_path / "stopped", progress=Stop())
    assert stopped["status"] == "interrupted"
    resumed = lines(harness.run(config, results=tmp_path / "stopped", resume=True))
    assert [{**line, "seconds": 0} for line in resumed] == [{**line, "seconds": 0} for line in whole]
