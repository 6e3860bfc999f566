"""Methods of other people: what is known of a rule that the project has not seen, and what is said where nothing is."""

from __future__ import annotations

import json
import math
import re
import weakref
from pathlib import Path

import pytest
import torch
from fabricated import write_run
from torch import nn

import harness
from algorithms.fomaml import FOMAML
from algorithms.maml import MAML
from harness import RunConfig
from harness.cli import main
from harness.cli.terminal.console import console
from harness.cli.terminal.run import run_table
from harness.engines.chunks import TaskChunks
from harness.engines.engine import Problem
from harness.engines.native import Native
from harness.errors import InputError, NotSupported
from harness.experiment.progress import Silent
from harness.problem.algorithm import Geometry, MetaGradient
from harness.problem.autograd_oracle import AutogradOracle
from harness.problem.oracle import Counts, Inner
from harness.problem.partition import Network
from harness.problem.tasks import TaskBatch
from harness.proof import verify
from harness.proof.problems import small_problems
from harness.report.charts import charts_of
from harness.report.findings.comparison import compare_runs
from harness.report.findings.costs import Target
from harness.report.reading.runs import read_runs
from harness.report.tables.build import tables_of
from harness.settings.registry import Plugin, algorithms, benchmarks, engines
from harness.timing import KINDS
from harness.timing.config import TimeConfig
from harness.timing.session import time_meta_gradients


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
    problem = Problem(algorithm("nonconvex"), network, Inner("mse", steps, 0.01), "autograd is what this is about")
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
        loss = "hubert"

    with pytest.raises(
        InputError, match=r"unknown loss 'hubert': did you mean 'huber'\? allowed: .*bce, cross_entropy"
    ):
        harness.run(RunConfig(iterations=1, eval_tasks=2), benchmark=Huber(), results=tmp_path)
    assert not list(tmp_path.iterdir())


class Proximal(MAML):
    """An inner loop of its own whose exact meta-gradient is known: with one step, plain gradient descent's."""

    name = "proximal"
    derivative = "exact"
    wrong = 1.0

    def adapt(self, oracle, inner_steps, inner_lr):
        start = w = oracle.initial()
        for _ in range(inner_steps):
            w = w - inner_lr * (oracle.inner_gradient(w) + 2.0 * (w - start))
        return w

    def meta_gradient(self, oracle, inner_steps, inner_lr):
        start = w = oracle.initial()
        iterates = [w]
        for _ in range(inner_steps):
            w = w - inner_lr * (oracle.inner_gradient(w) + 2.0 * (w - start))
            iterates.append(w)
        v, g_phi = oracle.outer_gradient(w)
        at_start = 0 * v
        for w in reversed(iterates[:-1]):
            hessian_v, mixed_v = oracle.second_order_products(w, v)
            at_start = at_start + self.wrong * 2.0 * inner_lr * v
            v, g_phi = v - inner_lr * (hessian_v + 2.0 * v), g_phi - inner_lr * mixed_v
        return MetaGradient((v + at_start).mean(0), oracle.phi_gradient(g_phi))


class Wrong(Proximal):
    """Forgets that the proximal term pulls towards w_0."""

    name = "wrong"
    wrong = 0.0


class Unclaimed(Wrong):
    """The same fault in a rule that claims nothing."""

    name = "unclaimed"
    derivative = None


class Classifier(Proximal):
    """Knows classes only, and has no way of saying so but its own error."""

    name = "classifier"

    def adapt(self, oracle, inner_steps, inner_lr):
        torch.nn.functional.one_hot(oracle.batch.support_y, 3)
        return super().adapt(oracle, inner_steps, inner_lr)

    def meta_gradient(self, oracle, inner_steps, inner_lr):
        self.adapt(oracle, 0, inner_lr)
        return super().meta_gradient(oracle, inner_steps, inner_lr)


@pytest.fixture
def installed(monkeypatch):
    """Registers an algorithm as if a package had brought it."""

    def install(algorithm):
        monkeypatch.setitem(algorithms().plugins, algorithm.name, Plugin(algorithm.name, "a stranger", algorithm))
        return algorithm.name

    return install


@pytest.fixture
def without_pictures(monkeypatch):
    """``verify`` on its two quick problems: central differences of a CNN take their time."""
    monkeypatch.setattr("harness.proof.table.small_problems", lambda seed: small_problems(seed)[1:])


def verified(name):
    report = verify(algorithms=[name], engines=["native"])
    return (
        report,
        {row["witness"] for row in report["rows"]},
        {row["witness"] for row in report["rows"] if not row["ok"]},
    )


def test_verify_holds_an_inner_loop_of_its_own_to_central_differences_through_it(installed, without_pictures):
    report, witnesses, wrong = verified(installed(Proximal))
    assert report["ok"]
    assert witnesses == {"own_forward", "plain_oracle", "through_adapt"}
    assert {row["tolerance"] for row in report["rows"] if row["witness"] == "through_adapt"} == {1e-6}
    report, _, wrong = verified(installed(Wrong))
    assert not report["ok"]
    assert wrong == {"through_adapt"}  # the rule agrees with itself


def told(report):
    """What was skipped for an algorithm's own reasons, not for want of data."""
    return [entry["reason"] for entry in report["skipped"] if entry["algorithm"] != "*"]


def test_a_rule_that_claims_nothing_passes_and_is_said_to_be_no_gradient(installed, capsys, without_pictures):
    report, witnesses, _ = verified(installed(Unclaimed))
    assert report["ok"]
    assert witnesses == {"own_forward", "plain_oracle"}
    reasons = told(report)
    assert len(reasons) == 3
    assert all("no gradient of L_meta" in reason for reason in reasons)
    reasons = told(verify(algorithms=["fomaml"], engines=["native"]))
    assert len(reasons) == 3
    assert all("no gradient of L_meta" in reason and "first_order" in reason for reason in reasons)
    assert main(["verify", "--algo", "unclaimed", "--engine", "native"]) == 0
    assert "unclaimed nonconvex mlp: no gradient of L_meta, off by" in capsys.readouterr().out


def test_a_rule_that_only_the_oracle_knows_is_no_peers_business():
    network = Network(Own().double(), "all")
    with pytest.raises(NotSupported, match="rule of its own"):
        engines().get("higher")(Problem(Proximal("nonconvex"), network, Inner("mse", 1, 0.1)))


def test_what_a_plugin_raises_is_one_line_and_others_go_on(installed, capsys, tmp_path):
    report, _, _ = verified(installed(Classifier))
    assert report["ok"]
    assert {row["problem"] for row in report["rows"]} == {"cnn", "reused"}
    said = [entry for entry in report["skipped"] if entry["problem"] == "mlp"]
    assert "algorithm 'classifier' failed (RuntimeError, test_strangers.py:" in said[0]["reason"]
    flags = ["--benchmark", "sinusoid", "--iterations", "1", "--eval-tasks", "2", "--results", str(tmp_path)]
    assert main(["run", "--algo", "classifier", *flags]) == 1
    error = capsys.readouterr().err
    assert "error: algorithm 'classifier' failed (RuntimeError" in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())
    flags = "--algo classifier,maml --benchmark sinusoid --ways 1 --inner-steps 1 --rounds 1 --memory false --json"
    assert main(["time", *flags.split()]) == 0
    failed, done = json.loads(capsys.readouterr().out)["rows"]
    assert failed["status"].startswith("not_supported: algorithm 'classifier' failed")
    assert done["status"] == "ok"


def test_a_rule_that_fails_on_one_fast_path_fails_verify(installed):
    class Failing(Reptile):
        def meta_gradient(self, oracle, inner_steps, inner_lr):
            if not isinstance(oracle, AutogradOracle):
                raise ValueError("layers")
            return super().meta_gradient(oracle, inner_steps, inner_lr)

    report, _, wrong = verified(installed(Failing))
    assert not report["ok"]
    assert wrong == {"plain_oracle"}


SMALL = {
    "benchmark": "sinusoid",
    "iterations": 4,
    "meta_batch": 2,
    "eval_tasks": 2,
    "inner_steps": 2,
    "stationarity_every": 2,
    "stationarity_tasks": 2,
    "dtype": "float64",
    "inner_lr": 0.01,
}


def stationarity(summary):
    path = Path(summary["run_dir"]) / "stationarity.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_definition_1_of_a_pseudo_gradient_is_taken_on_l_meta(tmp_path):
    reptile, maml = (
        stationarity(harness.run(RunConfig(**SMALL), algorithm=algorithm, results=tmp_path / algorithm.name))[0]
        for algorithm in (Reptile, MAML)
    )
    assert reptile["squared_norms"] == pytest.approx(maml["squared_norms"], rel=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_definition_1_of_an_inner_loop_of_its_own_is_taken_on_a_rule_that_was_checked(tmp_path, dtype, caplog):
    config = RunConfig(**{**SMALL, "dtype": dtype})
    right = harness.run(config, algorithm=Proximal, results=tmp_path)
    assert len(stationarity(right)) == 3
    assert right["unknown"] == {}
    wrong = harness.run(config, algorithm=Unclaimed, results=tmp_path)
    assert wrong["status"] == "completed"
    assert stationarity(wrong) == []
    assert "no gradient of L_D(adapt(w, phi), phi): off by" in wrong["unknown"]["definition_1"]
    assert caplog.text.count("definition_1 will not be known") == 1


class Bypass(MAML):
    """Takes the gradient of L_D at w by itself, as ProtoNet's plugins do with class means."""

    name = "bypass"

    def meta_gradient(self, oracle, inner_steps, inner_lr):
        w = oracle.initial()
        oracle.outcome = oracle.evaluate(w)
        return MetaGradient(torch.ones_like(w[0]), w.new_zeros(oracle.n_phi))


class Idle(Bypass):
    """Moves nothing: no evaluation is what it made."""

    name = "idle"

    def meta_gradient(self, oracle, inner_steps, inner_lr):
        gradient = super().meta_gradient(oracle, inner_steps, inner_lr)
        return MetaGradient(0 * gradient.w, gradient.phi)


def test_evaluations_that_went_past_the_oracle_are_unknown_and_not_0(tmp_path, caplog, capsys):
    config = RunConfig(**SMALL)
    summary = harness.run(config, algorithm=Bypass, results=tmp_path)
    assert set(summary["counts"].values()) == set(summary["counts_per_task"].values()) == {None}
    assert "'bypass' never asked the oracle for the gradient of L_D" in summary["unknown"]["counts"]
    assert caplog.text.count("evaluations are not counted") == 1
    console(to_stderr=False).print(run_table(summary))
    assert re.search(r"gradient entries\s+unknown", capsys.readouterr().out)
    idle = harness.run(config, algorithm=Idle, results=tmp_path)
    assert idle["counts"]["gradient_entries"] == 0
    assert "counts" not in idle["unknown"]


def test_counts_stay_unknown_over_an_interruption(tmp_path):
    config = RunConfig(**{**SMALL, "checkpoint_every": 1})

    class Stop(Silent):
        def trained(self, record):
            if record["iteration"] == 3:
                raise KeyboardInterrupt

    assert harness.run(config, algorithm=Bypass, results=tmp_path, progress=Stop())["status"] == "interrupted"
    summary = harness.run(config, algorithm=Bypass, results=tmp_path, resume=True)
    assert summary["status"] == "completed"
    assert summary["counts"]["gradient_entries"] is None
    assert "counts" in summary["unknown"]


def test_an_engine_that_counts_nothing_is_not_0_either():
    class Uncounted(Native):
        name = "uncounted"

        def meta_gradient(self, w, phi, batch, counts=None, clock=None):
            return super().meta_gradient(w, phi, batch)

    network, counts = Network(Own().double(), "all"), Counts()
    engine = Uncounted(Problem(MAML("nonconvex"), network, Inner("mse", 1, 0.1)))
    TaskChunks(None, 2).meta_gradient(engine, *network.initial(), regression(), counts)
    assert counts.as_dict()["gradient_entries"] is None
    assert "'uncounted'" in counts.unknown


def test_a_report_knows_no_cost_of_what_was_not_counted(tmp_path):
    for algorithm in (Bypass, MAML):
        harness.run(RunConfig(**{**SMALL, "outer_lr_w": 0.1}), algorithm=algorithm, results=tmp_path)
    runs, _ = read_runs([tmp_path])
    target = Target("loss", 1e9)
    comparison = compare_runs(runs, [target])
    bypass, maml = sorted(comparison.results, key=lambda result: result.group.algorithm)
    cost = bypass.costs[target].median
    assert cost.iterations == 0
    assert math.isnan(cost.gradient_entries)
    assert maml.costs[target].median.gradient_entries == 0  # before training, truly
    assert len(bypass.group.runs[0].metrics["loss"]) == SMALL["iterations"]
    (warning,) = [line for line in comparison.warnings if "how many evaluations" in line]
    assert warning.startswith("bypass (N = 2)")
    table = next(table for table in tables_of(comparison) if table.name == "table2")
    column = table.columns.index("gradient entries per task")
    assert {row[table.columns.index("method")]: row[column] is None for row in table.rows} == {
        "bypass": True,
        "MAML": False,
    }


def test_time_leaves_out_what_a_rule_never_evaluates(installed):
    config = TimeConfig(
        algo=f"{installed(Reptile)},maml", inner_steps="1", device="cpu", rounds=1, memory=False, benchmark="sinusoid",
        ways=1, meta_batch=1,
    )  # fmt: skip
    reptile, maml = time_meta_gradients(config)["rows"]
    assert [kind for kind in KINDS if reptile[kind]] == ["inner_gradient"]
    assert [kind for kind in KINDS if maml[kind]] == ["inner_gradient", "outer_gradient", "hessian_vector_product"]


@pytest.fixture
def two_geometries(tmp_path):
    """A stranger's algorithm, not installed here, with two geometries; the deep one needs more iterations."""
    for geometry, adapt, rate in (("flat", "last:1", 0.1), ("deep", "last:2", 0.05)):
        for steps in (1, 3):
            for seed in range(2):
                write_run(
                    tmp_path, algo="stranger", geometry=geometry, adapt=adapt, inner_steps=steps, seed=seed, rate=rate
                )
    return compare_runs(read_runs([tmp_path])[0], [Target("epsilon", 0.1)])


def test_two_geometries_of_a_strangers_algorithm_are_two_methods(two_geometries):
    assert {group.method for group in two_geometries.groups} == {"stranger flat", "stranger deep"}
    table2 = next(table for table in tables_of(two_geometries) if table.name == "table2")
    column = table2.columns.index("method")
    assert [row[column] for row in table2.rows] == ["stranger deep"] * 2 + ["stranger flat"] * 2
    against_n = [
        panel for chart in charts_of(two_geometries) for panel in chart.panels if panel.x_label == "inner steps N"
    ]
    assert against_n
    for panel in against_n:
        assert {line.name: len(line.x) for line in panel.lines} == {"stranger deep": 2, "stranger flat": 2}
    fastest = next(sentence for sentence in two_geometries.findings if sentence.startswith("Time to"))
    assert "stranger flat (N = " in fastest
    assert "stranger deep (N = " in fastest


def test_one_geometry_is_named_where_its_class_says_that_there_are_others(tmp_path, installed):
    class Several(MAML):
        name = "several"
        geometries = {"flat": Geometry("last:1", "the last"), "deep": Geometry("all", "all")}

    for algorithm in ("maml", "fomaml", installed(Several)):
        write_run(tmp_path, algo=algorithm, geometry="flat" if algorithm == "several" else "nonconvex")
    write_run(tmp_path, algo="boil", geometry="nonconvex")
    write_run(tmp_path, algo="anil", geometry="convex")
    methods = [group.method for group in compare_runs(read_runs([tmp_path])[0]).groups]
    assert methods == ["maml", "fomaml", "anil convex", "boil", "several flat"]
