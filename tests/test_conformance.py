"""The public conformance suite, over the project's own plugins and over faults that it has to see."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from strange_models import Vectors

from harness.engines.native import Native
from harness.errors import MissingData, NotSupported
from harness.problem.algorithm import Algorithm, Geometry, MetaGradient, Range, first_order
from harness.problem.tasks import TaskBatch
from harness.proof import table
from harness.settings.registry import algorithms, benchmarks, engines
from harness.testing import check_algorithm, check_benchmark, check_engine


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    """Tests of ``verify`` look at float32 on images of real size; here it would only take time."""
    monkeypatch.setattr(table, "float32_rows", lambda *_: [])


#: one of every kind of rule; the others take their time (their rules are held to other witnesses in test_systems.py)
QUICK = {"anil", "fomaml", "metasgd", "protonet", "reptile"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in algorithms().names()]
)
def test_every_algorithm(name):
    check_algorithm(algorithms().get(name))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == "native" else pytest.mark.peers) for n in engines().names()]
)
def test_every_engine(name):
    engine = engines().get(name)
    try:
        engine.require()
    except NotSupported as reason:
        pytest.skip(str(reason))
    check_engine(engine)


@pytest.mark.parametrize("name", benchmarks().names())
def test_every_benchmark(name):
    try:
        check_benchmark(benchmarks().get(name)())
    except MissingData as reason:
        pytest.skip(str(reason))


class Small(Vectors):
    """A benchmark that keeps its promises, to be broken."""

    model = "mlp"


class Alone(Small):
    def draw(self, split, first, tasks, *more):
        batch = super().draw(split, first, tasks, *more)
        return TaskBatch(batch.support_x * tasks, batch.support_y, batch.query_x, batch.query_y)


class Seedless(Small):
    def draw(self, split, first, tasks, shape, *more):
        return super().draw(split, first, tasks, dataclasses.replace(shape, seed=0), *more)


class Rounded(Small):
    def draw(self, split, first, tasks, shape, device, dtype):
        batch = super().draw(split, first, tasks, shape, device, torch.float64)
        parts = [
            part + 1 if dtype == torch.float32 and part.is_floating_point() else part for part in vars(batch).values()
        ]
        return TaskBatch(*parts)


class Leaking(Small):
    def draw(self, split, first, tasks, *more):
        return super().draw("train", first, tasks, *more)


@pytest.fixture
def importing_torch(monkeypatch):
    """As this file does."""
    monkeypatch.setattr("harness.testing._imports_no_torch", lambda kind: None)


def test_a_benchmark_that_keeps_its_promises_passes(importing_torch):
    check_benchmark(Small())


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (Alone, "are others when they are drawn apart"),
        (Seedless, "the seed does not change"),
        (Rounded, "float32 and float64 are other tasks"),
        (Leaking, "train and test have the same tasks"),
    ],
)
def test_a_benchmark_that_breaks_a_promise_is_told(broken, words, importing_torch):
    with pytest.raises(AssertionError, match=words):
        check_benchmark(broken())


class Half(Algorithm):
    """Claims to be exact and is half of what it claims."""

    name, summary = "half", "half a gradient"
    geometries = {"nonconvex": Geometry("all", "everything")}
    derivative = "exact"

    def meta_gradient(self, oracle, inner_steps, inner_lr):
        gradient = first_order(oracle, inner_steps, inner_lr)
        return MetaGradient(gradient.w / 2, gradient.phi)


class Searching(Half):
    derivative = None

    def meta_gradient(self, oracle, inner_steps, inner_lr):
        return first_order(oracle, inner_steps, inner_lr)

    @property
    def search_space(self):
        return {"temperature": Range(0.1, 1.0)}


@pytest.mark.parametrize(("broken", "words"), [(Half, "off from"), (Searching, "'temperature', which nothing sets")])
def test_an_algorithm_that_breaks_a_promise_is_told(broken, words, importing_torch):
    with pytest.raises(AssertionError, match=words):
        check_algorithm(broken)


class Uncounted(Native):
    name = "uncounted"

    def meta_gradient(self, w, phi, batch, counts=None, clock=None):
        return super().meta_gradient(w, phi, batch)


def test_an_engine_that_breaks_a_promise_is_told(importing_torch):
    with pytest.raises(AssertionError, match="counts Counts"):
        check_engine(Uncounted)


def test_a_plugin_that_imports_torch_on_top_is_told():
    with pytest.raises(AssertionError, match="imports torch"):
        check_engine(Uncounted)
