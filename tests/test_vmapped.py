"""Strategy vmapped: all tasks in one evaluation, with the same numbers and counts; or refused in one line."""

from __future__ import annotations

import pytest
import torch
from strange_models import Attention, Images, Recurrent, Vectors
from torch import nn

import harness
from harness import RunConfig
from harness.engines.comparison import oracle_error
from harness.engines.engine import Problem
from harness.engines.native import Native
from harness.errors import NotSupported
from harness.problem.algorithm import Algorithm, MetaGradient, inner_loop
from harness.problem.meta_gradient import proposition_1
from harness.problem.oracle import Counts, Inner
from harness.problem.own_forward import own_forward
from harness.problem.partition import Network
from harness.problem.tasks import draw
from harness.settings.registry import algorithms
from harness.settings.resolve import resolve

CONFIG = {"ways": 3, "shots": 2, "queries": 2, "meta_batch": 3, "inner_steps": 3, "inner_lr": 0.1}
CASES = [("maml", "all"), ("fomaml", "all"), ("anil", "last:1"), ("anil", "^0|^2")]


def recurrent():
    return nn.Sequential(Recurrent(5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), Vectors()


def attention():
    return nn.Sequential(Attention(4), nn.LayerNorm(6), nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 3)), Vectors()


def convolution():
    norm = nn.BatchNorm2d(2, track_running_stats=False)
    return nn.Sequential(nn.Conv2d(1, 2, 3), norm, nn.MaxPool2d(4), nn.Flatten(), nn.Linear(8, 3)), Images()


@pytest.mark.parametrize("statistics", ["separate", "joint"])
@pytest.mark.parametrize(("algo", "adapt"), CASES)
@pytest.mark.parametrize("make", [recurrent, attention, convolution])
def test_vmapped_equals_unrolled_and_counts_what_it_counts(make, algo, adapt, statistics):
    module, benchmark = make()
    network = Network(module.double(), adapt)
    if statistics == "joint" and network.body is None:
        return
    config = resolve(RunConfig(**CONFIG), model=lambda i, o: module, benchmark=benchmark).config
    batch = draw(benchmark, config, "train", 0, 3, torch.device("cpu"), torch.float64)
    problem = Problem(
        algorithms().get(algo)("nonconvex"), network, Inner("cross_entropy", 3, 0.1, 0.01, norm_statistics=statistics)
    )
    results = []
    for strategy in ("unrolled", "vmapped"):
        counts = Counts()
        gradient, outcome = Native(problem, strategy).meta_gradient(*network.initial(), batch, counts)
        results.append((gradient.w, gradient.phi, outcome.loss, outcome.accuracy, counts))
    for expected, found in zip(*(result[:4] for result in results), strict=True):
        assert float((found - expected).norm()) <= 1e-12 * float(expected.norm())
    assert results[0][4] == results[1][4]


@pytest.mark.parametrize("adapt", ["all", "last:1", "^0|^2"])
@pytest.mark.parametrize("make", [recurrent, attention, convolution])
def test_a_rule_that_asks_step_by_step_is_answered(make, adapt):
    """Every single evaluation, against the module's own forward; and Proposition 1 made of them."""
    module, benchmark = make()
    network = Network(module.double(), adapt)
    config = resolve(RunConfig(**CONFIG), model=lambda i, o: module, benchmark=benchmark).config
    batch = draw(benchmark, config, "train", 0, 3, torch.device("cpu"), torch.float64)
    own = own_forward(network, Inner("cross_entropy", 1, 0.1, 0.01), batch, True)

    class Stepwise(Algorithm):
        name = summary = "stepwise"
        geometries = algorithms().get("maml").geometries

        def meta_gradient(self, oracle, inner_steps, inner_lr):
            return proposition_1(oracle, inner_steps, inner_lr)

    problem = Problem(Stepwise("nonconvex"), network, Inner("cross_entropy", 1, own.inner_lr, 0.01))
    engine = Native(problem, "vmapped")
    assert oracle_error(engine, own, batch) < 1e-12
    gradient, _ = engine.meta_gradient(*network.initial(), batch)
    for found, expected in zip((gradient.w, gradient.phi), own.exact, strict=True):
        assert float((found - expected).norm()) <= 1e-12 * float(expected.norm())


class Decides(nn.Module):
    """What it computes depends on what it sees."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        return self.layer(x) if float(x.sum()) > 0 else self.layer(2 * x)


def test_a_model_that_vmap_does_not_know_is_refused_in_one_line(tmp_path):
    config = RunConfig(algo="maml", strategy="vmapped", iterations=1, eval_tasks=2, **CONFIG)
    with pytest.raises(NotSupported) as refused:
        harness.run(config, model=lambda i, o: Decides(), benchmark=Vectors(), results=tmp_path)
    message = str(refused.value)
    assert message.startswith("strategy 'vmapped' does not give the meta-gradient of the model's own forward (")
    assert message.endswith("allowed: --strategy auto")
    assert "\n" not in message
    assert not list(tmp_path.iterdir())


def test_a_wrong_gradient_under_vmap_is_refused(tmp_path, monkeypatch):
    from harness.engines.native.vmapped import VmappedOracle

    right = VmappedOracle.descent_gradient

    def wrong(self, inner_steps, inner_lr):
        gradient = right(self, inner_steps, inner_lr)
        return MetaGradient(gradient.w * (1 + 1e-6), gradient.phi)

    monkeypatch.setattr(VmappedOracle, "descent_gradient", wrong)
    config = RunConfig(algo="maml", strategy="vmapped", iterations=1, eval_tasks=2, **CONFIG)
    with pytest.raises(NotSupported, match="relative error 1e-06"):
        harness.run(config, model=lambda i, o: recurrent()[0], benchmark=Vectors(), results=tmp_path)


def test_a_run_is_that_of_the_unrolled_strategy(tmp_path):
    def summary(strategy, algo):
        config = RunConfig(
            algo=algo, strategy=strategy, iterations=3, eval_tasks=4, dtype="float64", outer_lr_w=0.05, **CONFIG
        )
        return harness.run(config, model=lambda i, o: recurrent()[0], benchmark=Vectors(), results=tmp_path)

    for algo in ("maml", "anil"):
        unrolled, vmapped = summary("unrolled", algo), summary("vmapped", algo)
        assert vmapped["strategy"] == "vmapped"
        assert vmapped["loss"]["mean"] == pytest.approx(unrolled["loss"]["mean"], rel=1e-9)
        assert vmapped["counts"] == unrolled["counts"]
        assert vmapped["seconds"]["inner_gradient"] is None  # its phases cannot be told apart
        assert vmapped["seconds"]["train"] > 0


def test_an_inner_loop_recorded_for_a_rule_of_its_own_is_differentiated():
    module, benchmark = recurrent()
    network = Network(module.double(), "all")
    config = resolve(RunConfig(**CONFIG), model=lambda i, o: module, benchmark=benchmark).config
    batch = draw(benchmark, config, "train", 0, 2, torch.device("cpu"), torch.float64)
    problem = Problem(algorithms().get("maml")("nonconvex"), network, Inner("cross_entropy", 2, 0.1))
    oracle = Native(problem, "vmapped").oracle(*network.initial(), batch)
    w = inner_loop(oracle, 2, 0.1, record=True)[-1]
    v, _ = oracle.pull_back(w, oracle.outer_gradient(w)[0])
    expected, _ = Native(problem, "unrolled").meta_gradient(*network.initial(), batch)
    assert torch.allclose(v.mean(0), expected.w, rtol=1e-12, atol=1e-14)


def taken(model, tmp_path, **settings):
    config = RunConfig(**{**CONFIG, "algo": "maml", "iterations": 3, "eval_tasks": 4, "dtype": "float64", **settings})
    summary = harness.run(config, model=lambda i, o: model(), benchmark=Vectors(), results=tmp_path)
    return summary["strategy"], summary["loss"]["mean"]


def test_auto_takes_all_tasks_at_once_where_there_are_many(tmp_path):
    """The rule needs no clock, so that the run is the same one everywhere; the numbers are those of one by one."""
    strategy, loss = taken(lambda: recurrent()[0], tmp_path, meta_batch=8)
    assert strategy == "vmapped"
    assert loss == pytest.approx(
        taken(lambda: recurrent()[0], tmp_path, meta_batch=8, strategy="unrolled")[1], rel=1e-9
    )
    assert taken(lambda: recurrent()[0], tmp_path, meta_batch=7)[0] == "unrolled"
    assert taken(lambda: nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3)), tmp_path, meta_batch=8)[0] == (
        "linearised"
    )


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.LSTM(1, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.rnn(x[..., None])[0][:, -1])


def test_auto_leaves_an_lstm_its_fused_kernel_where_that_is_enough(tmp_path):
    assert taken(Lstm, tmp_path, meta_batch=8)[0] == "vmapped"
    assert taken(Lstm, tmp_path, meta_batch=8, algo="fomaml")[0] == "unrolled"


def test_auto_leaves_what_vmap_does_not_know_or_gets_wrong(tmp_path, monkeypatch):
    from harness.engines.native.vmapped import VmappedOracle

    assert taken(Decides, tmp_path, meta_batch=8)[0] == "unrolled"
    right = VmappedOracle.descent_gradient

    def wrong(self, inner_steps, inner_lr):
        gradient = right(self, inner_steps, inner_lr)
        return MetaGradient(gradient.w * (1 + 1e-6), gradient.phi)

    monkeypatch.setattr(VmappedOracle, "descent_gradient", wrong)
    assert taken(lambda: recurrent()[0], tmp_path, meta_batch=8)[0] == "unrolled"
