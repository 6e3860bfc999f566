"""Code of other people, wherever it is called: what it raises or gives is one line that says whose it is."""

from __future__ import annotations

import json
import logging
import math
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from fabricated import write_run

import harness
from algorithms.maml import MAML
from harness import RunConfig
from harness.cli import main
from harness.errors import AlgorithmFailed, HarnessError, InputError, NotSupported
from harness.problem.benchmark import Benchmark
from harness.problem.tasks import TaskBatch
from harness.report.reading.runs import read_runs
from harness.settings.registry import Plugin, Registry, algorithms, benchmarks
from harness.strangers.blame import blamed

# ---------------------------------------------------------------- the mechanism


class Silent(Exception):
    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    "error", [ValueError("a\nb \x1b[31m"), SystemExit(3), BaseException(), Silent(), KeyError("k")]
)
def test_whatever_is_raised_is_one_printable_line(error):
    with pytest.raises(InputError) as caught, blamed("plugin 'x'"):
        raise error
    assert str(caught.value).startswith(f"plugin 'x' failed ({type(error).__name__}, test_foreign_code.py:")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), InputError("told"), NotSupported("told")])
def test_what_is_no_fault_of_the_code_passes(error):
    with pytest.raises(type(error)) as caught, blamed("plugin 'x'", AlgorithmFailed):
        raise error
    assert caught.value is error


# ---------------------------------------------------------------- plugins

PLUGINS = {
    "raises": "raise KeyError('k')",
    "exits": "import sys; sys.exit('bye')",
    "exits_quietly": "raise SystemExit",
    "syntax": "def",
    "nothing": "",
    "no_class": "Own = 3",
    "no_summary": "from harness import Benchmark\nclass Own(Benchmark): name = 'no_summary'",
}


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_that_cannot_be_loaded_is_named_and_others_go_on(tmp_path, monkeypatch, caplog, name):
    (tmp_path / f"plugin_{name}.py").write_text(PLUGINS[name])
    monkeypatch.syspath_prepend(tmp_path)
    group = "harness.benchmarks"
    entries = [
        EntryPoint(name, f"plugin_{name}:Own", group),
        EntryPoint("sinusoid", "benchmarks.sinusoid:Sinusoid", group),
    ]
    with caplog.at_level(logging.WARNING):
        found = Registry("benchmark", Benchmark, group, entries)
    assert found.names() == ["sinusoid"]
    (record,) = caplog.records
    assert f"benchmark {name!r} from unknown (plugin_{name}:Own) is left out" in record.getMessage()
    assert record.getMessage().isprintable()


class Stranger(Benchmark):
    """Classes of points on a line."""

    name, summary, version, input_shape = "stranger", "points", "1", (1,)
    model = "mlp"

    def check(self, ways, shots, queries):
        pass

    def draw(self, split, first, tasks, shape, device, dtype):
        def labels(each):
            return torch.arange(shape.ways).repeat_interleave(each).expand(tasks, -1)

        return TaskBatch(
            torch.zeros(tasks, shape.ways * shape.shots, 1), labels(shape.shots),
            torch.ones(tasks, shape.ways * shape.queries, 1), labels(shape.queries),
        )  # fmt: skip


SMALL = RunConfig(
    benchmark="stranger", iterations=2, meta_batch=2, eval_tasks=2, inner_steps=1, ways=2, checkpoint_every=1
)


def replaced(part, change):
    class Changed(Stranger):
        def draw(self, split, first, tasks, *more):
            batch = super().draw(split, first, tasks, *more)
            return TaskBatch(**{**vars(batch), part: change(getattr(batch, part))})

    return Changed()


def with_nan(x):
    x = x.clone()
    x[-1, -1] = math.nan
    return x


BATCHES = {
    "labels of int32": ("support_y", lambda y: y.int(), "support_y has type int32; allowed: classes as int64"),
    "labels that are floats": ("query_y", lambda y: y.float(), "query_y has type float32; allowed: classes as int64"),
    "labels one hot": ("query_y", lambda y: y[..., None] * torch.ones(2, dtype=torch.int64), "query_y has shape"),
    "a negative label": ("support_y", lambda y: y - 1, "support_y has classes from -1 to 0; allowed: 0 to 1"),
    "a label too large": ("query_y", lambda y: y + 1, "query_y has classes from 1 to 2; allowed: 0 to 1"),
    "one task too few": ("query_x", lambda x: x[1:], "query_x has shape"),
    "no examples": ("support_x", lambda x: x[:, :0], "support_x has shape"),
    "inputs of another shape": ("support_x", lambda x: x[..., None], "support_x has shape"),
    "inputs that are not finite": ("query_x", with_nan, "query_x has numbers that are not finite"),
    "inputs that are infinite": ("query_x", lambda x: x / 0, "query_x has numbers that are not finite"),
    "complex inputs": ("support_x", lambda x: x + 0j, "support_x has type complex64; allowed: float32"),
    "a list": ("support_x", list, "support_x is a list"),
    "elsewhere": ("query_x", lambda x: x.to("meta"), "query_x is on meta; allowed: cpu"),
}


@pytest.mark.parametrize("what", BATCHES)
def test_a_batch_that_is_none_is_told_where_it_enters(tmp_path, what):
    part, change, words = BATCHES[what]
    with pytest.raises(InputError) as caught:
        harness.run(SMALL, benchmark=replaced(part, change), results=tmp_path)
    assert str(caught.value).startswith("benchmark 'stranger', train tasks from 0: ")
    assert words in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_batch_that_is_right_runs_and_inputs_come_in_the_type_of_the_run(tmp_path):
    assert harness.run(SMALL, benchmark=Stranger(), results=tmp_path)["status"] == "completed"
    doubled = SMALL.model_copy(update={"dtype": "float64"})
    assert harness.run(doubled, benchmark=Stranger(), results=tmp_path)["status"] == "completed"


def test_a_batch_that_goes_wrong_later_names_the_task_and_keeps_what_was_done(tmp_path):
    class Later(Stranger):
        def draw(self, split, first, tasks, *more):
            batch = super().draw(split, first, tasks, *more)
            return TaskBatch(**{**vars(batch), "query_y": batch.query_y + 5}) if first >= 2 else batch

    with pytest.raises(InputError, match="benchmark 'stranger', train tasks from 2: query_y has classes from 5"):
        harness.run(SMALL, benchmark=Later(), results=tmp_path)


class Odd(Exception):
    pass


def raising(*names):
    def fail(self, *_, **__):
        raise Odd("two\nlines")

    return type("Raising", (Stranger,), dict.fromkeys(names, fail))


@pytest.mark.parametrize("name", ["draw", "check", "outputs"])
def test_a_benchmark_that_raises_is_one_line(tmp_path, name):
    with pytest.raises(InputError, match=r"benchmark 'stranger' failed \(Odd, test_foreign_code.py:\d+\): two$"):
        harness.run(SMALL, benchmark=raising(name)(), results=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_algorithm_that_cannot_be_made_is_one_line(tmp_path):
    class Exits(MAML):
        name = "exits"

        def __init__(self, geometry, options=None):
            raise SystemExit(1)

    with pytest.raises(InputError, match="algorithm 'exits' failed"):
        harness.run(RunConfig(benchmark="sinusoid"), algorithm=Exits, results=tmp_path)


@pytest.mark.parametrize(
    "odd", [{"geometries": {}}, {"geometries": {"nonconvex": "all"}}, {"Options": dict}, {"search_space": 3}]
)
def test_a_class_that_is_not_what_it_has_to_be_is_one_line(monkeypatch, capsys, odd):
    monkeypatch.setitem(
        algorithms().plugins, "odd", Plugin("odd", "a stranger", type("Odd", (MAML,), {"name": "odd", **odd}))
    )
    for command in ["tune"] if "search_space" in odd else ["run", "tune"]:
        assert main([command, "--benchmark", "sinusoid", "--algo", "odd"]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert main(["list"]) == 0
    assert "anil" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["prepare", "verify"])
def test_data_of_a_benchmark_that_raises_are_one_line(monkeypatch, capsys, command):
    monkeypatch.setitem(benchmarks().plugins, "stranger", Plugin("stranger", "a stranger", raising("__init__")))
    assert main(["data", command, "stranger"]) == 2
    assert capsys.readouterr().err.startswith("error: benchmark 'stranger' failed (Odd, test_foreign_code.py:")


@pytest.mark.parametrize("name", ["version", "input_shape", "model_options"])
def test_a_property_of_a_benchmark_that_raises_is_one_line(tmp_path, name):
    made = type("Raising", (Stranger,), {name: property(vars(raising(name))[name])})()
    with pytest.raises(HarnessError, match="'stranger' failed"):
        harness.run(SMALL, benchmark=made, results=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["list"], ["data", "status"]])
def test_a_benchmark_that_cannot_be_made_does_not_stop_a_list(monkeypatch, capsys, words):
    class Exits(Stranger):
        name = "exits"

        def __init__(self, options=None, root=None):
            raise SystemExit(1)

    monkeypatch.setitem(benchmarks().plugins, "exits", Plugin("exits", "a stranger", Exits))
    assert main([*words, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert words != ["list"] or "SystemExit" in str(shown["benchmarks"])
    assert main(words) == 0


# ---------------------------------------------------------------- files

ODD = [
    "{}", '{"status": "completed"}', '{"status": ["completed"]}', '{"seconds": 3}', '{"seconds": {"wall": "x"}}',
    '{"accuracy": 0.5}', '{"accuracy": {"mean": "x"}}', '{"iterations": 0}', '{"inner_steps": []}',
    '{"meta_batch": null}', '{"inner_lr": "x"}',
]  # fmt: skip


def odd_folder(tmp_path, content):
    """A completed run of the suite below whose summary is changed, beside one of the same kind that is odd too."""
    (tmp_path / "suite.yaml").write_text(
        "title: t\nbase: {benchmark: sinusoid, iterations: 1, meta_batch: 2, eval_tasks: 2, inner_steps: 1}\n"
        "grid: [{}]\nseeds: [0, 1]\n"
    )
    results = tmp_path / "runs"
    if not results.exists():
        assert main(["compare", str(tmp_path / "suite.yaml"), "--results", str(results), "--set", "seed=0"]) == 0
    (run,) = (path for path in results.iterdir() if path.name != "odd")
    summary = json.loads((run / "summary.json").read_text())
    (results / "odd").mkdir(exist_ok=True)
    (results / "odd" / "summary.json").write_text(json.dumps({**summary, **json.loads(content)}))
    return results, run, summary


@pytest.mark.slow
def test_an_odd_summary_in_the_folder_stops_no_grid(tmp_path, capsys):
    for content in ODD:
        results, run, summary = odd_folder(tmp_path, content)
        for text in (json.dumps(summary), json.dumps({**summary, **json.loads(content)}), content):
            (run / "summary.json").write_text(text)
            words = ["compare", str(tmp_path / "suite.yaml"), "--results", str(results), "--dry-run"]
            assert main(words) == 0
            capsys.readouterr()
            assert main([*words, "--json"]) == 0
            assert len(json.loads(capsys.readouterr().out)["runs"]) == 2
        (run / "summary.json").write_text(json.dumps(summary))


def test_a_hundred_empty_folders_are_not_a_hundred_warnings(tmp_path):
    write_run(tmp_path, name="good")
    for number in range(100):
        (tmp_path / f"empty{number:03}").mkdir()
    _, skipped = read_runs([tmp_path])
    assert len(skipped) == 21
    assert skipped[0] == f"{Path(tmp_path)}/empty000: empty folder"
    assert skipped[-1] == "80 more: empty folder"
