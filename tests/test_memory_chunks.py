"""A meta-batch in chunks of tasks: the same numbers, and halving that leaves no trace of what did not fit."""

from __future__ import annotations

import json
import logging
import math
import weakref
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from search import search

import harness
from harness import RunConfig
from harness.cli import main
from harness.engines.chunks import TaskChunks
from harness.engines.engine import Engine, Problem
from harness.engines.native import Native
from harness.errors import NotSupported
from harness.experiment.progress import Silent
from harness.measure.clocks import CpuClock, CudaClock
from harness.problem.models import build
from harness.problem.nets import cnn
from harness.problem.oracle import Counts, Inner
from harness.problem.partition import Network
from harness.problem.tasks import TaskBatch
from harness.settings.registry import algorithms, engines
from harness.timing.config import TimeConfig
from harness.timing.session import time_meta_gradients

SMALL = {
    "benchmark": "sinusoid",
    "iterations": 6,
    "meta_batch": 8,
    "eval_tasks": 12,
    "inner_lr": 0.01,
    "threads": 1,
    "dtype": "float64",
    "stationarity_every": 3,
    "stationarity_tasks": 12,
}
ENGINES = ["native", *(pytest.param(name, marks=pytest.mark.peers) for name in ("higher", "torchopt", "learn2learn"))]


def shortage() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of ...")


def tasks(count: int, seed: int = 0) -> TaskBatch:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, count, 4, 1, 16, 16, generator=generator, dtype=torch.float64)
    y = torch.tensor([0, 0, 1, 1]).expand(count, -1)
    return TaskBatch(x[0], y, x[1], y)


def problem(algorithm: str = "anil", geometry: str = "nonconvex", steps: int = 2) -> Problem:
    rule = algorithms().get(algorithm)(geometry)
    options = {"seed": 0, "device": torch.device("cpu"), "dtype": torch.float64}
    network = Network(build(cnn, (1, 16, 16), 2, {"filters": 2}, **options), rule.geometries[geometry].adapt)
    return Problem(rule, network, Inner("cross_entropy", steps, 0.1, rule.l2))


def made(name: str, asked: Problem, strategy: str = "auto") -> Engine:
    kind = engines().get(name)
    try:
        kind.require()
    except NotSupported as error:
        pytest.skip(str(error))
    return kind(asked, strategy)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm()) if expected.numel() else 0.0


class Cramped(Native):
    """The native engine on a machine that holds ``room`` tasks; what does not fit fails half-way through."""

    room = 3

    def meta_gradient(self, w, phi, batch, counts=None, clock=None):
        torch.rand(batch.tasks)
        if batch.tasks > self.room:
            super().meta_gradient(w, phi, batch.chunk(0, 1), counts, clock)
            raise shortage()
        return super().meta_gradient(w, phi, batch, counts, clock)


@pytest.mark.parametrize("strategy", ["linearised", "recursion", "checkpointed", "unrolled"])
@pytest.mark.parametrize(("algorithm", "geometry"), [("maml", "nonconvex"), ("anil", "convex"), ("anil", "nonconvex")])
def test_a_meta_batch_in_chunks_is_the_same_to_rounding_with_every_strategy(algorithm, geometry, strategy):
    compare(Native(problem(algorithm, geometry), strategy), tasks(5), (1, 2, 3, 4))


@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "anil"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_meta_batch_in_chunks_is_the_same_to_rounding_with_every_engine(engine, algorithm):
    compare(made(engine, problem(algorithm)), tasks(5), (1, 2, 3))


@search(15)
@given(count=st.integers(1, 6), size=st.integers(1, 7), steps=st.integers(0, 3), seed=st.integers(0, 99))
def test_any_chunk_of_any_batch_is_the_same_to_rounding(count, size, steps, seed):
    compare(Native(problem(steps=steps)), tasks(count, seed), (size,))


def compare(engine: Engine, batch: TaskBatch, sizes: tuple[int, ...]) -> None:
    w, phi = engine.problem.network.initial()
    whole_counts = Counts()
    whole, outcome = engine.meta_gradient(w, phi, batch, whole_counts)
    for size in sizes:
        counts = Counts()
        found, seen = TaskChunks(size, batch.tasks).meta_gradient(engine, w, phi, batch, counts)
        assert relative(found.w, whole.w) < 1e-12
        assert relative(found.phi, whole.phi) < 1e-12
        assert relative(seen.loss, outcome.loss) < 1e-12
        assert torch.equal(seen.accuracy, outcome.accuracy)
        assert counts == whole_counts


def test_auto_halves_until_it_fits_and_keeps_what_fitted(caplog):
    engine, batch = Cramped(problem()), tasks(13)
    w, phi = engine.problem.network.initial()
    whole, _ = Native(problem()).meta_gradient(w, phi, batch)
    chunks = TaskChunks("auto", 13)
    with caplog.at_level(logging.WARNING, logger="harness"):
        found, outcome = chunks.meta_gradient(engine, w, phi, batch)
    assert chunks.size == 2  # 13, 7, 4, 2
    assert relative(found.w, whole.w) < 1e-12
    assert relative(found.phi, whole.phi) < 1e-12
    assert outcome.loss.shape == (13,)
    said = [record.message for record in caplog.records]
    assert said[0] == (
        "out of memory with 13 tasks at once, going on with 7 (CUDA out of memory. Tried to allocate 2.50 GiB)"
    )
    assert len(said) == 3
    caplog.clear()
    chunks.meta_gradient(engine, w, phi, batch)
    assert not caplog.records


def test_what_did_not_fit_is_neither_counted_nor_timed_and_draws_no_random_numbers():
    engine, batch = Cramped(problem()), tasks(8)
    w, phi = engine.problem.network.initial()
    counts, clock = Counts(), CpuClock()
    torch.manual_seed(5)
    TaskChunks(2, 8).meta_gradient(engine, w, phi, batch, counts)
    after = torch.get_rng_state()
    clock.start()
    with clock.phase("inner_gradient"):
        pass
    before = clock.seconds()
    torch.manual_seed(5)
    found = Counts()
    TaskChunks("auto", 8).meta_gradient(engine, w, phi, batch, found, clock)
    assert found == counts
    assert torch.equal(torch.get_rng_state(), after)
    with pytest.raises(torch.OutOfMemoryError):
        TaskChunks(8, 8).meta_gradient(engine, w, phi, batch, found, clock)
    assert found == counts
    again = clock.seconds()
    with pytest.raises(torch.OutOfMemoryError):
        TaskChunks(8, 8).meta_gradient(engine, w, phi, batch, found, clock)
    assert clock.seconds() == again
    assert again["inner_gradient"] > before["inner_gradient"]


@pytest.fixture(params=["cpu", "cuda"])
def clock(request, monkeypatch):
    """A clock that sees a microsecond pass between one look and the next; CUDA's on events that are no events."""
    looks = iter(range(10**6))
    if request.param == "cpu":
        monkeypatch.setattr("time.perf_counter_ns", lambda: next(looks) * 1000)
        return CpuClock()

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self, stream):
            self.at = next(looks)

        def elapsed_time(self, other):
            return (other.at - self.at) * 1e-3

    monkeypatch.setattr("torch.cuda.Event", Event)
    monkeypatch.setattr("torch.cuda.synchronize", lambda device: None)
    monkeypatch.setattr("torch.cuda.current_stream", lambda device: None)
    return CudaClock(torch.device("cuda"))


def test_a_lap_and_the_phases_leave_out_what_did_not_fit(clock):
    clock.start()  # looks at 0
    for fits in (False, False, True):  # attempts begin at 1, 4 and 7, and look twice for their phase
        try:
            with clock.attempt(), clock.phase("good" if fits else "bad"):
                assert fits
        except AssertionError:
            pass
    clock.lap()  # at 10
    assert clock.laps() == [pytest.approx(10e-6 - (7e-6 - 1e-6))]
    assert clock.seconds() == {"good": pytest.approx(1e-6)}


def test_phases_can_be_read_up_to_a_lap(clock):
    clock.start()
    for name in ("first", "second", "third"):
        with clock.phase(name):
            pass
        clock.lap()
    assert clock.seconds(2) == {"first": pytest.approx(1e-6), "second": pytest.approx(1e-6)}


@pytest.mark.parametrize("engine", ENGINES[1:])
@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "anil"])
def test_an_engine_that_failed_half_way_gives_the_same_when_tried_again(engine, algorithm, monkeypatch):
    made_once = made(engine, problem(algorithm))
    (w, phi), batch = made_once.problem.network.initial(), tasks(4)
    expected, _ = made_once.meta_gradient(w, phi, batch)
    loss, calls = type(made_once).loss, []

    def short(self, prediction, target):
        calls.append(1)
        if len(calls) == 5:  # in the inner loop of the second task
            raise shortage()
        return loss(self, prediction, target)

    monkeypatch.setattr(type(made_once), "loss", short)
    chunks, counts = TaskChunks("auto", 4), Counts()
    found, _ = chunks.meta_gradient(made_once, w, phi, batch, counts)
    assert chunks.size == 2
    assert relative(found.w, expected.w) < 1e-12
    assert relative(found.phi, expected.phi) < 1e-12
    assert counts.gradient_entries == 4 * (3 * w.numel() + phi.numel())


def test_the_tensors_of_what_did_not_fit_are_gone_before_memory_is_given_back(monkeypatch):
    held: list[weakref.ref] = []
    alive = []

    class Heavy(Cramped):
        def meta_gradient(self, w, phi, batch, counts=None, clock=None):
            tensor = torch.zeros(1000)
            held.append(weakref.ref(tensor))
            return super().meta_gradient(w, phi, batch, counts, clock)

    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.get_rng_state_all", list)
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: alive.append(sum(one() is not None for one in held)))
    monkeypatch.setattr("gc.collect", lambda: 0)  # nothing may need it
    engine = Heavy(problem())
    TaskChunks("auto", 8).meta_gradient(engine, *engine.problem.network.initial(), tasks(8))
    assert alive == [0, 0]  # 8 and 4 did not fit


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("x"), KeyboardInterrupt()])
def test_only_a_shortage_of_memory_is_tried_again(error):
    calls = []

    class Broken(Native):
        def meta_gradient(self, *args, **kwargs):
            calls.append(1)
            raise error

    engine = Broken(problem())
    with pytest.raises(type(error)):
        TaskChunks("auto", 4).meta_gradient(engine, *engine.problem.network.initial(), tasks(4))
    assert len(calls) == 1


def test_one_task_that_does_not_fit_is_the_end():
    engine = Cramped(problem())
    engine.room = 0
    chunks = TaskChunks("auto", 4)
    with pytest.raises(torch.OutOfMemoryError):
        chunks.meta_gradient(engine, *engine.problem.network.initial(), tasks(4))
    assert chunks.size == 1


def test_the_recursion_on_the_cpu_stays_with_one_task_at_once_unless_told():
    engine = Native(problem("maml"), "recursion")
    usual = engine.tasks_at_once(4, torch.device("cpu"))
    assert [TaskChunks(asked, 4, usual).size for asked in ("auto", None, 2, 9)] == [1, 1, 2, 4]


@pytest.fixture
def cramped(monkeypatch):
    """Three tasks fit into this machine, wherever an oracle is made."""
    oracle = Native.oracle

    def with_little_room(self, w, phi, batch, counts=None, clock=None):
        made = oracle(self, w, phi, batch, counts, clock)
        if batch.tasks > 3:
            made.initial()
            made.inner_gradient(made.initial())
            raise shortage()
        return made

    monkeypatch.setattr(Native, "oracle", with_little_room)


def test_a_run_that_does_not_fit_at_once_gives_the_same_results(tmp_path, request):
    whole = harness.run(RunConfig(**SMALL), results=tmp_path / "whole")
    assert whole["task_chunk"] == 8
    request.getfixturevalue("cramped")
    found = harness.run(RunConfig(**SMALL), results=tmp_path / "cramped")
    assert (found["status"], found["task_chunk"], found["key"]) == ("completed", 2, whole["key"])
    assert found["counts"] == whole["counts"]
    assert found["accuracy"]["tasks"] == 12
    for name in ("metrics", "stationarity", "evaluations"):
        for ours, theirs in zip(lines(whole, name), lines(found, name), strict=True):
            for key, value in ours.items():
                if key not in ("seconds", "L") and not key.startswith("smoothness"):
                    assert flat(theirs[key]) == pytest.approx(flat(value), rel=1e-9, abs=1e-13, nan_ok=True), key
    parts = ("features", "inner_gradient", "outer_gradient", "second_order", "outer_update")
    assert found["seconds"]["train"] >= sum(found["seconds"][part] or 0.0 for part in parts)
    fixed = harness.run(RunConfig(**SMALL, task_chunk=3), results=tmp_path / "fixed")
    assert (fixed["status"], fixed["task_chunk"], fixed["key"]) == ("completed", 3, whole["key"])


def flat(value, name: str = "") -> dict:
    """The numbers in nested lists and mappings by where they stand."""
    if isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return {at: each for key, part in parts for at, each in flat(part, f"{name}.{key}").items()}
    return {} if isinstance(value, str) else {name: math.nan if value is None else value}


def lines(summary: dict, name: str) -> list[dict]:
    return [json.loads(line) for line in (Path(summary["run_dir"]) / f"{name}.jsonl").read_text().splitlines()]


def test_a_resumed_run_begins_with_what_fitted(tmp_path, cramped, caplog):
    class Stop(Silent):
        def measured(self, what, record):
            return "enough" if record["iteration"] == 3 else None

    first = harness.run(RunConfig(**SMALL), results=tmp_path, progress=Stop())
    assert (first["status"], first["task_chunk"]) == ("stopped", 2)
    caplog.clear()
    second = harness.run(RunConfig(**SMALL), results=tmp_path, resume=True)
    assert (second["status"], second["task_chunk"]) == ("completed", 2)
    # Held-out tasks come to 2 by 4 again, training does not; the fixed ones are evaluated one by one.
    assert sum("out of memory" in record.message for record in caplog.records) == 2
    whole = harness.run(RunConfig(**SMALL), results=tmp_path / "whole")
    assert [{**line, "seconds": 0} for line in lines(second, "metrics")] == [
        {**line, "seconds": 0} for line in lines(whole, "metrics")
    ]


@pytest.mark.slow
def test_timing_marks_the_cell_that_does_not_fit_and_goes_on(cramped, tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    small = {"algo": "anil:convex,fomaml", "inner_steps": "1", "model_options": {"filters": 2}, "rounds": 1}
    small |= {"device": "cpu", "memory": False, "meta_batch": 4, "strategy": "linearised,recursion"}
    rows = time_meta_gradients(TimeConfig(**small))["rows"]
    # Recursion takes MAML's and FOMAML's tasks one by one on the CPU: the last layer of ANIL is no convolution.
    assert [row["status"] for row in rows] == ["out_of_memory"] * 3 + ["ok"]
    assert [row["task_chunk"] for row in rows] == [None] * 3 + [1]
    rows = time_meta_gradients(TimeConfig(**small, task_chunk="auto"))["rows"]
    assert [(row["status"], row["task_chunk"]) for row in rows] == [("ok", 2)] * 3 + [("ok", 1)]
    assert all(row["inner_gradient"]["entries_per_second"] > 0 for row in rows)
    assert [row["hessian_vector_product"] is None for row in rows] == [row["algorithm"] == "fomaml" for row in rows]


def test_a_run_out_of_memory_says_how_to_go_on_and_does(tmp_path, cramped, capsys):
    command = ["run", "--benchmark", "sinusoid", "--algo", "maml", "--iterations", "2", "--meta-batch", "4", "--json"]
    command += ["--eval-tasks", "4", "--results", str(tmp_path), "--task-chunk"]
    assert main([*command, "4"]) == 1
    shown = capsys.readouterr()
    summary = json.loads(shown.out)
    assert (summary["status"], summary["task_chunk"], summary["iterations_done"]) == ("out_of_memory", 4, 0)
    assert summary["out_of_memory"] == {
        "asked_bytes": 2.5 * 2**30,
        "message": "CUDA out of memory. Tried to allocate 2.50 GiB",
    }
    assert "Tried to allocate 2.50 GiB); --resume --task-chunk 1 goes on" in shown.err
    assert main([*command, "1", "--resume"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["status"], summary["task_chunk"], summary["out_of_memory"]) == ("completed", 1, None)


def test_a_shortage_that_nobody_records_is_one_line(monkeypatch, capsys):
    def short(*args, **kwargs):
        raise shortage()

    monkeypatch.setattr("harness.timing.session.Ceiling", short)
    monkeypatch.setattr("harness.timing.session._first", short)
    assert main(["time", "--algo", "anil", "--benchmark", "sinusoid", "--ways", "1", "--inner-steps", "1"]) == 1
    shown = capsys.readouterr().err
    assert "error: out of memory (CUDA out of memory. Tried to allocate 2.50 GiB)" in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("value", ["0", "-1", "half", "1.5"])
@pytest.mark.parametrize("command", ["run", "time"])
def test_a_chunk_that_is_none_is_refused_in_one_line(command, value, capsys):
    assert main([command, "--task-chunk", value]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "--task-chunk" in shown
    assert "allowed: integer >= 1 or auto" in shown
