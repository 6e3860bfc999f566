"""``harness time``: what a row holds, which cells are refused, what is warned about."""

from __future__ import annotations

import json
import math
import weakref
from types import SimpleNamespace

import pytest
import torch

from harness.cli import main
from harness.cli.terminal.run import time_tables
from harness.engines.engine import Problem
from harness.engines.native import Native
from harness.errors import InputError
from harness.measure.ceiling import Ceiling
from harness.measure.clocks import make_clock
from harness.measure.flops import flops_of
from harness.timing import KINDS
from harness.timing.cells import Name
from harness.timing.config import TimeConfig
from harness.timing.memory import peak_of_cell
from harness.timing.rows import summary, warnings_of
from harness.timing.session import _first, _rounds, _sample, time_meta_gradients

NAME = Name("a", "g", 1, "e", "s")
#: a ceiling that was never measured
UNMEASURED = SimpleNamespace(sample=lambda: None, flops_per_second=None, report=dict)
SMALL = {"model_options": {"filters": 2}, "meta_batch": 2, "rounds": 2, "memory": False, "device": "cpu"}


@pytest.fixture(autouse=True)
def _no_data(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))


def test_rows_hold_every_kind_of_evaluation():
    config = TimeConfig(algo="maml,fomaml,anil:convex,anil:nonconvex", inner_steps="0,2", **SMALL)
    document = time_meta_gradients(config)
    assert "random tensors" in document["tasks"]
    assert len(document["rows"]) == 8
    for row in document["rows"]:
        assert row["status"] == "ok"
        assert len(row["meta_gradient"]["samples"]) == 2
        assert row["meta_gradient"]["median"] > 0
        assert row["flops"] > 0
        assert 0 < row["share_of_ceiling"] < 2
        made = {"outer_gradient"}
        if row["inner_steps"]:
            made |= {"inner_gradient", "hessian_vector_product", "mixed_product"}
        if row["algorithm"] == "fomaml":
            made -= {"hessian_vector_product"}
        if row["algorithm"] in ("maml", "fomaml"):  # phi is empty there
            made -= {"mixed_product"}
        assert {name for name in KINDS if row[name]} == made
        assert row["outer_gradient"]["entries_per_second"] > 0


def test_flops_of_anil_do_not_grow_with_n_but_those_of_maml_do():
    config = TimeConfig(algo="maml,anil:convex", inner_steps="1,5", **{**SMALL, "rounds": 1})
    flops = {(r["algorithm"], r["inner_steps"]): r["flops"] for r in time_meta_gradients(config)["rows"]}
    assert flops["anil", 5] < 1.2 * flops["anil", 1]
    assert flops["maml", 5] > 3 * flops["maml", 1]


@pytest.mark.slow
def test_memory_grows_with_n_as_the_strategy_says():
    config = TimeConfig(
        algo="maml", inner_steps="1,16", strategy="linearised,recursion,checkpointed", device="cpu", rounds=1,
        meta_batch=2, model_options={"filters": 32},
    )  # fmt: skip
    rows = time_meta_gradients(config)["rows"]
    peak = {(r["strategy"], r["inner_steps"]): r["peak_memory_bytes"] for r in rows}
    assert peak["linearised", 16] > 4 * peak["linearised", 1]
    assert peak["recursion", 16] < 1.25 * peak["recursion", 1]
    assert peak["checkpointed", 16] < 1.15 * peak["checkpointed", 1]
    flops = {r["strategy"]: r["flops"] for r in rows if r["inner_steps"] == 16}
    assert flops["linearised"] < flops["recursion"] < flops["checkpointed"] < 1.4 * flops["recursion"]


@pytest.mark.peers
def test_ratios_are_taken_within_one_run():
    config = TimeConfig(algo="anil:convex", inner_steps="1", engine="native,higher", **SMALL)
    native, higher = time_meta_gradients(config)["rows"]
    assert native["ratio_to"]["higher"] == native["meta_gradient"]["median"] / higher["meta_gradient"]["median"]
    assert higher["ratio_to"]["native"] == pytest.approx(1 / native["ratio_to"]["higher"])
    assert higher["inner_gradient"] is None


def test_a_cell_that_cannot_be_says_so_and_the_others_go_on():
    config = TimeConfig(algo="anil:convex", inner_steps="1", benchmark="quadratic", ways=1, shots=10, queries=10,
                        strategy="auto,linearised", **{**SMALL, "model_options": {}})  # fmt: skip
    done, refused = time_meta_gradients(config)["rows"]
    assert done["status"] == "ok"
    assert refused["status"].startswith("not_supported: strategy 'linearised' needs")


class FakeTime:
    """A host clock that moves by what was asked for, and by a microsecond a look; CUDA's events look at it too."""

    def __init__(self, monkeypatch):
        self.now, self.waited = 0.0, 0
        monkeypatch.setattr("time.perf_counter_ns", lambda: int(self.look() * 1e9))
        monkeypatch.setattr("torch.cuda.Event", self.event)
        monkeypatch.setattr("torch.cuda.current_stream", lambda device: None)
        monkeypatch.setattr("torch.cuda.synchronize", self.synchronize)

    def look(self):
        self.now += 1e-6
        return self.now

    def synchronize(self, device):
        self.waited += 1
        self.now += 0.02  # so that one synchronisation a call would be seen

    def event(self, enable_timing):
        assert enable_timing
        event = SimpleNamespace(record=lambda stream: setattr(event, "at", self.look()))
        event.elapsed_time = lambda other: (other.at - event.at) * 1e3
        return event

    def passing(self, *seconds):
        """A call that takes the next of ``seconds``, and the last of them ever after."""
        left = list(seconds)

        def call():
            self.now += left.pop(0) if len(left) > 1 else left[0]
            call.times += 1

        call.times = 0
        return call


@pytest.mark.parametrize(("device", "times"), [("cpu", 5), ("cuda", 7)])
def test_a_block_is_as_long_as_a_warm_call_asks_for(device, times, monkeypatch):
    """The first call starts the device and its libraries: a block of that size would be one call, or none too many."""
    call, cell = FakeTime(monkeypatch).passing(30.0, 0.01), SimpleNamespace(name=NAME, chunked=list)
    cell.meta_gradient = call
    monkeypatch.setattr("harness.timing.session.make_cell", lambda *_: cell)
    cell.engine = SimpleNamespace(strategy="auto")
    monkeypatch.setattr("harness.timing.session.Ceiling", lambda *_: UNMEASURED)
    row = {"status": "ok"}
    place = torch.device(device)
    assert _first(NAME, None, None, place, row, {}, None) is cell
    config = TimeConfig(rounds=2)
    _rounds(config, [(row, cell)], place, torch.float32, lambda _: None)
    assert row["first_seconds"] >= 30
    assert call.times == 2 + 2 * times  # cold, warm, and two blocks
    assert all(sample < 0.02 for sample in row["meta_gradient"]["samples"])


def test_kinds_are_timed_on_cuda_by_events_around_several_calls(monkeypatch):
    time = FakeTime(monkeypatch)
    call = time.passing(1.0, 0.001)
    monkeypatch.setattr("harness.timing.session.evaluations", lambda cell, batch: [("inner_gradient", call, 10)])
    cell = SimpleNamespace(meta_gradient=lambda: None, chunked=lambda: [None, None])
    samples, entries = {}, {}
    _sample(cell, 1, torch.device("cuda"), samples, entries)
    # Two chunks of a millisecond each; the host's wait of 20 ms is in none of them, what it does besides hardly.
    assert samples[id(cell), "inner_gradient"] == [pytest.approx(0.002, rel=0.01)]
    assert entries[id(cell), "inner_gradient"] == 20
    assert call.times >= 2 * 3
    on_cpu = time.passing(0.001)
    monkeypatch.setattr("harness.timing.session.evaluations", lambda cell, batch: [("inner_gradient", on_cpu, 10)])
    _sample(cell, 1, torch.device("cpu"), samples, entries)
    assert on_cpu.times == 2 * 2  # a warm call and the one that is timed


def test_a_timing_says_which_clock_it_is_by(monkeypatch):
    monkeypatch.setattr("harness.timing.session.Ceiling", lambda *_: UNMEASURED)
    document = time_meta_gradients(TimeConfig(algo="anil:convex", inner_steps="1", **SMALL))
    assert document["clocks"] == dict.fromkeys(("meta_gradient", *KINDS), "wall")
    assert make_clock(torch.device("cuda")).name == "device events"
    document["clocks"] |= dict.fromkeys(KINDS, "device events")
    assert [str(table.title).count("device events") for table in time_tables(document)[:2]] == [0, 1]


class FakeMemory:
    """CUDA's allocator, without CUDA: bytes in tensors now and at most since the last reset."""

    def __init__(self, monkeypatch, held):
        self.now = self.most = held
        monkeypatch.setattr("torch.cuda.memory_allocated", lambda device: self.now)
        monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda device: self.most)
        monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", lambda device: self.reset())

    def allocate(self, size):
        self.now += size
        self.most = max(self.most, self.now)

    def reset(self):
        self.most = self.now


def test_memory_of_a_cell_on_cuda_is_what_it_needs_above_what_is_there(monkeypatch):
    memory = FakeMemory(monkeypatch, held=805_000_000)
    memory.allocate(10**9)  # an earlier cell's peak
    memory.allocate(-(10**9))
    gradients = 400  # left in the module by the peer's earlier call, and freed at the beginning of the next

    class Cell(SimpleNamespace):
        def meta_gradient(self):
            self.engine.problem.network.module.zero_grad()
            memory.allocate(7000)
            memory.allocate(-6000)
            self.left = gradients
            memory.allocate(-1000 + self.left)

    cell = Cell(left=0)
    module = SimpleNamespace(zero_grad=lambda: memory.allocate(-cell.left) or setattr(cell, "left", 0))
    cell.engine = SimpleNamespace(problem=SimpleNamespace(network=SimpleNamespace(module=module)))
    cell.meta_gradient()
    assert [peak_of_cell(cell, torch.device("cuda")) for _ in range(2)] == [7000, 7000]


def test_ceiling_holds_no_memory_while_that_of_a_cell_is_measured(monkeypatch):
    made = []

    class Watched(Ceiling):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(weakref.ref(self))

    monkeypatch.setattr("harness.timing.session.Ceiling", Watched)
    monkeypatch.setattr(
        "harness.timing.session.peak_of_cell", lambda *_: sum(ceiling() is not None for ceiling in made)
    )
    (row,) = time_meta_gradients(
        TimeConfig(algo="anil:convex", inner_steps="1", **{**SMALL, "rounds": 1, "memory": True})
    )["rows"]
    assert len(made) == 1
    assert row["peak_memory_bytes"] == 0
    assert row["share_of_ceiling"] > 0


def test_json_is_one_document_and_the_file_holds_the_same(capsys, tmp_path):
    arguments = ["--algo", "fomaml", "--inner-steps", "1", "--meta-batch", "1", "--rounds", "2", "--device", "cpu"]
    arguments += ["--memory", "false"]
    out = tmp_path / "deep" / "times.json"
    status = main(["time", *arguments, "--model-options", "{filters: 2}", "--json", "--out", str(out)])
    printed = json.loads(capsys.readouterr().out)
    assert status == 0
    assert printed == json.loads(out.read_text())
    assert {"environment", "rows"} <= set(printed)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--algo", "mamml"], "did you mean 'maml'"),
        (["--algo", "anil:konvex"], "anil:convex"),
        (["--inner-steps", "-1"], "inner_steps -1"),
        (["--inner-steps", "two"], "--inner-steps"),
        (["--engine", "nativ"], "did you mean 'native'"),
        (["--rounds", "0"], "--rounds"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(flags, message, capsys):
    assert main(["time", *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_unknown_strategy_is_an_input_error():
    with pytest.raises(
        InputError, match=r"strategy 'fastest'.*allowed: auto, linearised, recursion, checkpointed, unrolled"
    ):
        Native(Problem(None, None, None), "fastest")


def test_spread_is_warned_about():
    quiet = {"algorithm": "a", "geometry": "g", "inner_steps": 1, "engine": "e", "strategy": "s"}
    steady = {**quiet, "meta_gradient": summary([1.0, 1.01, 1.02])}
    noisy = {**quiet, "meta_gradient": summary([1.0, 1.5, 2.0])}
    assert warnings_of([steady]) == []
    assert "IQR is 33% of the median" in warnings_of([noisy])[0]


@pytest.mark.parametrize("padding", [0, 1])
def test_one_convolution_in_groups_has_the_flops_of_one_for_each_group(padding):
    x, weight = torch.randn(2, 6, 5, 5, requires_grad=True), torch.randn(12, 2, 3, 3, requires_grad=True)

    def grouped():
        torch.nn.functional.conv2d(x, weight, groups=3, padding=padding).sum().backward()

    def one_by_one():
        for part, own in zip(x.chunk(3, 1), weight.chunk(3), strict=True):
            torch.nn.functional.conv2d(part, own, padding=padding).sum().backward()

    forward = 2 * (2 * (3 + 2 * padding) ** 2) * (12 * 2 * 3 * 3)
    assert flops_of(grouped) == flops_of(one_by_one) == 3 * forward


def test_a_transposed_convolution_has_the_flops_of_its_inputs_positions():
    x, weight = torch.randn(2, 6, 5, 5, requires_grad=True), torch.randn(6, 4, 3, 3, requires_grad=True)
    forward = 2 * (2 * 5 * 5) * (6 * 4 * 3 * 3)
    assert flops_of(lambda: torch.nn.functional.conv_transpose2d(x, weight).sum().backward()) == 3 * forward


def test_flops_of_a_matrix_product_are_counted():
    a, b = torch.ones(3, 4), torch.ones(4, 5)
    assert flops_of(lambda: a @ b) == 2 * 3 * 4 * 5


def test_a_ceiling_that_does_not_fit_leaves_the_cells_and_is_left_out(monkeypatch):
    def does_not_fit(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr("harness.measure.ceiling.F", SimpleNamespace(conv2d=does_not_fit))
    document = time_meta_gradients(TimeConfig(algo="anil:convex", inner_steps="1", **SMALL))
    assert document["rows"][0]["status"] == "ok"
    assert document["rows"][0]["flops"] > 0
    assert document["rows"][0]["share_of_ceiling"] is None
    assert list(document["ceiling"]["flops_per_second"]) == ["matmul"]
    assert time_tables(document)


def test_tf32_is_an_option_that_is_recorded():
    config = TimeConfig(algo="anil:convex", inner_steps="1", tf32=False, **SMALL)
    document = time_meta_gradients(config)
    assert document["config"]["tf32"] is False
    assert document["environment"]["determinism"]["cudnn_allow_tf32"] is False
    with pytest.raises(InputError, match="tf32: cpu has no TF32"):
        time_meta_gradients(config.model_copy(update={"tf32": True}))


def test_ceiling_is_measured():
    ceiling = Ceiling(torch.device("cpu"), torch.float32)
    ceiling.sample()
    assert ceiling.flops_per_second > 0
    assert all(math.isfinite(value) for value in ceiling.report()["flops_per_second"].values())
