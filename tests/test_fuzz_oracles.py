"""The native engine on small networks of every shape that it knows, held to the plain autograd oracle in float64."""

from __future__ import annotations

import torch
from hypothesis import assume, event, given
from hypothesis import strategies as st
from search import search
from torch import nn

from harness.engines.engine import Problem
from harness.engines.native import Native
from harness.problem.adapt import layers_of
from harness.problem.autograd_oracle import AutogradOracle
from harness.problem.oracle import Counts, Inner
from harness.problem.partition import Network
from harness.problem.tasks import TaskBatch
from harness.settings.registry import algorithms

METHODS = [("maml", "nonconvex"), ("fomaml", "nonconvex"), ("anil", "convex"), ("anil", "nonconvex")]
SMALL = st.integers(1, 3)
ACTIVATIONS = st.sampled_from([nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.SiLU, nn.GELU, nn.ELU, nn.Softplus])


@st.composite
def networks(draw, outputs):
    """A network in float64 and its input shape: up to two blocks of convolution, up to three linear layers."""
    channels, size = draw(SMALL), draw(st.integers(5, 8))
    shape, edge, layers = (channels, size, size), size, []
    for _ in range(draw(st.integers(0, 2))):
        kernel, stride, padding = draw(SMALL), draw(st.integers(1, 2)), draw(st.integers(0, 1))
        after = (edge + 2 * padding - kernel) // stride + 1
        pool = draw(st.integers(1, 2))
        if padding >= kernel or after < max(2, pool):
            break
        filters = draw(SMALL)
        conv = nn.Conv2d(channels, filters, kernel, stride, padding, bias=draw(st.booleans()))
        norm, act = nn.BatchNorm2d(filters, track_running_stats=False), draw(ACTIVATIONS)()
        layers.append(nn.Sequential(conv, norm, act, draw(st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]))(pool)))
        channels, edge = filters, after // pool
    layers.append(nn.Flatten())
    features = channels * edge * edge
    for width in draw(st.lists(st.integers(1, 4), max_size=2)):
        layers += [nn.Linear(features, width, bias=draw(st.booleans())), draw(ACTIVATIONS)()]
        if width > 2 and draw(st.booleans()):
            layers.append(nn.LayerNorm(width))
        features = width
    layers.append(nn.Linear(features, outputs, bias=draw(st.booleans())))
    module = nn.Sequential(*layers).double()
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module, shape, generator


@st.composite
def problems(draw):
    """A problem and a batch: classes or numbers, w any number of last layers, N from 0, B from 1."""
    loss = draw(st.sampled_from(["cross_entropy", "mse"]))
    ways = draw(st.integers(1, 4)) if loss == "cross_entropy" else 1
    module, shape, generator = draw(networks(ways))
    deep = len(layers_of(module))
    adapt = draw(st.sampled_from(["all", *(f"last:{number}" for number in range(1, deep + 1))]))
    network = Network(module, adapt)
    joint = network.body is not None and draw(st.booleans())
    tasks = draw(SMALL)

    def examples(each):
        x = torch.randn(tasks, ways * each, *shape, generator=generator, dtype=torch.float64)
        if loss == "mse":
            return x, torch.randn(tasks, each, 1, generator=generator, dtype=torch.float64)
        return x, torch.arange(ways).repeat_interleave(each).expand(tasks, -1)

    batch = TaskBatch(*examples(draw(SMALL)), *examples(draw(SMALL)))
    inner = Inner(
        loss,
        draw(st.integers(0, 4)),
        draw(st.sampled_from([0.0, 0.01, 0.03])),
        draw(st.sampled_from([0.0, 0.1])),
        "joint" if joint else "separate",
    )
    name, geometry = draw(st.sampled_from(METHODS))
    return Problem(algorithms().get(name)(geometry), network, inner), batch


@search(100)
@given(given=problems(), strategy=st.sampled_from(["auto", "linearised", "recursion", "checkpointed"]))
def test_every_shape_of_problem_has_the_plain_oracles_meta_gradient(given, strategy):
    problem, batch = given
    network, inner = problem.network, problem.inner
    engine = Native(problem, strategy)
    event(f"native oracle: {engine.stack is not None}")
    w, phi = network.initial()
    counts, plain_counts = Counts(), Counts()
    found, outcome = engine.meta_gradient(w, phi, batch, counts)
    plain = AutogradOracle(network, inner, w, phi, batch, differentiation="recursion", counts=plain_counts)
    expected = problem.algorithm.meta_gradient(plain, inner.inner_steps, inner.inner_lr)
    # an inner loop that diverges makes any two roundings differ by as much as one likes
    assume(bool(torch.isfinite(expected.w).all() and (plain.outcome.loss < 1e4).all()))
    for here, there in ((found.w, expected.w), (found.phi, expected.phi), (outcome.loss, plain.outcome.loss)):
        assert float((here - there).norm()) <= 1e-9 * float(there.norm()) + 1e-12
    assert torch.allclose(outcome.accuracy, plain.outcome.accuracy, rtol=0, atol=0, equal_nan=True)
    assert counts == plain_counts
