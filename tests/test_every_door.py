"""A model and tasks of one's own, in a file, through every door: what works, and what is refused in one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import harness
from harness import InputError, RunConfig
from harness.cli import main
from harness.engines.native import Native
from harness.settings.resolve import resolve
from harness.strangers.named import brief

MINE = """
import torch
from pydantic import BaseModel
from torch import nn
import harness

def net(input_shape, outputs, width=4):
    return nn.Sequential(nn.Linear(input_shape[0], width), nn.Mish(), nn.Linear(width, outputs))

class Points(harness.Benchmark):
    name, summary, version = "points", "noise around centres", "1"
    input_shape = (3,)
    defaults = {"ways": 2, "shots": 3, "queries": 3, "inner_lr": 0.05}

    class Options(BaseModel):
        spread: float = 1.0

    def check(self, ways, shots, queries):
        if ways > 7:
            raise harness.InputError(f"ways {ways}: allowed: 1 to 7")

    def draw(self, split, first, tasks, shape, device, dtype):
        stream = ["train", "validation", "test"].index(split)
        drawn = [self.task(torch.Generator().manual_seed(1000 * shape.seed + 10 * t + stream), shape)
                 for t in range(first, first + tasks)]
        return harness.TaskBatch(*(torch.stack(part).to(device) for part in zip(*drawn)))

    def task(self, generator, shape):
        centres = torch.randn(shape.ways, 1, 3, generator=generator)
        def points(each):
            x = centres + self.options.spread * torch.randn(shape.ways, each, 3, generator=generator)
            return x.flatten(0, 1), torch.arange(shape.ways).repeat_interleave(each)
        return *points(shape.shots), *points(shape.queries)

points = Points(Points.Options(spread=0.5))
made = net((3,), 2)

class Nameless(Points):
    name = "a/b"
class Half(harness.Benchmark):
    name, summary, version = "half", "no tasks", "1"
class Broken(Points):
    def __init__(self, options=None, root=None): raise LookupError("no such\\npoints")
def no_module(): return 3
def fails(): raise LookupError("two\\nlines")
def wrong_size(): return nn.Sequential(nn.Linear(3, 7))
"""
TINY = {"iterations": 1, "meta_batch": 2, "eval_tasks": 2, "inner_steps": 1}
SMALL = [word for name, value in TINY.items() for word in ("--" + name.replace("_", "-"), str(value))]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, with ``mine.py`` in it, where Python does not look."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield tmp_path
    for name in [name for name in sys.modules if name.partition("_")[0] == "mine"]:
        del sys.modules[name]


def told(capsys, *words) -> dict:
    assert main([*map(str, words), "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def refused(capsys, *words) -> str:
    assert main([*map(str, words)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    (line,) = [line for line in said if not line.startswith("first step: ")]
    assert not list(Path().glob("runs/*"))
    return line


@pytest.mark.parametrize("name", ["mine:Points", "./mine.py:Points", "mine:points"])
def test_run_takes_tasks_of_a_file_with_their_defaults(folder, capsys, name):
    summary = told(capsys, "run", *SMALL, "--benchmark", name, "--model", "./mine.py:net", "--results", "runs")
    config = yaml.safe_load((Path(summary["run_dir"]) / "config.yaml").read_text())
    assert (config["ways"], config["shots"], config["inner_lr"]) == (2, 3, 0.05)
    assert config["benchmark_options"] == {"spread": 0.5 if name == "mine:points" else 1.0}
    assert Path(summary["run_dir"]).name.startswith("anil-convex_points_2w3s_N1_s0-")
    assert brief(config["benchmark"]) == name.removeprefix("./")
    again = harness.run(RunConfig(**config), results="runs")  # what is recorded can be run as it is
    assert again["run_dir"] == summary["run_dir"]


def test_the_key_knows_the_tasks(folder):
    def key(**settings):
        return harness.run(RunConfig(**TINY, model="mlp", **settings), results="runs")["key"]

    first = key(benchmark="./mine.py:Points")
    assert key(benchmark="./mine.py:Points", benchmark_options={"spread": 2.0}) != first
    (folder / "mine.py").write_text(MINE.replace("torch.randn(shape.ways, 1, 3", "2 * torch.randn(shape.ways, 1, 3"))
    assert key(benchmark="./mine.py:Points") != first


@pytest.mark.slow
def test_suites_and_studies_take_them_in_workers_too(capsys):
    base = {**TINY, "benchmark": "mine:Points", "model": "./mine.py:net"}
    suite = {"title": "t", "base": base, "grid": [{"benchmark": ["mine:points", "./mine.py:Points"]}]}
    Path("suite.yaml").write_text(yaml.safe_dump(suite))
    runs = told(capsys, "compare", "suite.yaml", "--results", "runs")["runs"]
    assert [run["status"] for run in runs] == ["completed", "completed"]
    words = [*SMALL, "--benchmark", "mine:Points", "--model", "mine:net", "--trials", 1, "--test-seeds", 1]
    (study,) = told(capsys, "tune", *words, "--workers", 2)
    assert study["study"].startswith("anil-convex_points_2w3s")
    assert study["best"]


BAD_TASKS = {
    "mine:Pionts": "cannot be imported",
    "./mine.py:Pionts": "cannot be imported",
    "./nowhere.py:Points": "is no file; allowed: module:Class or FILE.py:Class",
    "nowhere": "unknown benchmark",
    "mine:net": "is no subclass of harness.problem.benchmark.Benchmark",
    "mine:Half": "does not define check, draw, input_shape",
    "mine:Nameless": "is called 'a/b'",
    "mine:Broken": "(LookupError, mine.py:",
}


@pytest.mark.parametrize("name", BAD_TASKS)
def test_what_are_no_tasks_is_one_line(capsys, name):
    assert BAD_TASKS[name] in refused(capsys, "run", *SMALL, "--benchmark", name, "--results", "runs")


def test_options_of_tasks_that_are_made_already_are_refused(capsys):
    words = ["run", "--benchmark", "mine:points", "--set", "benchmark_options.spread=2"]
    assert "'points' is made already" in refused(capsys, *words)
    assert "unknown option of points 'sprad'" in refused(
        capsys, "run", "--benchmark", "mine:Points", "--set", "benchmark_options.sprad=2"
    )


def layers(*parts):
    return nn.Sequential(*parts, nn.Linear(3, 2))


FACTORIES = {
    "nothing": lambda: layers(),
    "outputs": lambda outputs: layers(),
    "both, the other way round": lambda outputs, input_shape: layers() if (input_shape, outputs) == ((3,), 2) else None,
    "options alone": lambda *, width=5: layers(),
    "two of other names": lambda shape, n: layers() if (shape, n) == ((3,), 2) else None,
    "a class": type("Net", (), {"__new__": lambda cls: layers()}),
    "a module": layers(),
}


@pytest.mark.parametrize("kind", FACTORIES)
def test_a_factory_is_called_with_what_it_names(kind):
    config = RunConfig(**TINY, benchmark="mine:Points", geometry="convex")
    assert harness.run(config, model=FACTORIES[kind], results="runs")["n_w"] == 8


def test_a_module_of_ones_own_is_left_alone(capsys):
    kept = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    before = {name: part.clone() for name, part in kept.state_dict().items()}
    harness.run(RunConfig(**TINY, benchmark="mine:Points"), model=kept, results="runs")
    assert all(part.equal(before[name]) for name, part in kept.state_dict().items())
    assert not kept.training
    with pytest.raises(InputError, match="is a module that is made already"):
        harness.run(RunConfig(benchmark="mine:Points", model_options={"width": 3}), model=kept, results="runs")


BAD_MODELS = {
    "mine:no_module": "gives a int; allowed: an nn.Module",
    "mine:fails": "(LookupError, mine.py:",
    "mine:wrong_size": "gives [6, 7] for examples of shape [6, 3]; allowed: [6, 2]",
}
DOORS = {
    "run": [*SMALL, "--results", "runs"],
    "time": ["--rounds", "1", "--memory", "false"],
    "verify": ["--engine", "native"],
    "theory": [],
}


@pytest.mark.parametrize("name", BAD_MODELS)
@pytest.mark.parametrize("door", DOORS)
def test_what_is_no_model_is_one_line_at_every_door(capsys, door, name):
    words = [door, *DOORS[door], "--benchmark", "mine:Points", "--model", name]
    assert BAD_MODELS[name] in refused(capsys, *words)


TIMED = {"inner_steps": 1, "meta_batch": 2, "rounds": 1, "memory": False, "device": "cpu"}


def test_time_takes_them_with_the_benchmarks_defaults_and_every_setting_of_a_run(capsys):
    words = [part for name, value in TIMED.items() for part in ("--" + name.replace("_", "-"), str(value).lower())]
    words += ["--model", "mine:net", "--model-options", "{width: 6}", "--benchmark", "./mine.py:Points"]
    words += ["--benchmark-options", "{spread: 2}", "--algo", "maml,anil:convex,anil:nonconvex"]
    document = told(capsys, "time", *words, "--algo-options", "{l2: 0.01}")
    assert document["tasks"] == "tasks of points"
    assert {name: document["config"][name] for name in ("ways", "inner_lr")} == {"ways": 2, "inner_lr": 0.05}
    assert document["config"]["benchmark_options"] == {"spread": 2.0}
    assert [row["status"] for row in document["rows"]] == ["ok", "ok", "ok"]
    assert "option of maml, anil 'l3'" in refused(capsys, "time", *words, "--algo-options", "{l3: 0.01}")
    # Whatever can be done is done: two layers adapted are all of this model, and nothing is shared.
    joint = told(capsys, "time", *words, "--norm-statistics", "joint")
    assert [row["status"][:13] for row in joint["rows"]] == ["not_supported", "ok", "not_supported"]


def test_time_knows_what_a_regression_benchmark_asks_for():
    config = harness.TimeConfig(benchmark="sinusoid", algo="maml", **TIMED)
    (row,) = harness.time_meta_gradients(config)["rows"]
    assert row["status"] == "ok"


def test_time_takes_objects_and_examines_each_model(capsys):
    tasks = resolve(RunConfig(benchmark="mine:points")).benchmark
    config = harness.TimeConfig(algo="anil:convex", **TIMED)
    for width in (3, 5):
        model = nn.Sequential(nn.Linear(3, width), nn.Mish(), nn.Linear(width, 2))
        (row,) = harness.time_meta_gradients(config, model=model, benchmark=tasks)["rows"]
        assert row["status"] == "ok"
    with pytest.raises(InputError, match=r"gives \[6, 3\] for examples"):  # a model of the same name and settings
        harness.time_meta_gradients(config, model=nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3)), benchmark=tasks)


@pytest.mark.slow
def test_memory_is_measured_for_what_another_process_can_be_given(capsys):
    words = ["--rounds", 1, "--inner-steps", 1, "--algo", "maml", "--device", "cpu", "--model", "mine:net"]
    (row,) = told(capsys, "time", *words, "--benchmark", "mine:Points")["rows"]
    assert row["peak_memory_bytes"] > 0
    config = harness.TimeConfig(algo="maml", **{**TIMED, "memory": True})
    document = harness.time_meta_gradients(
        config, model=lambda: layers(), benchmark=resolve(RunConfig(benchmark="mine:points")).benchmark
    )
    assert document["rows"][0]["peak_memory_bytes"] is None
    assert "its memory is not measured" in document["warnings"][-1]


VERIFIED = {"inner_lr": 0.3, "inner_steps": 2, "meta_batch": 2}
KEYS = {"algorithm", "geometry", "engine", "strategy", "problem", "witness", "relative_error", "tolerance", "ok"}


def test_verify_looks_at_ones_own_model_at_its_own_step(capsys):
    words = [part for name, value in VERIFIED.items() for part in ("--" + name.replace("_", "-"), value)]
    words += ["--model", "mine:net", "--benchmark", "mine:Points", "--engine", "native", "--algo", "maml,anil"]
    document = told(capsys, "verify", *words)
    assert document["ok"]
    assert all(set(row) == KEYS | {"dtype", "peer"} for row in document["rows"])
    assert {row["problem"] for row in document["rows"]} == {"points", "points initial"}
    assert {row["witness"] for row in document["rows"]} == {"own_forward", "autograd"}
    strategies = {
        kind: {row["strategy"] for row in document["rows"] if row["geometry"] == kind}
        for kind in ("convex", "nonconvex")
    }
    assert strategies["nonconvex"] == {"recursion", "checkpointed", "unrolled", "vmapped"}
    assert strategies["convex"] == {"linearised"} | strategies["nonconvex"]
    convex = next(view for view in document["views"] if view["geometry"] == "convex")
    assert (convex["w"], convex["n_w"], convex["n_phi"]) == (["2.weight", "2.bias"], 10, 16)
    assert (convex["body"], convex["head"]) == ("0 (Linear), 1 (Mish)", "2 (Linear)")
    assert (convex["inner_lr"], convex["inner_steps"]) == (0.3, 2)
    assert convex["layers"] == "adapted ones written out"
    assert "Mish" in convex["why"]
    assert main(["verify", *map(str, words)]) == 0
    shown = capsys.readouterr().out
    for part in ("alpha = 0.3, N = 2, as seen by anil convex", "once a task", "Mish", "meta-gradients in float32"):
        assert part in shown


class Odd(nn.Module):
    """A frozen layer, tied weights and a buffer; a head that was registered first."""

    def __init__(self):
        super().__init__()
        self.head, self.one, self.two, self.still = nn.Linear(4, 2), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(3, 4)
        self.two.weight = self.one.weight
        self.still.requires_grad_(False)
        self.register_buffer("scale", torch.tensor(0.5))

    def forward(self, x):
        return self.head(self.two(self.one(self.still(x)).relu()) * self.scale)


def own(model, engine="native", **changes):
    benchmark = resolve(RunConfig(benchmark="mine:Points")).benchmark
    config = RunConfig(**{**VERIFIED, **changes})
    return harness.verify(["anil"], [engine], config=config, model=model, benchmark=benchmark)


def test_verify_says_what_is_frozen_tied_kept_and_cut_off(capsys):
    document = own(Odd, adapt="head")
    view = document["views"][0]
    assert view["frozen"] == ["still.weight", "still.bias"]
    assert view["tied"] == [["one.weight", "two.weight"]]
    assert view["buffers"] == ["scale"]
    assert view["body"].startswith("still (Linear), one (Linear), relu (ReLU), two (Linear), ")
    assert view["head"] == "head (Linear)"
    assert document["ok"]


def test_verify_says_how_far_float32_is_off_at_the_step_that_is_asked_for(monkeypatch):
    monkeypatch.setattr("harness.proof.own._WORTH_A_WORD", 1e-5)

    def looked(inner_lr):
        deep = nn.Sequential(nn.Linear(3, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 2))
        found = own(deep, inner_lr=inner_lr, inner_steps=20, adapt="all")
        off = max(row["relative_error"] for row in found["rows"] if row["dtype"] == "float32")
        return off, found["warnings"]

    torch.manual_seed(0)
    (small, none), (large, warned) = looked(0.01), looked(40.0)
    assert (small < 1e-6, none) == (True, [])
    assert large > 1e-4
    assert "in float32 the meta-gradient of native is off by" in warned[0]
    assert "at alpha = 40, N = 20" in warned[0]


def test_verify_fails_on_a_wrong_gradient_of_ones_own_model():
    class NoMixed(Native):
        name = "no_mixed"

        def oracle(self, *arguments, **named):
            oracle = super().oracle(*arguments, **named)
            products = oracle._second_order_products
            oracle._second_order_products = lambda w, u, mixed: (products(w, u, mixed)[0], products(w, u, mixed)[1] * 0)
            return oracle

    found = own(Odd, NoMixed, adapt="head")
    assert not found["ok"]
    assert {row["witness"] for row in found["rows"] if not row["ok"]} >= {"own_forward", "autograd"}


def test_verify_goes_on_where_one_rule_cannot_and_refuses_what_no_witness_knows():
    one_layer = own(lambda: nn.Sequential(nn.Linear(3, 2)))
    assert [view["geometry"] for view in one_layer["views"]] == ["convex"]
    assert "last:2" in one_layer["skipped"][0]["reason"]
    with pytest.raises(InputError, match="knows no joint statistics"):
        own(Odd, norm_statistics="joint")


def test_theory_takes_them(capsys):
    words = ["--benchmark", "mine:Points", "--meta-batch", 2, "--inner-steps", 1, "--ways", 2]
    named = told(capsys, "theory", *words, "--model", "mine:net")
    config = RunConfig(benchmark="mine:Points", meta_batch=2, inner_steps=1)
    given = resolve(config, model=lambda i, o: None)
    found = harness.estimate(config, model=sys.modules["mine"].net, benchmark=given.benchmark)
    assert found["constants"] == named["constants"]
    assert found["n_w"] == 10


def test_names_that_are_recorded_are_found_from_everywhere(folder, monkeypatch):
    recorded = resolve(RunConfig(benchmark="./mine.py:Points", model="./mine.py:net")).config
    monkeypatch.chdir("/")
    assert resolve(recorded).config == recorded
