"""Tasks of unequal sizes: on every engine what a loop over the tasks gives, one after the other, and no other order."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import functional_call

import harness
from harness import InputError, RunConfig, TaskBatch
from harness.engines.chunks import TaskChunks
from harness.engines.native import Native
from harness.errors import NotSupported
from harness.experiment.evaluate import evaluate
from harness.experiment.setup import set_up
from harness.problem.oracle import Counts
from harness.settings import registry
from harness.settings.resolve import resolve
from harness.testing import check_benchmark

#: support and query examples of each task of a batch; some are alike
SIZES = [(4, 5), (7, 2), (4, 5), (1, 9), (7, 2), (4, 3), (4, 5)]
N, ALPHA = 3, 0.2


class Unequal(harness.Benchmark):
    """Points of three classes, more of them in some tasks."""

    name, summary, version, model = "unequal", "tasks of unequal sizes", "1", "mlp"
    input_shape = (3,)
    defaults = {"ways": 3, "inner_lr": ALPHA, "inner_steps": N, "meta_batch": len(SIZES)}
    sizes = SIZES

    def check(self, ways, shots, queries):
        pass

    def task(self, split, number, seed):
        generator = torch.Generator().manual_seed(1000 * seed + 7 * number + len(split))
        x = torch.randn(sum(size := self.sizes[number % len(self.sizes)]), 3, generator=generator, dtype=torch.float64)
        y = torch.randint(0, 3, (len(x),), generator=generator)
        return x[: size[0]], y[: size[0]], x[size[0] :], y[size[0] :]

    def draw(self, split, first, tasks, shape, device, dtype):
        return TaskBatch.of([self.task(split, number, shape.seed) for number in range(first, first + tasks)])


def net(input_shape, outputs):
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, outputs))


def setup_of(algo, strategy="auto", engine="native"):
    config = RunConfig(algo=algo, dtype="float64", device="cpu", engine=engine, strategy=strategy, eval_tasks=9)
    return set_up(resolve(config, model=net, benchmark=Unequal()))


def plain(setup, tasks, second_order):
    """Losses, accuracies and the mean gradient in w and in phi, from autograd over the module, a task at a time."""
    network = setup.problem.network
    start = {name: p.detach().clone().requires_grad_() for name, p in network.module.named_parameters()}
    names = [slot.name for slot in network.w_slots]
    losses, right = [], []
    for sx, sy, qx, qy in tasks:
        values = dict(start)
        for _ in range(N):
            loss = nn.functional.cross_entropy(functional_call(network.module, values, (sx,)), sy)
            loss = loss + setup.problem.inner.l2 / 2 * sum(values[name].square().sum() for name in names)
            slopes = torch.autograd.grad(loss, [values[name] for name in names], create_graph=second_order)
            values |= {name: values[name] - ALPHA * slope for name, slope in zip(names, slopes, strict=True)}
        prediction = functional_call(network.module, values, (qx,))
        losses.append(nn.functional.cross_entropy(prediction, qy))
        right.append((prediction.argmax(1) == qy).double().mean())
    gradients = dict(zip(start, torch.autograd.grad(sum(losses) / len(tasks), [*start.values()]), strict=True))
    flat = [
        torch.cat([gradients[slot.name].flatten() for slot in slots]) if slots else torch.zeros(0, dtype=torch.float64)
        for slots in (network.w_slots, network.phi_slots)
    ]
    return torch.stack(losses).detach(), torch.stack(right), *flat


def close(one, other):
    assert one.shape == other.shape
    assert (one - other).norm() <= 1e-9 * max(1e-3, other.norm())


ALGORITHMS = ("maml", "fomaml", "anil:convex", "anil:nonconvex")


def agree(algo, engine_of, chunk):
    setup = setup_of(algo)
    benchmark = Unequal()
    tasks = [benchmark.task("train", number, 5) for number in range(len(SIZES))]
    losses, right, in_w, in_phi = plain(setup, tasks, second_order=algo != "fomaml")
    counts, alone = Counts(), Counts()
    chunks = TaskChunks(chunk, len(tasks))
    found, outcome = chunks.meta_gradient(engine_of(setup.problem), setup.w, setup.phi, TaskBatch.of(tasks), counts)
    close(outcome.loss.detach(), losses)
    close(outcome.accuracy.double(), right)
    close(found.w.detach(), in_w)
    close(found.phi.detach(), in_phi)
    for task in tasks:
        engine_of(setup.problem).meta_gradient(setup.w, setup.phi, TaskBatch.of([task]), alone)
    assert counts == alone


@pytest.mark.parametrize("chunk", [None, 3, 1])
@pytest.mark.parametrize("strategy", Native.strategies)
@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_strategy_gives_what_a_loop_over_unequal_tasks_gives(algo, strategy, chunk):
    try:
        agree(algo, functools.partial(Native, strategy=strategy), chunk)
    except NotSupported as reason:
        pytest.skip(str(reason))


@pytest.mark.peers
@pytest.mark.parametrize("name", ["learn2learn", "higher", "torchopt"])
@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_peer_gives_what_a_loop_over_unequal_tasks_gives(algo, name):
    agree(algo, registry.engines().get(name), None)


def test_evaluation_takes_them_in_order():
    setup, config = setup_of("maml"), RunConfig(eval_tasks=9, ways=3, inner_lr=ALPHA, inner_steps=N)
    expected = plain(setup, [Unequal().task("test", number, 0) for number in range(9)], second_order=False)
    seen = []
    chunks = TaskChunks(4, 9)
    whole = chunks.over
    chunks.over = lambda *given: (seen.append(part) or part for part in whole(*given))
    result = evaluate(setup.evaluator, setup.w, setup.phi, Unequal(), config, "test", chunks)
    close(torch.cat([rows[2] for _, rows in seen], -1), expected[0])
    assert result["loss"] == pytest.approx(float(expected[0].mean()), rel=1e-12)
    assert result["accuracy"] == pytest.approx(float(expected[1].mean()), rel=1e-12)


@pytest.mark.parametrize("algo", ["maml", "anil"])
def test_a_run_with_everything_measured(tmp_path, algo):
    config = RunConfig(algo=algo, iterations=3, eval_tasks=9, eval_every=2, stationarity_every=1, device="cpu")
    result = harness.run(config, model=net, benchmark=Unequal(), results=tmp_path)
    assert result["status"] == "completed"
    lines = (Path(result["run_dir"]) / "stationarity.jsonl").read_text().splitlines()
    measured = [json.loads(line) for line in lines]
    assert all(line["L"] > 0 and line["unbiased"]["tasks"] == 64 for line in measured)


def test_time_verify_and_theory_take_them():
    asked = {"inner_steps": 1, "rounds": 1, "memory": False, "device": "cpu", "algo": "anil:convex"}
    (row,) = harness.time_meta_gradients(harness.TimeConfig(**asked), model=net, benchmark=Unequal())["rows"]
    assert row["status"] == "ok"
    found = harness.verify(["anil"], ["native"], config=RunConfig(), model=net, benchmark=Unequal())
    assert found["ok"]
    assert harness.estimate(RunConfig(), model=net, benchmark=Unequal())["theorems"]


@pytest.mark.slow
def test_advice_takes_them():
    assert harness.estimate(RunConfig(), model=net, benchmark=Unequal(), advice=True)["advice"]


def test_they_keep_a_benchmarks_promises(monkeypatch):
    monkeypatch.setattr(Unequal, "__module__", "__main__")  # which may import torch
    check_benchmark(Unequal())


def test_tasks_keep_their_order_through_parts_and_types():
    tasks = [Unequal().task("train", number, 0) for number in range(7)]
    batch = TaskBatch.of(tasks)
    assert [group.tasks for group in batch.groups] == [3, 2, 1, 1]
    assert torch.equal(
        batch.in_order([group.query_x.sum((1, 2)) for group in batch.groups]), torch.stack([t[2].sum() for t in tasks])
    )
    for start, stop in ((0, 7), (2, 5), (3, 4), (5, 99)):
        part = batch.chunk(start, stop)
        assert part.tasks == len(tasks[start:stop])
        sums = part.in_order([group.support_x.sum((1, 2)) for group in part.groups])
        assert torch.equal(sums, torch.stack([task[0].sum() for task in tasks[start:stop]]))
    assert type(batch.chunk(0, 1)) is TaskBatch
    assert type(TaskBatch.of(tasks[:1] * 3)) is TaskBatch
    with pytest.raises(AttributeError):
        batch.support_x  # noqa: B018


def changed(part, value):
    tasks = [list(Unequal().task("train", number, 0)) for number in range(3)]
    tasks[1][part] = value(tasks[1][part])
    return tasks


BAD = {
    "none": (list, "no tasks; allowed: at least 1"),
    "three parts": (lambda: [Unequal().task("train", 0, 0)[:3]], "task 0 is no four tensors; allowed: support_x"),
    "a list": (lambda: changed(0, torch.Tensor.tolist), "task 1 is no four tensors"),
    "other examples": (lambda: changed(2, lambda x: x[:, :2]), "task 1: query_x is [examples, 2] of float64 on cpu"),
    "another type": (lambda: changed(1, torch.Tensor.double), "allowed: as in task 0, [examples] of int64 on cpu"),
    "fewer labels": (lambda: changed(1, lambda y: y[1:]), "support_x has 7 examples and support_y 6; allowed: as many"),
    "nothing in it": (lambda: changed(2, lambda x: x[:0]), "query_x has shape [0, 3]; allowed: 1 to 1000000 examples"),
    "beyond a limit": (
        lambda: changed(0, lambda x: x[:1].expand(1_000_001, 3)),
        "support_x has shape [1000001, 3]; allowed: 1 to 1000000 examples",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_are_no_tasks_is_one_line(name):
    make, said = BAD[name]
    with pytest.raises(InputError) as caught:
        TaskBatch.of(make())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


class Wrong(Unequal):
    """A label that the model has no output for, in the one task of its size."""

    def task(self, split, number, seed):
        sx, sy, qx, qy = super().task(split, number, seed)
        return sx, sy, qx, qy + (3 if number % 7 == 3 else 0)


def test_labels_are_looked_at_in_every_group(tmp_path):
    with pytest.raises(InputError, match=r"query_y has classes from 3 to 5; allowed: 0 to 2"):
        harness.run(RunConfig(iterations=1, eval_tasks=2), model=net, benchmark=Wrong(), results=tmp_path)
    assert not list(tmp_path.glob("*"))
