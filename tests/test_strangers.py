"""Methods of other people: what is known of a rule that the project has not seen, and what is said where nothing is."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn

import harness
from algorithms.fomaml import FOMAML
from algorithms.maml import MAML
from harness import RunConfig
from harness.engines.engine import Problem
from harness.errors import InputError, NotSupported
from harness.problem.algorithm import MetaGradient
from harness.problem.oracle import Inner
from harness.problem.partition import Network
from harness.problem.tasks import TaskBatch
from harness.registry import benchmarks, engines


class Reptile(MAML):
    """Nichol, Achiam, Schulman 2018: the outer step goes towards the adapted parameters."""

    name = "reptile"

    def meta_gradient(self, oracle, inner_steps, inner_lr):
        start = oracle.initial()
        w = self.adapt(oracle, inner_steps, inner_lr)
        oracle.outcome = oracle.evaluate(w)
        return MetaGradient((start - w).mean(0) / inner_lr, start.new_zeros(oracle.n_phi))


class Own(nn.Module):
    """A model that no engine knows the layers of."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 1)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def regression(tasks=2, inputs=6):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return TaskBatch(normal(tasks, 4, inputs), normal(tasks, 4, 1), normal(tasks, 4, inputs), normal(tasks, 4, 1))


class Held:
    """Tensors that graphs hold for their backward passes: the most at a time while it is active."""

    def __enter__(self):
        self.alive, self.most = 0, 0
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda box: box[0])
        self.hooks.__enter__()
        return self

    def __exit__(self, *error):
        self.hooks.__exit__(*error)

    def _pack(self, tensor):
        class Box(list):
            pass

        box = Box([tensor.detach()])  # an output that its own node saves would keep that node alive
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(box, self._freed)
        return box

    def _freed(self):
        self.alive -= 1


def most_held(engine, algorithm, steps):
    torch.manual_seed(0)
    network = Network(Own().double(), "all")
    problem = Problem(algorithm("nonconvex"), network, Inner("mse", steps, 0.01))
    made = registry_engine(engine)(problem)
    with Held() as held:
        made.meta_gradient(*network.initial(), regression())
    return held.most


def registry_engine(name):
    engine = engines().get(name)
    try:
        engine.require()
    except NotSupported as error:
        pytest.skip(str(error))
    return engine


PEERS = [pytest.param(name, marks=pytest.mark.peers) for name in ("learn2learn", "higher", "torchopt")]


@pytest.mark.parametrize("engine", ["native", *PEERS])
def test_a_first_order_rule_holds_no_more_of_a_graph_for_more_steps(engine):
    assert most_held(engine, FOMAML, 12) == most_held(engine, FOMAML, 2)
    assert most_held(engine, MAML, 12) > 3 * most_held(engine, MAML, 2)  # the witness can see a graph


def test_a_strangers_rule_that_differentiates_nothing_records_nothing():
    assert most_held("native", Reptile, 12) == most_held("native", Reptile, 2)


def test_an_unknown_loss_is_refused_before_anything_is_written(tmp_path):
    class Huber(benchmarks().get("sinusoid")):
        loss = "huber"

    with pytest.raises(InputError, match="unknown benchmark loss 'huber': allowed: cross_entropy, mse"):
        harness.run(RunConfig(iterations=1, eval_tasks=2), benchmark=Huber(), results=tmp_path)
    assert not list(tmp_path.iterdir())
