"""Every written-out layer on its own: the meta-gradient of autograd, in float64, and a summary that says so."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from strange_models import Images, Vectors
from torch import nn

from harness import RunConfig
from harness.engines.engine import Problem
from harness.engines.native import Native
from harness.errors import NotSupported
from harness.experiment.setup import set_up
from harness.problem.adapt import layers_of
from harness.problem.autograd_oracle import AutogradOracle
from harness.problem.oracle import Counts, Inner
from harness.problem.partition import Network
from harness.problem.tasks import TaskBatch
from harness.settings.registry import algorithms
from harness.settings.resolve import resolve

ACTIVATIONS = (
    nn.ReLU(),
    nn.LeakyReLU(0.3),
    nn.Tanh(),
    nn.Sigmoid(),
    nn.SiLU(),
    nn.GELU(),
    nn.GELU("tanh"),
    nn.ELU(0.5),
    nn.Softplus(2.0, threshold=1.0),
)
NORMS = (
    nn.LayerNorm(4),
    nn.LayerNorm(4, elementwise_affine=False),
    nn.LayerNorm(4, bias=False),
    nn.GroupNorm(2, 4),
    nn.GroupNorm(2, 4, affine=False),
    nn.BatchNorm1d(4, track_running_stats=False),
    nn.BatchNorm1d(4, affine=False, track_running_stats=False),
)
POOLS = (
    nn.MaxPool2d(2),
    nn.MaxPool2d(3, stride=2, padding=1),
    nn.MaxPool2d(2, stride=1, dilation=2, ceil_mode=True),
    nn.AvgPool2d(2),
    nn.AvgPool2d((3, 2), stride=2, padding=1, ceil_mode=True, count_include_pad=False),
    nn.AvgPool2d(2, divisor_override=3),
    nn.AdaptiveAvgPool2d(1),
    nn.AdaptiveAvgPool2d((2, 3)),
    nn.Identity(),
)


def agree(module: nn.Module, shape: tuple[int, ...]) -> None:
    """Linearised and recursion equal the unrolled loop by autograd, whatever is adapted."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module(torch.randn(2, *shape))
        module.double()
        for parameter in module.parameters():
            parameter.data = 0.7 * torch.randn(parameter.shape, dtype=torch.float64)  # scales of either sign
        x = torch.randn(2, 3, 6, *shape, dtype=torch.float64)
    y = torch.arange(3).repeat_interleave(2).expand(3, -1)
    batch, inner = TaskBatch(x[0], y, x[1], y), Inner("cross_entropy", 2, 0.05, 0.01)
    algorithm = algorithms().get("maml")("nonconvex")
    for adapt in ("all", *(f"last:{count}" for count in range(1, len(layers_of(module))))):
        network, counts = Network(module, adapt).cuts()[0], Counts()
        at = network.initial()
        plain = AutogradOracle(network, inner, *at, batch, differentiation="unrolled", counts=counts)
        expected = algorithm.meta_gradient(plain, 2, 0.05)
        for strategy in ("linearised", "recursion"):
            found_counts = Counts()
            engine = Native(Problem(algorithm, network, inner), strategy)
            found, outcome = engine.meta_gradient(*at, batch, found_counts)
            assert engine.stack is not None
            assert found_counts == counts
            pairs = ((found.w, expected.w), (found.phi, expected.phi), (outcome.loss, plain.outcome.loss))
            for here, there in pairs:
                assert float((here - there).norm()) <= 1e-10 * float(there.norm()), (module, adapt, strategy)


@pytest.mark.parametrize("act", ACTIVATIONS, ids=str)
def test_activations(act):
    agree(nn.Sequential(nn.Linear(6, 5), act, nn.Linear(5, 4, bias=False), act, nn.Linear(4, 3)), (6,))


@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_norms(norm):
    """Behind what moves with the parameters and behind what does not, adapted and shared."""
    layers = (nn.Linear(6, 4), deepcopy(norm), nn.Tanh(), nn.Linear(4, 4), deepcopy(norm), nn.SiLU(), nn.Linear(4, 3))
    agree(nn.Sequential(*layers), (6,))
    agree(nn.Sequential(deepcopy(norm), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)), (4,))


@pytest.mark.parametrize("act", [nn.LeakyReLU(0.2), nn.Tanh(), nn.GELU()], ids=str)
@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_convolutions_with_every_activation_and_pool(pool, act):
    """Fused with the pool where the activation is increasing and windows do not overlap; else one after the other."""

    def block(channels):
        conv = nn.Conv2d(channels, 3, 3, stride=2 if type(pool) is nn.Identity else 1, padding=1)
        return nn.Sequential(conv, nn.BatchNorm2d(3, track_running_stats=False), act, pool)

    agree(nn.Sequential(block(1), block(3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)), (1, 8, 8))


def test_linear_layers_and_norms_of_sequences():
    agree(
        nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 2), nn.Flatten(), nn.Linear(10, 3)),
        (5, 6),
    )


def test_the_summary_says_that_such_layers_are_written_out():
    def vectors(input_shape, outputs):
        return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3))

    def images(input_shape, outputs):
        conv = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.LeakyReLU(), nn.AvgPool2d(2)]
        return nn.Sequential(*conv, nn.Flatten(), nn.LazyLinear(outputs))

    for factory, benchmark in ((vectors, Vectors()), (lambda i, o: with_shape(images(i, o), i), Images())):
        config = RunConfig(ways=3, shots=2, queries=2, meta_batch=2, inner_lr=0.1)
        assert set_up(resolve(config, model=factory, benchmark=benchmark)).route.words["layers"] == "written out"


def with_shape(module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    module(torch.zeros(2, *shape))
    return module


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Linear(6, 4), nn.Hardtanh(), nn.Linear(4, 3)),
        (nn.Linear(6, 4), nn.LeakyReLU(-0.5), nn.Linear(4, 3)),
        (nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)),
        (nn.Tanh(), nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False), nn.ReLU(), nn.Flatten()),
    ],
    ids=lambda layers: type(layers[1]).__name__,
)
def test_what_is_not_known_is_left_to_autograd_with_the_layer_named(layers):
    problem = Problem(
        algorithms().get("maml")("nonconvex"), Network(nn.Sequential(*layers), "all"), Inner("cross_entropy", 1, 0.1)
    )
    assert "layer '1'" in Native(problem).why
    with pytest.raises(NotSupported, match="layer '1'"):
        Native(problem, "linearised")
