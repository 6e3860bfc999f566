"""Conformance of every engine: the meta-gradient that the algorithm's own rule computes with the plain oracle."""

import pytest
import torch

from harness.engines.engine import Problem
from harness.errors import NotSupported
from harness.problem.autograd_oracle import AutogradOracle
from harness.problem.models import build
from harness.problem.nets import cnn, mlp
from harness.problem.oracle import Counts, Inner
from harness.problem.partition import Network
from harness.problem.tasks import TaskBatch
from harness.settings import registry

TOLERANCE = 1e-9
PEERS = ("higher", "torchopt", "learn2learn")
ENGINES = [pytest.param(name, marks=pytest.mark.peers) for name in PEERS]
#: algorithm, geometry, and which parameters of the CNN and of the MLP are w
ALGORITHMS = [
    ("maml", "nonconvex", "all"),
    ("fomaml", "nonconvex", "all"),
    ("fomaml", "nonconvex", "last:2"),
    ("anil", "convex", "last:1"),
    ("anil", "nonconvex", "last:2"),
]
WAYS, SHOTS, QUERIES = 3, 2, 3


def build_network(model, adapt):
    options = {"dtype": torch.float64, "device": torch.device("cpu"), "seed": 0}
    if model == "cnn":
        return Network(build(cnn, (3, 32, 32), WAYS, {"filters": 3}, **options), adapt)
    return Network(build(mlp, (1,), 1, {"hidden": (8, 8)}, **options), adapt)


def draw(model, tasks):
    generator = torch.Generator().manual_seed(tasks)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    if model == "cnn":
        support_y = torch.arange(WAYS).repeat_interleave(SHOTS).expand(tasks, -1)
        query_y = torch.arange(WAYS).repeat_interleave(QUERIES).expand(tasks, -1)
        shape = (3, 32, 32)
        return TaskBatch(normal(tasks, WAYS * SHOTS, *shape), support_y, normal(tasks, WAYS * QUERIES, *shape), query_y)
    return TaskBatch(normal(tasks, 5, 1), normal(tasks, 5, 1), normal(tasks, 7, 1), normal(tasks, 7, 1))


def build_problem(model, algorithm, geometry, adapt, steps, norm_statistics="separate"):
    rule = registry.algorithms().get(algorithm)(geometry)
    inner = Inner("cross_entropy" if model == "cnn" else "mse", steps, 0.1, rule.l2, norm_statistics)
    return Problem(rule, build_network(model, adapt), inner)


def build_engine(name, problem):
    engine = registry.engines().get(name)
    try:
        engine.require()
    except NotSupported as error:
        pytest.skip(str(error))
    return engine(problem)


def relative_error(gradient, witness):
    return (gradient - witness).norm() / witness.norm()


def check(name, problem, batch):
    """The engine's gradient, outcome and counts are those of the rule run on the plain oracle."""
    network, inner = problem.network, problem.inner
    # Away from the module's own values, so that an engine that does not load what it is given is caught.
    w, phi = (vector * 1.1 for vector in network.initial())
    counts = Counts()
    gradient, outcome = build_engine(name, problem).meta_gradient(w, phi, batch, counts)
    oracle = AutogradOracle(network, inner, w, phi, batch)
    witness = problem.algorithm.meta_gradient(oracle, inner.inner_steps, inner.inner_lr)
    assert relative_error(gradient.w, witness.w) <= TOLERANCE
    assert gradient.phi.shape == witness.phi.shape
    if network.n_phi:
        assert relative_error(gradient.phi, witness.phi) <= TOLERANCE
    assert not gradient.w.requires_grad
    assert not gradient.phi.requires_grad
    assert torch.allclose(outcome.loss, oracle.outcome.loss, rtol=1e-12)
    assert torch.equal(outcome.accuracy.isnan(), oracle.outcome.accuracy.isnan())
    assert torch.equal(outcome.accuracy.nan_to_num(), oracle.outcome.accuracy.nan_to_num())
    assert counts == oracle.counts


@pytest.mark.parametrize("tasks", [1, 3])
@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize(("algorithm", "geometry", "adapt"), ALGORITHMS)
@pytest.mark.parametrize("model", ["cnn", "mlp"])
@pytest.mark.parametrize("name", ENGINES)
def test_meta_gradient(name, model, algorithm, geometry, adapt, steps, tasks):
    check(name, build_problem(model, algorithm, geometry, adapt, steps), draw(model, tasks))


@pytest.mark.parametrize(("algorithm", "geometry", "adapt"), ALGORITHMS[2:])
@pytest.mark.parametrize("name", ENGINES)
def test_joint_statistics(name, algorithm, geometry, adapt):
    check(name, build_problem("cnn", algorithm, geometry, adapt, 2, "joint"), draw("cnn", 2))


@pytest.mark.parametrize("algorithm", ["maml", "fomaml"])
@pytest.mark.parametrize("name", ENGINES)
def test_engine_can_be_called_again(name, algorithm):
    """Nothing of one call is left for the next: same arguments, same result."""
    problem = build_problem("mlp", algorithm, "nonconvex", "all", 2)
    engine, batch = build_engine(name, problem), draw("mlp", 2)
    w, phi = problem.network.initial()
    first, _ = engine.meta_gradient(w, phi, batch)
    engine.meta_gradient(2 * w, phi, draw("mlp", 3))
    again, _ = engine.meta_gradient(w, phi, batch)
    assert torch.equal(first.w, again.w)


@pytest.mark.parametrize("name", ENGINES)
def test_shared_parameters_behind_adapted_ones(name):
    with pytest.raises(NotSupported, match="--engine native"):
        build_engine(name, build_problem("cnn", "anil", "nonconvex", "block2|classifier", 1))
