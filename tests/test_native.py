"""The fast oracle is held to the plain one in float64 over random shapes, and counts what it executes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from search import search

from harness.engines.engine import Problem
from harness.engines.native import Native
from harness.problem.autograd_oracle import AutogradOracle
from harness.problem.meta_gradient import unrolled
from harness.problem.models import build
from harness.problem.nets import cnn, coupled, mlp
from harness.problem.oracle import Counts, Inner
from harness.problem.partition import Network
from harness.problem.tasks import TaskBatch
from harness.settings.registry import algorithms

CPU = torch.device("cpu")


def network(factory, shape, outputs, adapt, seed=0, **options):
    module = build(factory, shape, outputs, options, seed=seed, device=CPU, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() == 1:  # gammas of either sign
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return Network(module, adapt)


def tasks(shape, count, ways, shots, queries, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(each):
        x = torch.randn(count, ways * each, *shape, generator=generator, dtype=torch.float64)
        return x, torch.arange(ways).repeat_interleave(each).expand(count, -1)

    return TaskBatch(*draw(shots), *draw(queries))


def relative(found, expected):
    return float((found - expected).norm() / expected.norm().clamp_min(1e-300))


@search(25)
@given(
    size=st.sampled_from([16, 19, 28]),
    channels=st.sampled_from([1, 3]),
    ways=st.integers(2, 4),
    shots=st.integers(1, 3),
    queries=st.integers(1, 3),
    count=st.integers(1, 3),
    steps=st.integers(0, 3),
    adapt=st.sampled_from(["all", "last:1", "last:2", "last:4"]),
    joint=st.booleans(),
    head=st.sampled_from([0, 6]),
    strategy=st.sampled_from(["linearised", "recursion", "checkpointed"]),
    seed=st.integers(0, 9),
)
def test_layer_oracle_equals_plain_oracle(
    size, channels, ways, shots, queries, count, steps, adapt, joint, head, strategy, seed
):
    shape = (channels, size, size)
    net = network(cnn, shape, ways, adapt, seed, filters=3, head_hidden=head)
    statistics = "joint" if joint and net.body is not None else "separate"
    inner = Inner("cross_entropy", steps, 0.1, 0.01, statistics)
    batch = tasks(shape, count, ways, shots, queries, seed)
    w, phi = net.initial()
    plain_counts, fast_counts = Counts(), Counts()
    plain = AutogradOracle(net, inner, w, phi, batch, differentiation="unrolled", counts=plain_counts)
    expected = unrolled(plain, steps, 0.1)
    found, outcome = Native(Problem(algorithms().get("maml")("nonconvex"), net, inner), strategy).meta_gradient(
        w, phi, batch, fast_counts
    )
    assert relative(found.w, expected.w) < 1e-9
    assert relative(found.phi, expected.phi) < 1e-9 or net.n_phi == 0
    assert relative(outcome.loss, plain.outcome.loss) < 1e-9
    assert torch.equal(outcome.accuracy, plain.outcome.accuracy)
    assert fast_counts == plain_counts


@pytest.mark.parametrize("adapt", ["all", "last:1", "last:2"])
def test_all_tasks_at_once_equals_one_by_one(adapt, monkeypatch):
    """On a GPU all tasks go through a layer together; that path gives the same on the CPU."""
    from harness.engines.native.oracle import LayerOracle

    net = network(cnn, (3, 16, 16), 3, adapt, filters=3)
    batch = tasks((3, 16, 16), 3, 3, 2, 2)
    engine = Native(Problem(algorithms().get("maml")("nonconvex"), net, Inner("cross_entropy", 2, 0.1)))
    one_by_one, _ = engine.meta_gradient(*net.initial(), batch)
    monkeypatch.setattr(LayerOracle, "_chunks", lambda self, part, x: [slice(0, self.tasks)])
    at_once, _ = engine.meta_gradient(*net.initial(), batch)
    assert relative(at_once.w, one_by_one.w) < 1e-12
    assert net.n_phi == 0 or relative(at_once.phi, one_by_one.phi) < 1e-12


@pytest.mark.parametrize("strategy", ["linearised", "recursion", "checkpointed", "unrolled", "vmapped"])
@pytest.mark.parametrize("adapt", ["all", "last:1", "last:2"])
@pytest.mark.parametrize("steps", [0, 1, 5, 10])
def test_strategies_agree_on_regression(adapt, steps, strategy):
    net = network(mlp, (2,), 1, adapt, hidden=(6, 5))
    x, y = torch.randn(2, 3, 7, 2, dtype=torch.float64), torch.randn(2, 3, 7, 1, dtype=torch.float64)
    batch = TaskBatch(x[0], y[0], x[1], y[1])
    inner = Inner("mse", steps, 0.05, 0.1)
    engine = Native(Problem(algorithms().get("maml")("nonconvex"), net, inner), strategy)
    found, _ = engine.meta_gradient(*net.initial(), batch)
    plain = AutogradOracle(net, inner, *net.initial(), batch, differentiation="unrolled")
    expected = unrolled(plain, steps, 0.05)
    assert relative(found.w, expected.w) < 1e-10
    assert net.n_phi == 0 or relative(found.phi, expected.phi) < 1e-10


@pytest.mark.parametrize("adapt", ["block2|classifier", "not last:1", "block[13].conv|block4"])
@pytest.mark.parametrize("strategy", ["linearised", "recursion", "checkpointed"])
def test_written_out_layers_carry_shared_parameters_behind_adapted_ones(adapt, strategy):
    net = network(cnn, (1, 16, 16), 3, adapt, filters=2)
    assert net.tail_slots
    problem = Problem(algorithms().get("maml")("nonconvex"), net, Inner("cross_entropy", 2, 0.1))
    batch = tasks((1, 16, 16), 2, 3, 2, 2)
    by_loop, expected = Native(problem, "unrolled").meta_gradient(*net.initial(), batch)
    native = Native(problem, strategy)
    assert native.stack is not None
    found, outcome = native.meta_gradient(*net.initial(), batch)
    assert relative(found.phi, by_loop.phi) < 1e-10
    assert relative(found.w, by_loop.w) < 1e-10
    assert torch.allclose(outcome.loss, expected.loss)


def test_unknown_layers_use_the_plain_oracle():
    net = network(coupled, (6,), 1, "last:1", dim_phi=3)
    problem = Problem(algorithms().get("anil")("convex"), net, Inner("mse", 2, 0.1))
    assert Native(problem).strategy == "unrolled"


@pytest.mark.parametrize("strategy", ["linearised", "recursion", "checkpointed", "unrolled", "vmapped"])
def test_anil_convolves_as_often_whatever_n_is(strategy):
    """Counted at the dispatcher, so whatever calls a convolution is seen."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Convolutions(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.calls += "convolution" in function.__name__
            return function(*args, **(kwargs or {}))

    def calls(steps):
        net = network(cnn, (1, 16, 16), 3, "last:1", filters=2)
        engine = Native(Problem(algorithms().get("anil")("convex"), net, Inner("cross_entropy", steps, 0.1)), strategy)
        with Convolutions() as seen:
            engine.meta_gradient(*net.initial(), tasks((1, 16, 16), 2, 3, 2, 2))
        return seen.calls

    assert calls(1) == calls(7) > 0
    if (
        strategy != "vmapped"
    ):  # in one function with the loop, features of a support that nothing asks for get no gradient
        assert calls(0) == calls(1)


def test_a_w_changed_in_place_is_linearised_anew():
    """A stranger's algorithm may write ``w -= ...``; what was kept for the old w must not be used."""
    net = network(cnn, (1, 16, 16), 3, "last:1", filters=2)
    problem = Problem(algorithms().get("anil")("convex"), net, Inner("cross_entropy", 1, 0.1))
    oracle = Native(problem).oracle(*net.initial(), tasks((1, 16, 16), 2, 3, 2, 2))
    w = oracle.initial()
    u = torch.ones_like(w)
    oracle.inner_gradient(w, linearise=True)
    w -= 3.0
    assert torch.equal(oracle.hessian_product(w, u), oracle.hessian_product(w.clone(), u))


def test_fomaml_executes_no_second_order_product(monkeypatch):
    from harness.engines.native.oracle import LayerOracle

    def forbidden(*_):
        raise AssertionError("second-order product executed")

    monkeypatch.setattr(LayerOracle, "_second_order_products", forbidden)
    net = network(cnn, (1, 16, 16), 3, "all", filters=2)
    counts = Counts()
    problem = Problem(algorithms().get("fomaml")("nonconvex"), net, Inner("cross_entropy", 3, 0.1))
    Native(problem).meta_gradient(*net.initial(), tasks((1, 16, 16), 2, 3, 2, 2), counts)
    assert (counts.hessian_vector_products, counts.mixed_products, counts.second_order_entries) == (0, 0, 0)
    assert counts.gradient_entries == 2 * (3 * net.n_w + net.n_w)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("adapt", ["all", "last:1", "last:2"])
def test_cpu_and_cuda_agree(adapt):
    net = network(cnn, (3, 32, 32), 5, adapt, filters=4)
    batch = tasks((3, 32, 32), 2, 5, 2, 2)
    inner = Inner("cross_entropy", 3, 0.1)
    on_cpu, _ = Native(Problem(algorithms().get("maml")("nonconvex"), net, inner)).meta_gradient(*net.initial(), batch)
    net.module.cuda()
    moved = TaskBatch(*(tensor.cuda() for tensor in vars(batch).values()))
    on_gpu, _ = Native(Problem(algorithms().get("maml")("nonconvex"), net, inner)).meta_gradient(*net.initial(), moved)
    assert relative(on_gpu.w.cpu(), on_cpu.w) < 1e-9
