"""Residual blocks: written out wherever a module's forward can be followed, exact for every partition and strategy."""

from __future__ import annotations

import operator

import pytest
import torch
import torch.nn.functional as F
from strange_models import plain_loop
from test_layers import agree
from torch import nn

from harness.engines.agreement import examined
from harness.engines.engine import Problem
from harness.engines.native import Native
from harness.errors import NotSupported
from harness.problem.chain import Sum, chain_of
from harness.problem.models import build
from harness.problem.nets import resnet12
from harness.problem.oracle import Inner
from harness.problem.partition import Network
from harness.problem.tasks import TaskBatch
from harness.settings.registry import algorithms


def conv(before, after, size=3, stride=1):
    layer = nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(after, track_running_stats=False))


class Block(nn.Module):
    """Two convolutions, or two linear layers, and a way past them, in the words of ``style``."""

    def __init__(self, before, after, style="add"):
        super().__init__()
        make = nn.Linear if style == "vectors" else conv
        self.one, self.two, self.style = make(before, after), make(after, after), style
        past = nn.Linear(before, after) if style == "vectors" else conv(before, after, 1)
        self.past = nn.Identity() if before == after else past
        self.act = nn.LeakyReLU(0.2)

    def forward(self, x):
        y = self.two(self.act(self.one(x)))
        if self.style == "in place":
            y += self.past(x)
            return F.max_pool2d(F.relu(y, inplace=True), 2)
        y = operator.add(x if type(self.past) is nn.Identity else self.past(x), y)
        return F.leaky_relu(y, 0.1) if self.style == "vectors" else F.max_pool2d(self.act(y), kernel_size=2)


class Whole(nn.Module):
    """No ``nn.Sequential``: what its forward does has to be followed."""

    def __init__(self, first, second, features):
        super().__init__()
        self.first, self.second, self.head = first, second, nn.Linear(features, 3)

    def forward(self, x):
        x = self.second(self.first(x))
        return self.head(x.view(x.size(0), -1))


@pytest.mark.parametrize("style", ["add", "in place"])
@pytest.mark.parametrize("channels", [(3, 3), (2, 3), (3, 2)], ids=str)
def test_blocks_of_images(style, channels):
    """With a convolution past the block or none, at the data and behind it, as a Sequential and as a module."""
    first, second = (Block(*size, style) for size in ((2, channels[0]), channels))
    layers = (first, second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[1], 3))
    agree(nn.Sequential(*layers), (2, 8, 8))
    agree(Whole(*(Block(*size, style) for size in ((2, channels[0]), channels)), 4 * channels[1]), (2, 8, 8))


def test_blocks_of_vectors():
    blocks = [Block(*sizes, "vectors") for sizes in ((6, 4), (4, 4))]
    agree(nn.Sequential(*blocks, nn.Linear(4, 3)), (6,))
    agree(nn.Sequential(Block(6, 6, "vectors"), nn.LayerNorm(6), nn.Linear(6, 3)), (6,))


def test_blocks_within_blocks():
    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside, self.before = Block(3, 3, "add"), conv(3, 3, 3, 2)

        def forward(self, x):
            return torch.relu(self.before(x) + self.inside(x))

    agree(nn.Sequential(nn.Sequential(*conv(1, 3), nn.ReLU()), Nested(), nn.Flatten(), nn.Linear(48, 3)), (1, 8, 8))


class Chained(nn.Module):
    """ResNet-12 in a module's own words."""

    def __init__(self, layers):
        super().__init__()
        self.blocks, self.fc = nn.ModuleList(layers[:4]), layers[-1]

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


@pytest.mark.parametrize("chained", [False, True], ids=["sequential", "module"])
@pytest.mark.parametrize(
    ("algo", "geometry", "adapt"),
    [
        ("maml", "nonconvex", "all"),
        ("fomaml", "nonconvex", "all"),
        ("anil", "convex", "last:1"),
        ("anil", "nonconvex", "last:2"),
    ],
)
def test_resnet12_is_written_out_and_equal_to_a_plain_loop(algo, geometry, adapt, chained):
    def factory(input_shape, outputs):
        layers = resnet12(input_shape, outputs, filters=2)
        return Chained(layers) if chained else layers

    device, algorithm = torch.device("cpu"), algorithms().get(algo)(geometry)
    module = build(factory, (3, 16, 16), 3, {}, seed=0, device=device, dtype=torch.float64)
    if chained:
        adapt = {"last:1": "fc", "last:2": r"blocks\.3|fc"}.get(adapt, adapt)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 2, 6, 3, 16, 16, generator=generator, dtype=torch.float64)
    y = torch.arange(3).repeat_interleave(2).expand(2, -1)
    batch, inner = TaskBatch(x[0], y, x[1], y), Inner("cross_entropy", 3, 0.05, algorithm.l2)
    route = examined(Problem(algorithm, Network(module, adapt), inner), Native, "auto", batch, 3, True, "resnet12")
    assert route.words["layers"] == "written out"
    network = route.problem.network
    assert route.words["shared_body"] is (algo == "anil")
    names = [[slot.name for slot in slots] for slots in (network.w_slots, network.phi_slots)]
    expected = plain_loop(module, *names, "cross_entropy", 3, 0.05, algorithm.l2, batch, algo == "fomaml")
    for strategy in Native.strategies:
        gradient, outcome = Native(route.problem, strategy).meta_gradient(*network.initial(), batch)
        for found, of in zip((outcome.loss, gradient.w, gradient.phi), expected, strict=True):
            assert float((found - of).norm()) <= 1e-9 * float(of.norm()), strategy


def test_a_forward_is_followed_to_what_it_is_made_of():
    kinds = [type(link) for link in chain_of(Whole(Block(2, 3, "add"), Block(3, 3, "in place"), 12))]
    assert kinds == [Sum, nn.LeakyReLU, nn.MaxPool2d, Sum, nn.ReLU, nn.MaxPool2d, nn.Flatten, nn.Linear]


class Decides(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Keeps(nn.Module):
    """Keeps what it has seen."""

    def forward(self, x):
        self.seen = x
        return x + 1


def test_what_depends_on_the_numbers_is_not_followed_and_a_module_is_left_as_it_was():
    with pytest.raises(NotSupported, match="cannot be followed"):
        chain_of(Decides())
    hooked = nn.Sequential(nn.Tanh())
    hooked[0].register_forward_hook(lambda *_: None)
    with pytest.raises(NotSupported, match="layer '0' has hooks"):
        chain_of(hooked)
    keeps = Keeps()
    before = dict(vars(keeps))
    chain_of(keeps)
    assert vars(keeps) == before
