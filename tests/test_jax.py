"""The engine on JAX: chains of layers translated, float64 in a call alone, and one line for what is not known."""

from __future__ import annotations

import importlib.util
from collections import OrderedDict

import pytest
import torch
from test_engines import check
from torch import nn

from harness.engines.engine import Problem
from harness.engines.jax import Jax
from harness.errors import NotSupported
from harness.problem.losses import Loss
from harness.problem.oracle import Inner
from harness.problem.partition import Network
from harness.problem.tasks import TaskBatch
from harness.settings.registry import algorithms

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed"),
]


class Residual(nn.Module):
    """A block that is no Sequential."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1, bias=False)
        self.norm = nn.BatchNorm2d(4, affine=False, track_running_stats=False)

    def forward(self, x):
        return nn.functional.leaky_relu(self.norm(self.conv(x)) + x, 0.1)


def images() -> nn.Module:
    """Every layer of pictures that has a translation; the first convolution is frozen, for pictures of 2 x 9 x 9."""
    torch.manual_seed(0)
    block = nn.Sequential(
        OrderedDict(conv=nn.Conv2d(4, 4, 3, 1, 1), norm=nn.BatchNorm2d(4), relu=nn.ReLU(), pool=nn.MaxPool2d(3, 2, 1))
    )
    nn.init.uniform_(block.norm.weight, -1, 1)
    frozen = nn.Conv2d(2, 4, 3, padding="same", dilation=2, groups=2).requires_grad_(False)
    rest = nn.Sequential(Residual(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    layers = OrderedDict(stem=frozen, block=block, rest=rest, hidden=nn.Linear(4, 4), act=nn.Sigmoid())
    return nn.Sequential(layers | {"last": nn.Linear(4, 3)}).double()


def batch(*shape: int, y: torch.Tensor | None = None) -> TaskBatch:
    """Two tasks of six examples of a shape, of three classes or with targets ``y`` ``[2, 6, ...]``."""
    generator = torch.Generator().manual_seed(0)
    x, query = torch.randn(2, 2, 6, *shape, generator=generator, dtype=torch.float64)
    y = torch.arange(3).repeat_interleave(2).expand(2, -1) if y is None else y
    return TaskBatch(x, y, query, y)


def problem(module: nn.Module, algo: str, adapt: str, loss: Loss | str = "cross_entropy", statistics="separate"):
    name, _, geometry = algo.partition(":")
    rule = algorithms().get(name)
    algorithm = rule(geometry or next(iter(rule.geometries)))
    return Problem(algorithm, Network(module, adapt), Inner(loss, 2, 0.1, algorithm.l2, statistics))


@pytest.mark.parametrize(
    ("algo", "adapt", "statistics"),
    [
        ("maml", "all", "separate"),
        ("fomaml", "last:2", "separate"),
        ("anil:convex", "last:1", "joint"),
        ("anil:nonconvex", "last:2", "separate"),
        ("boil", "not last:1", "separate"),
    ],
)
def test_the_meta_gradient_and_the_counts_are_those_of_the_plain_oracle(algo, adapt, statistics):
    check("jax", problem(images(), algo, adapt, statistics=statistics), batch(2, 9, 9))


@pytest.mark.parametrize(
    ("loss", "make"),
    [
        ("cross_entropy", lambda y: y.softmax(-1)),
        ("mse", lambda y: y),
        ("l1", lambda y: y),
        (Loss("huber", {"delta": 0.3}), lambda y: y),
        ("bce", torch.sigmoid),
    ],
)
def test_every_loss_is_torchs(loss, make):
    y = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    layers = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)).double()
    check("jax", problem(layers, "maml", "all", loss), batch(4, y=make(y)))


def test_calls_leave_nothing_behind_in_tensors_or_in_the_process():
    jax = pytest.importorskip("jax")
    at = problem(nn.Sequential(nn.Linear(4, 3)), "maml", "all")
    engine, drawn = Jax(at), batch(4)
    w, phi = (vector.double() for vector in at.network.initial())
    before = w.clone()
    first, _ = engine.meta_gradient(w, phi, drawn)
    whole = first.w.clone()
    first.w.zero_()  # as an optimizer may
    engine.meta_gradient(w, phi, drawn.chunk(0, 1))
    single, _ = engine.meta_gradient(w.float(), phi.float(), in_float32(drawn))
    again, _ = engine.meta_gradient(w, phi, drawn)
    assert torch.equal(w, before)
    assert torch.equal(again.w, whole)
    assert single.w.dtype == torch.float32
    assert jax.numpy.ones(1, dtype=float).dtype == "float32"


def in_float32(drawn: TaskBatch) -> TaskBatch:
    return TaskBatch(drawn.support_x.float(), drawn.support_y, drawn.query_x.float(), drawn.query_y)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def with_hook() -> nn.Module:
    layer = nn.Linear(4, 3)
    layer.register_forward_hook(lambda module, inputs, output: 2 * output)
    return layer


REFUSED = {
    "GELU": (lambda: nn.GELU(), {}),
    "Doubled": (lambda: Doubled(4, 3), {}),
    "hooks": (with_hook, {}),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(4).eval(), {}),
    "loss cross_entropy": (lambda: nn.Linear(4, 3), {"loss": Loss("cross_entropy", {"label_smoothing": 0.1})}),
    "rule of its own": (lambda: nn.Linear(4, 3), {"algo": "reptile"}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_translation_is_refused_in_one_line(what):
    layer, settings = REFUSED[what]
    module = nn.Sequential(nn.Linear(4, 4), layer())
    with pytest.raises(NotSupported, match=what) as refused:
        Jax(problem(module, **{"algo": "maml", "adapt": "all", **settings}))
    assert "\n" not in str(refused.value)
    assert "--engine native" in str(refused.value)
