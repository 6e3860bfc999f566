"""What every algorithm, benchmark and engine promises, as three functions for the tests of whoever writes one.

>>> from harness.testing import check_algorithm, check_benchmark, check_engine
>>> check_benchmark(MyTasks())  # doctest: +SKIP
"""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from harness.errors import NotSupported
from harness.problem.benchmark import SPLITS

if TYPE_CHECKING:
    from harness.engines.engine import Engine
    from harness.problem.algorithm import Algorithm
    from harness.problem.benchmark import Benchmark
    from harness.problem.tasks import TaskBatch

__all__ = ["check_algorithm", "check_benchmark", "check_engine"]


def check_benchmark(
    benchmark: Benchmark, ways: int | None = None, shots: int = 2, queries: int = 3, seed: int = 0
) -> None:
    """Raises AssertionError, which says what is wrong, unless ``benchmark`` keeps a benchmark's promises.

    Its tasks have the shapes, types and labels that it states, in every split; are the same however many are drawn
    together, whatever was drawn before and in either type; differ from task to task, from seed to seed and from split
    to split. Its module imports no torch, and its model predicts for its examples. Raises
    :class:`harness.errors.MissingData` where its data are not there.
    """
    import torch

    from harness.problem.models import build, check_options, load_factory
    from harness.problem.tasks import draw

    _imports_no_torch(type(benchmark))
    ways = ways or benchmark.defaults.get("ways", 5)
    benchmark.check(ways, shots, queries)
    shape = {"ways": ways, "shots": shots, "queries": queries}
    cpu = torch.device("cpu")

    def drawn(
        split: str = "train", first: int = 0, tasks: int = 4, seed: int = seed, dtype: torch.dtype = torch.float64
    ) -> TaskBatch:
        config: Any = SimpleNamespace(seed=seed, loss=None, loss_options={}, **shape)
        return draw(benchmark, config, split, first, tasks, cpu, dtype)

    who = f"benchmark {benchmark.name!r}"
    for split in SPLITS:
        together = drawn(split)
        assert together.same(drawn(split)), f"{who}: the tasks of {split!r} are others each time"
        for start, stop in ((0, 1), (1, 4), (3, 4)):
            same = together.chunk(start, stop).same(drawn(split, start, stop - start))
            assert same, f"{who}: tasks {start} to {stop} of {split!r} are others when they are drawn apart"
        assert not together.chunk(0, 1).same(together.chunk(1, 2)), f"{who}: all tasks of {split!r} are one"
        other = drawn(split, seed=seed + 1)
        assert not together.same(other), f"{who}: the seed does not change the tasks of {split!r}"
        if benchmark.loss == "cross_entropy":
            for name in ("support_y", "query_y"):
                labels = torch.cat([getattr(group, name).flatten() for group in together.groups])
                assert len(labels.unique()) == ways, f"{who}: {name} of {split!r} has not all of {ways} classes"
    assert not drawn("train").same(drawn("test")), f"{who}: train and test have the same tasks"
    exact, rounded = drawn().groups[0], drawn(dtype=torch.float32).groups[0]
    if exact.support_x.is_floating_point():
        difference = (exact.support_x - rounded.support_x).abs().max()
        assert difference <= 1e-5 * exact.support_x.abs().max(), f"{who}: float32 and float64 are other tasks"
    options = check_options(benchmark.model, dict(benchmark.model_options))
    factory, outputs = load_factory(benchmark.model), benchmark.outputs(ways)
    module = build(factory, benchmark.input_shape, outputs, options, seed=seed, device=cpu, dtype=torch.float64)
    predicted = tuple(module(exact.support_x[0]).shape)
    expected = (exact.support_x.shape[1], outputs)
    assert predicted == expected, f"{who}: its model {benchmark.model!r} predicts {predicted}, not {expected}"


def check_algorithm(algorithm: type[Algorithm], engines: tuple[str, ...] = ("native",)) -> None:
    """Raises AssertionError, which says what is wrong, unless ``algorithm`` keeps an algorithm's promises.

    In every geometry, on every small problem of ``harness verify`` that it can do: its rule agrees on all oracles and
    ``engines``, with what it claims to be, and with the slopes of L_D(adapt(w, phi), phi) where it claims to be exact.
    Its module imports no torch, and what it declares for ``harness tune`` can be searched.
    """
    from harness.problem.search_space import Choice, Range
    from harness.proof import verify
    from harness.tune.space import TUNABLE

    _imports_no_torch(algorithm)
    who = f"algorithm {algorithm.name!r}"
    for geometry in algorithm.geometries:
        for name, declared in algorithm(geometry).search_space.items():
            option = name.partition("algo_options.")[2]
            known = name in TUNABLE or option in algorithm.Options.model_fields
            assert known, f"{who}: its search space has {name!r}, which nothing sets"
            assert isinstance(declared, Range | Choice), f"{who}: {name} is no Range and no Choice"
    _all_right(verify(algorithms=[algorithm], engines=list(engines)), who)


def check_engine(engine: type[Engine]) -> None:
    """Raises AssertionError, which says what is wrong, unless ``engine`` keeps an engine's promises.

    Every algorithm that it does not refuse has the meta-gradient that ``harness verify`` knows; that of a batch is the
    mean of those of its tasks, and the counts are those of the native engine. Its module imports no torch.
    """
    import torch

    from harness.engines.engine import Problem
    from harness.engines.native import Native
    from harness.problem.oracle import Counts, Inner
    from harness.problem.partition import partitioned
    from harness.proof import verify
    from harness.proof.problems import small_problems
    from harness.settings.registry import algorithms

    _imports_no_torch(engine)
    who = f"engine {engine.name!r}"
    _all_right(verify(engines=[engine]), who)
    for problem in small_problems(seed=0):
        for name in ("maml", "fomaml", "anil"):
            rule = algorithms().get(name)
            for geometry, shape in rule.geometries.items():
                algorithm = rule(geometry)
                inner = Inner(problem.loss, 2, 0.05, algorithm.l2)
                network = partitioned(algorithm, problem.module, shape.adapt, inner)
                of = Problem(algorithm, network, inner)
                try:
                    made = engine(of)
                except NotSupported:
                    continue
                w, phi = network.initial()
                counts, expected = Counts(), Counts()
                whole, _ = made.meta_gradient(w, phi, problem.batch, counts)
                Native(of).meta_gradient(w, phi, problem.batch, expected)
                where = f"{who}: {name} {geometry} on {problem.name}"
                assert counts == expected, f"{where} counts {counts}, not {expected}"
                tasks = range(problem.batch.tasks)
                parts = [made.meta_gradient(w, phi, problem.batch.chunk(task, task + 1))[0] for task in tasks]
                for side in ("w", "phi"):
                    mean = torch.stack([getattr(part, side) for part in parts]).mean(0)
                    close = torch.allclose(getattr(whole, side), mean, rtol=1e-9, atol=1e-12)
                    assert close, f"{where}: a batch is not the mean of its tasks, in {side}"


def _all_right(report: dict[str, Any], who: str) -> None:
    wrong = [row for row in report["rows"] if not row["ok"]]
    assert report["rows"], f"{who}: nothing to verify ({report['skipped']})"
    for row in wrong[:1]:
        where = f"{row['algorithm']} {row['geometry']} on {row['problem']}, {row['engine']} {row['strategy']}"
        error, tolerance = row["relative_error"], row["tolerance"]
        raise AssertionError(f"{who}: {where} is {error:.2g} off from {row['witness']}, allowed: {tolerance:.2g}")


def _imports_no_torch(kind: type) -> None:
    """``harness list`` and ``--help`` read every plugin."""
    if kind.__module__ == "__main__" or getattr(sys.modules[kind.__module__], "__file__", None) is None:
        return
    look = f"import sys; sys.path[:] = {sys.path!r}; import {kind.__module__}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=False)
    said = done.stderr.strip().rpartition("\n")[2]
    assert done.returncode == 0, f"{kind.__module__} imports torch on top, or cannot be imported by itself: {said}"
