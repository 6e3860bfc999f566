"""Every loss: its meta-gradient against a plain loop, what is right under it, and what is refused."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from strange_models import Numbers, Vectors, plain_loop
from torch import nn

import harness
from harness import RunConfig
from harness.draw import draw
from harness.engines.native import Native
from harness.errors import InputError
from harness.problem.losses import LOSSES, Loss
from harness.problem.objective import accuracy, metrics
from harness.problem.tasks import TaskBatch
from harness.registry import engines
from harness.resolve import resolve
from harness.setup import set_up

SMALL = {"ways": 3, "shots": 2, "queries": 3, "meta_batch": 2, "inner_steps": 2, "inner_lr": 0.1, "dtype": "float64"}
CPU = torch.device("cpu")


class Padded(Vectors):
    """The first example of each task has no label."""

    def targets(self, ways, each, generator, dtype):
        labels = super().targets(ways, each, generator, dtype)
        labels[0] = -100
        return labels


class Soft(Vectors):
    """Labels are probabilities."""

    def targets(self, ways, each, generator, dtype):
        return torch.rand(ways * each, ways, generator=generator, dtype=torch.float64).softmax(-1).to(dtype)


class Several(Vectors):
    """Each example has any number of labels."""

    loss = "bce"

    def targets(self, ways, each, generator, dtype):
        return torch.randint(2, (ways * each, ways), generator=generator).to(dtype)


class One(Numbers):
    """One number to be predicted by two outputs."""

    loss = "own:of_numbers"

    def targets(self, ways, each, generator, dtype):
        return torch.randn(ways * each, generator=generator, dtype=torch.float64).to(dtype)


def focal(prediction, target, gamma=2.0):
    log_p = prediction.log_softmax(-1).gather(-1, target[:, None])
    return -((1 - log_p.exp()) ** gamma * log_p).mean()


def gaussian(prediction, target):
    return (((target - prediction[:, 0]) / prediction[:, 1].exp()).square() / 2 + prediction[:, 1]).mean()


def straight(prediction, target):
    """Linear in the prediction: no second derivative of its own."""
    return (prediction * F.one_hot(target, 3)).sum() / -len(prediction)


WEIGHTS = [0.5, 2.0, 1.3]
_weights = torch.tensor(WEIGHTS, dtype=torch.float64)
#: tasks, name or function, options, and the same in torch's own words
CASES = {
    "plain": (Vectors, "cross_entropy", {}, F.cross_entropy),
    "smooth": (Vectors, "cross_entropy", {"label_smoothing": 0.2}, partial(F.cross_entropy, label_smoothing=0.2)),
    "weights": (Vectors, "cross_entropy", {"class_weights": WEIGHTS}, partial(F.cross_entropy, weight=_weights)),
    "padding": (Padded, "cross_entropy", {"ignore_index": -100}, partial(F.cross_entropy, ignore_index=-100)),
    "all of them": (
        Padded,
        "cross_entropy",
        {"label_smoothing": 0.3, "class_weights": WEIGHTS, "ignore_index": -100},
        partial(F.cross_entropy, label_smoothing=0.3, weight=_weights),
    ),
    "soft": (Soft, "cross_entropy", {}, F.cross_entropy),
    "soft, smooth, weights": (
        Soft,
        "cross_entropy",
        {"label_smoothing": 0.3, "class_weights": WEIGHTS},
        partial(F.cross_entropy, label_smoothing=0.3, weight=_weights),
    ),
    "mse": (Numbers, "mse", {}, F.mse_loss),
    "l1": (Numbers, "l1", {}, F.l1_loss),
    "huber": (Numbers, "huber", {"delta": 0.7}, partial(F.huber_loss, delta=0.7)),
    "bce": (Several, "bce", {}, F.binary_cross_entropy_with_logits),
    "own": (Vectors, focal, {"gamma": 1.5}, partial(focal, gamma=1.5)),
    "own, of numbers": (One, gaussian, {}, gaussian),
    "own, linear": (Vectors, straight, {}, straight),
}
MODELS = {
    "written out": lambda i, o: nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, o)),
    "autograd": lambda i, o: nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, o)),
}


def prepared(case, algo, model, **settings):
    tasks, loss, options, own = CASES[case]
    named = {"loss": loss} if isinstance(loss, str) else {}
    config = RunConfig(algo=algo, loss_options=options, **named, **{**SMALL, **settings})
    given = {} if named else {"loss": loss}
    setup = set_up(resolve(config, model=MODELS[model], benchmark=tasks(), **given))
    return setup, draw(tasks(), setup.config, "train", 5, 2, CPU, torch.float64), own


def off(setup, engine, batch, own):
    network, algorithm = setup.problem.network, setup.problem.algorithm
    names = [[slot.name for slot in slots] for slots in (network.w_slots, network.phi_slots)]
    first = algorithm.derivative == "first_order"
    losses, w, phi = plain_loop(network.module, *names, own, 2, 0.1, algorithm.l2, batch, first)
    gradient, outcome = engine.meta_gradient(setup.w, setup.phi, batch)
    pairs = ((outcome.loss, losses), (gradient.w, w), (gradient.phi, phi))
    return max(float((found - of).norm() / of.norm().clamp_min(1e-6)) for found, of in pairs)


ALGORITHMS = ("anil", "maml", "fomaml")
#: each loss under one algorithm, the others where there is time
_QUICK = [(case, ALGORITHMS[number % 3]) for number, case in enumerate(CASES)]
_OTHERS = [(case, algo) for case in CASES for algo in ALGORITHMS if (case, algo) not in _QUICK]


@pytest.mark.parametrize(
    ("case", "algo"), [*_QUICK, *(pytest.param(*other, marks=pytest.mark.slow) for other in _OTHERS)]
)
def test_every_loss_has_the_meta_gradient_of_a_plain_loop(case, algo):
    for model in MODELS:
        setup, batch, own = prepared(case, algo, model)
        assert setup.route.words["layers"] == model  # the fast path stays, whatever the loss
        for strategy in ("auto", "unrolled", "recursion", "checkpointed"):
            assert off(setup, Native(setup.problem, strategy), batch, own) < 1e-9, (model, strategy)


@pytest.mark.peers
@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("case", CASES)
def test_other_libraries_have_the_same_loss(case, algo):
    setup, batch, own = prepared(case, algo, "written out")
    for engine in ("learn2learn", "higher", "torchopt"):
        assert off(setup, engines().get(engine)(setup.problem), batch, own) < 1e-9, engine
