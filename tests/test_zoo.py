"""Models of the kinds that people bring: every strategy and library equals a plain loop, or says why not."""

from __future__ import annotations

import os

import pytest
import torch
from strange_models import plain_loop
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.suites.zoo import ZOO, Random
from harness.engines.native import Native
from harness.errors import InputError, NotSupported
from harness.experiment.setup import set_up
from harness.problem.tasks import draw
from harness.settings import registry
from harness.settings.config import RunConfig
from harness.settings.resolve import resolve

SMALL = {"ways": 3, "shots": 2, "queries": 2, "meta_batch": 2, "inner_steps": 2, "inner_lr": 0.05, "dtype": "float64"}
CASES = ("maml", "fomaml", "anil convex", "anil nonconvex")
PEERS = ("learn2learn", "higher", "torchopt")
#: what torch has no second derivative of
NONE = {("MobileNetV3, torchvision", "maml"): "hardsigmoid", ("MobileNetV3, torchvision", "anil nonconvex"): ""}
FAST = {
    ("Conv4, pretrained, frozen", "anil convex"),
    ("Conv4, stride 2", "anil nonconvex"),
    ("tied words", "anil nonconvex"),
    ("ViT", "anil convex"),
    ("ViT, LoRA", "anil nonconvex"),
    ("text transformer", "maml"),
    ("LSTM", "fomaml"),
    ("GRU", "anil convex"),
}
ALL = [(name, case) for name, entry in ZOO.items() for case in CASES if "anil" in case or not entry.alone]
#: beside the fast ones: all where $HARNESS_ZOO is set, which takes more than half an hour; else a few of the small ones
WHOLE = "HARNESS_ZOO" in os.environ
_SMALL = [one for one in ALL if not (ZOO[one[0]].alone or "torchvision" in one[0])]
TRIED = ALL if WHOLE else [one for one in ALL if one in FAST or one in _SMALL[::3]]


def prepared(name, case):
    """The run, its tasks, and loss and meta-gradient of a plain loop over the user's own module."""
    entry, (algo, _, geometry) = ZOO[name], case.partition(" ")
    adapt = {"convex": entry.head, "nonconvex": entry.deep}.get(geometry)
    given = {"geometry": geometry or None, "adapt": adapt} if algo == "anil" else {}
    config = RunConfig(algo=algo, **given, **SMALL, **entry.settings)
    tasks = Random(entry.shape)
    setup = set_up(
        resolve(config, model=lambda input_shape, outputs: entry.make(input_shape, outputs, 8), benchmark=tasks)
    )
    batch = draw(tasks, setup.config, "train", 0, 2, torch.device("cpu"), torch.float64)
    network, algorithm = setup.problem.network, setup.problem.algorithm
    names = [[slot.name for slot in slots] for slots in (network.w_slots, network.phi_slots)]
    first = algorithm.derivative == "first_order"
    return setup, batch, plain_loop(network.module, *names, "cross_entropy", 2, 0.05, algorithm.l2, batch, first)


def off(engine, setup, batch, expected):
    gradient, outcome = engine.meta_gradient(setup.w, setup.phi, batch)
    pairs = zip((outcome.loss, gradient.w, gradient.phi), expected, strict=True)
    return max(float((found - of).norm() / of.double().norm().clamp_min(1e-6)) for found, of in pairs)


def refusal(function, *arguments):
    """One line that says what is allowed instead."""
    with pytest.raises(InputError) as refused:
        function(*arguments)
    message = str(refused.value)
    assert "\n" not in message
    assert "allowed: " in message
    return message


@pytest.mark.parametrize(
    ("name", "case"), [pytest.param(*one, marks=() if one in FAST else pytest.mark.slow) for one in TRIED]
)
def test_every_strategy_equals_a_plain_loop(name, case):
    with sdpa_kernel(SDPBackend.MATH):
        if (name, case) in NONE:
            assert NONE[name, case] in refusal(prepared, name, case)
            return
        setup, batch, expected = prepared(name, case)
        assert off(setup.engine, setup, batch, expected) < 1e-9
        for strategy in Native.strategies:
            if strategy == "linearised" and setup.route.words["layers"] == "autograd":
                refusal(Native, setup.problem, strategy)
            else:
                assert off(Native(setup.problem, strategy), setup, batch, expected) < 1e-9, strategy


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.parametrize("engine", PEERS)
@pytest.mark.parametrize(("name", "case"), [one for one in ALL if one not in NONE and (WHOLE or one in FAST)])
def test_every_library_equals_a_plain_loop_or_says_why_not(name, case, engine):
    with sdpa_kernel(SDPBackend.MATH):
        setup, batch, expected = prepared(name, case)
        kind = registry.engines().get(engine)
        try:
            made = kind(setup.problem)
        except NotSupported:
            refusal(kind, setup.problem)
        else:
            assert off(made, setup, batch, expected) < 1e-9
