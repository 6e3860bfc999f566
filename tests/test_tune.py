"""Studies: trials are runs, the same again from the same seed, none lost and none twice whatever dies on the way."""

from __future__ import annotations

import datetime
import io
import itertools
import json
import math
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from harness.cli import main
from harness.errors import InputError
from harness.experiment import summary
from harness.experiment.run import run
from harness.grid.serve import Events
from harness.report.reading.runs import read_runs
from harness.settings.config import RunConfig
from harness.settings.layers import gather, gather_as
from harness.settings.resolve import resolve
from harness.settings.suites import plan as plan_suite
from harness.store.directory import read_json
from harness.tune.config import TuneConfig
from harness.tune.owners import Owner, Owners
from harness.tune.plan import StudyPlan, plan
from harness.tune.result import result_of, write_suite
from harness.tune.slots import claim, filled, finished, recover, spent
from harness.tune.space import overrides
from harness.tune.storage import open_storage
from harness.tune.study import ATTRIBUTE, check, enter, load
from harness.tune.worker import main as do_trial

TINY = {
    "algo": "anil",
    "geometry": "convex",
    "benchmark": "sinusoid",
    "iterations": 4,
    "meta_batch": 2,
    "eval_tasks": 4,
    "threads": 1,
}
SMALL = ["inner_steps=1..5", "meta_batch=2", "inner_lr=0.001..0.02"]


def study_plan(asked=SMALL, **settings) -> StudyPlan:
    config, origins = gather_as(TuneConfig, None, {**TINY, **settings})
    [made] = plan(config, origins, overrides(None, asked))
    return made


def done(folder: Path, made: StudyPlan, trials: int, budget: float | None = None) -> optuna.Study:
    """The study after one worker has done ``trials`` trials of it, in this process."""
    storage = open_storage(str(folder / "journal.log"))
    enter(storage, made)
    request = {
        "storage": str(folder / "journal.log"),
        "study": made.name,
        "owners": str(folder / "workers"),
        "results": str(folder / made.name / "runs"),
        "trials": trials,
        "budget": budget,
        "device": None,
    }
    while True:
        study = load(open_storage(str(folder / "journal.log")), made.name)[0]
        if len(filled(study)) >= trials or (budget is not None and spent(study) >= budget):
            return study
        do_trial(request, Events(io.StringIO()))


def end(owner: Owner) -> None:
    """What the system does when a process ends."""
    lease = owner._lease
    lease._ended.set()
    lease._thread.join()
    os.close(lease._file)


def told(study: optuna.Study) -> list[tuple]:
    return [(trial.params, trial.values, trial.intermediate_values) for trial in study.trials]


def test_the_space_is_what_the_algorithm_declares_for_its_geometry():
    convex, nonconvex, maml = (
        study_plan([], algo=algo, geometry=geometry).space
        for algo, geometry in (("anil", "convex"), ("anil", "nonconvex"), ("maml", "nonconvex"))
    )
    assert set(convex) - set(nonconvex) == {"algo_options.l2"}
    assert set(nonconvex) - set(maml) == {"outer_lr_phi"}  # phi is empty


def test_a_space_is_narrowed_widened_and_fixed_from_file_and_flags(tmp_path):
    (tmp_path / "space.yaml").write_text(
        "inner_lr: 0.01..0.02\ninner_steps: 3\nouter_lr_w: {low: 1, high: 2}\nalgo_options: {l2: 0..1 linear}\n"
    )
    config, origins = gather_as(TuneConfig, None, TINY)
    asked = overrides(tmp_path / "space.yaml", ["inner_lr=0.03..0.04", "meta_batch=2,4", "outer_optimizer=adam,sgd"])
    [made] = plan(config, origins, asked)
    shown = {name: str(part) for name, part in made.space.items()}
    assert shown == {
        "inner_lr": "0.03..0.04 log",
        "meta_batch": "2,4",
        "outer_lr_w": "1..2 log",
        "outer_lr_phi": "0.0001..0.1 log",
        "algo_options.l2": "0..1",
        "outer_optimizer": "adam,sgd",
    }
    assert made.base["inner_steps"] == 3


def test_every_trial_trains_on_as_many_tasks_and_is_measured_as_often():
    made = study_plan(["meta_batch=2,4,8"], iterations=32, meta_batch=4)
    for batch in (2, 4, 8):
        config = made.config({"meta_batch": batch})
        assert config.iterations * batch == 128
        assert [made.rung(config, config.eval_every * (n + 1)) for n in range(4)] == [1, 2, 3, 4]


def test_the_command_for_every_method_gives_each_its_space_and_all_the_same_budget():
    """The command in docs/tuning.md, beside the suite of all methods."""
    text = (Path(__file__).parents[1] / "docs" / "tuning.md").read_text()
    [block] = [block for block in text.split("```") if "imaml" in block]
    command = shlex.split(block.partition("\nharness compare")[0])
    asked = [value for flag, value in itertools.pairwise(command) if flag == "--set-space"]
    settings = {"benchmark": "glyphs", "model_options": {"filters": 16}, "threads": 1}
    for flag in ("--algo", "--meta-batch", "--iterations", "--trials", "--sampler", "--pruner", "--objective"):
        value = command[command.index(flag) + 1]
        settings[flag[2:].replace("-", "_")] = int(value) if value.isdigit() else value
    plans = plan(TuneConfig(**settings), {}, overrides(None, asked))
    suite = {(run.config.algo, run.config.geometry): run.config for run in plan_suite("systems", seeds=(0,)).runs}
    assert {(made.base["algo"], made.base["geometry"]) for made in plans} == suite.keys()
    assert len({(made.tasks, made.rungs, str(made.objective), made.sampler, made.pruner) for made in plans}) == 1
    for made in plans:
        alike = suite[made.base["algo"], made.base["geometry"]]
        assert made.default, made.name  # so the first trial is the default
        assert not made.space.keys() & {"meta_batch", "inner_steps"}
        first = made.config(made.default)
        for name in ("algo_options", "model_options", "inner_steps", "inner_lr", "outer_lr_w", "outer_lr_phi"):
            assert getattr(first, name) == getattr(alike, name), (made.name, name)
        assert first.iterations * first.meta_batch == alike.iterations * alike.meta_batch


def test_trials_are_runs_the_first_is_the_default_and_best_yaml_is_a_configuration(tmp_path):
    made = study_plan()
    study = done(tmp_path, made, 5)
    assert [trial.state.is_finished() for trial in study.trials] == [True] * 5
    assert study.trials[0].params == made.default
    for trial in study.trials:
        assert read_json(Path(trial.user_attrs["run_dir"]) / "summary.json")["status"] in ("completed", "stopped")
    result = result_of(study, made, tmp_path / made.name, 5, 0, [], lambda event: None)
    assert result["best"]["values"][0] == min(trial.value for trial in study.trials if trial.state == 1)
    assert result["best"]["values"] <= result["default"]["values"]
    config, _ = gather(tmp_path / made.name / "best.yaml")
    best = study.trials[result["best"]["number"]]
    resolved = resolve(config).config
    assert resolved.inner_lr == best.params["inner_lr"]
    assert resolved.algo_options["l2"] == best.params["algo_options.l2"]
    assert (resolved.eval_tasks, resolved.eval_every) == (600, 0)
    assert "Plotly" in (tmp_path / made.name / "plots.html").read_text()
    runs = plan_suite(str(write_suite(tmp_path, [result]))).runs
    assert {run.config.inner_lr for run in runs} == {0.01, best.params["inner_lr"]}
    assert len({run.config.seed for run in runs} & {0}) == 0


_SLOW = [pytest.param(sampler, marks=pytest.mark.slow) for sampler in ("random", "qmc", "nsga2", "cmaes")]


@pytest.mark.parametrize("sampler", ["tpe", *_SLOW])
def test_the_same_seed_gives_the_same_trials_however_often_it_is_started(sampler, tmp_path):
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    made = study_plan(["inner_steps=1", "meta_batch=2"], sampler=sampler, iterations=2, eval_tasks=2)
    whole = done(tmp_path / "whole", made, 13)
    for trials in (2, 11, 13):
        parts = done(tmp_path / "parts", made, trials)
    assert told(parts) == told(whole)
    assert len({json.dumps(trial.params) for trial in whole.trials}) == 13
    other = done(
        tmp_path / "other", study_plan(["inner_steps=1", "meta_batch=2"], sampler=sampler, seed=1, iterations=2), 3
    )
    assert [trial.params for trial in other.trials[1:]] != [trial.params for trial in whole.trials[1:3]]


def test_a_trial_leaves_test_tasks_alone_and_says_that_it_is_one(tmp_path):
    for trial in done(tmp_path, study_plan(), 2).trials:
        folder = Path(trial.user_attrs["run_dir"])
        summary = read_json(folder / "summary.json")
        assert (summary["status"], summary["trial"]) == ("completed", True)
        assert (summary["accuracy"]["tasks"], summary["loss"]["mean"]) == (0, None)
        splits = {json.loads(line)["split"] for line in (folder / "evaluations.jsonl").read_text().splitlines()}
        assert splits == {"validation"}


def test_a_diverged_trial_is_told_with_its_parameters_and_the_study_goes_on(tmp_path):
    made = study_plan(["inner_lr=1e15..1e20", "inner_steps=5"])
    study = done(tmp_path, made, 3)
    assert [trial.user_attrs["outcome"] for trial in study.trials] == ["diverged"] * 3
    assert all(trial.params["inner_lr"] >= 1e15 and trial.state == TrialState.PRUNED for trial in study.trials)
    result = result_of(study, made, tmp_path / made.name, 3, 0, [], lambda event: None)
    assert (result["best"], result["outcomes"]) == (None, {"diverged": 3})


@pytest.mark.parametrize(
    ("fault", "outcome", "state"),
    [
        ("RuntimeError('DefaultCPUAllocator: can\\'t allocate memory')", "out_of_memory", TrialState.PRUNED),
        ("ZeroDivisionError('oh')", "refused", TrialState.FAIL),
        ("ZeroDivisionError('oh')", "crashed", TrialState.FAIL),
    ],
)
def test_a_trial_that_fails_takes_its_place_and_stops_nothing(fault, outcome, state, tmp_path, monkeypatch):
    (tmp_path / f"faulty_{outcome}.py").write_text(
        "from harness.problem.nets import mlp\n"
        "def model(input_shape, outputs, wide=1):\n"
        f"    if wide > 1:\n        raise {fault}\n"
        "    return mlp(input_shape, outputs)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    if outcome == "crashed":  # a fault of the project's own, and not of the model
        whole = summary.summarise

        def summarise(status, path, setup, *more):
            if setup.config.model_options["wide"] > 1:
                raise ZeroDivisionError("oh")
            return whole(status, path, setup, *more)

        (tmp_path / "faulty_crashed.py").write_text((tmp_path / "faulty_crashed.py").read_text().replace("> 1", "> 2"))
        monkeypatch.setattr("harness.experiment.run.summarise", summarise)
    made = study_plan([*SMALL, "model_options.wide=1,2"], model=f"faulty_{outcome}:model")
    study = done(tmp_path, made, 8)
    trials = finished(study, 8)
    assert len(trials) == len(study.trials) == 8
    failed = [trial for trial in trials if trial.params["model_options.wide"] == 2]
    assert 0 < len(failed) < 8
    if outcome == "crashed":
        assert {trial.user_attrs["message"] for trial in failed} == {"ZeroDivisionError: oh"}
    if outcome == "refused":
        (message,) = {trial.user_attrs["message"] for trial in failed}
        assert message.endswith("failed (ZeroDivisionError, faulty_refused.py:4): oh")
    assert {(trial.user_attrs["outcome"], trial.state) for trial in failed} == {(outcome, state)}


def test_a_trial_of_a_dead_process_is_failed_and_done_again_with_its_parameters(tmp_path):
    made = study_plan()
    done(tmp_path, made, 2)
    storage = open_storage(str(tmp_path / "journal.log"))
    study, _ = load(storage, made.name)
    owners = tmp_path / "workers"
    alive, died = Owner(owners), Owner(owners)
    for owner in (alive, died):
        trial_id = claim(study, storage, made, owner.name, 4)
        optuna.Trial(study, trial_id).suggest_float("outer_lr_w", 1e-4, 1e-1, log=True)
    end(died)
    known = Owners(owners)
    assert (known.dead(alive.name, ""), known.dead(died.name, "")) == (False, True)
    assert recover(study, storage, known) == [3]
    study = done(tmp_path, made, 4)
    assert [trial.state for trial in study.trials][2:4] == [TrialState.RUNNING, TrialState.FAIL]
    again = study.trials[4]
    assert again.user_attrs["retry_of"] == 3
    assert again.params["outer_lr_w"] == study.trials[3].params["outer_lr_w"]
    assert set(filled(study)) == {0, 1, 2, 3}
    assert len(finished(study, 4)) == 3
    alive.leave()


def test_of_two_trials_that_take_one_place_the_earlier_has_it(tmp_path, monkeypatch):
    made = study_plan()
    storage = open_storage(str(tmp_path / "journal.log"))
    study = enter(storage, made)
    seen = filled(study)
    first = claim(study, storage, made, "a", 2)
    calls = [seen]  # the second process had looked before the first one wrote
    monkeypatch.setattr("harness.tune.slots.filled", lambda study: calls.pop() if calls else filled(study))
    second = claim(study, storage, made, "b", 2)
    assert [storage.get_trial(number).user_attrs["slot"] for number in (first, second)] == [0, 1]
    assert [trial.user_attrs.get("outcome") for trial in study.trials] == [None, "duplicate", None]
    assert claim(study, storage, made, "c", 2) is None


def test_a_trial_that_takes_its_processes_with_it_is_given_up_in_the_end(tmp_path):
    made = study_plan()
    storage = open_storage(str(tmp_path / "journal.log"))
    study = enter(storage, made)
    for _ in range(3):
        assert filled(study) == {}
        owner = Owner(tmp_path)
        claim(study, storage, made, owner.name, 1)
        end(owner)
        recover(study, storage, Owners(tmp_path), lambda owner: "killed by signal 9")
    [trial] = finished(study, 1)
    assert trial.user_attrs["message"] == "killed by signal 9"
    assert trial.params == made.default


@pytest.mark.parametrize("glued", [False, True])
def test_a_torn_journal_is_repaired_and_nothing_whole_is_lost(glued, tmp_path, caplog):
    made = study_plan()
    before = told(done(tmp_path, made, 2))
    journal = tmp_path / "journal.log"
    whole = journal.read_bytes()
    record = whole.splitlines(keepends=True)[-1]
    torn = whole[: -len(record)] + b'{"op_code":6,"wor' + (record if glued else b"")
    journal.write_bytes(torn if glued else whole + b'{"op_code":6,"wor')
    assert told(done(tmp_path, made, 2)) == before
    assert journal.read_bytes() == whole
    assert b'{"op_code":6,"wor' in (tmp_path / "journal.log.torn").read_bytes()


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_a_bad_trial_is_pruned_its_run_says_so_and_can_be_gone_on_with(pruner, tmp_path):
    made = study_plan(["inner_steps=1", "inner_lr=0.001..10"], iterations=8, eval_tasks=20, pruner=pruner)
    study = done(tmp_path, made, 12)
    pruned = [trial for trial in study.trials if trial.user_attrs["outcome"] == "pruned"]
    assert pruned
    for trial in pruned:
        summary = read_json(Path(trial.user_attrs["run_dir"]) / "summary.json")
        assert (summary["status"], summary["stopped"]) == ("stopped", "pruned")
        assert summary["iterations_done"] < summary["iterations"]
        assert trial.state == TrialState.PRUNED
    folder = Path(pruned[0].user_attrs["run_dir"])
    with pytest.raises(InputError, match=r"stopped \('pruned'\) after"):
        read_runs([folder])
    summary = run(RunConfig(**yaml.safe_load((folder / "config.yaml").read_text())), results=folder.parent, resume=True)
    assert (summary["status"], summary["stopped"]) == ("completed", None)
    assert len(read_runs([folder])[0]) == 1


def test_seconds_to_a_target_are_those_of_the_first_validation_that_meets_it(tmp_path):
    made = study_plan(objective="seconds@loss=1000", iterations=8)
    study = done(tmp_path, made, 2)
    for trial in study.trials:
        folder = Path(trial.user_attrs["run_dir"])
        assert read_json(folder / "summary.json")["stopped"] == "target reached"
        first = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
        assert trial.value == first["seconds"]
    missed = done(tmp_path / "missed", study_plan(objective="seconds@loss=1e-9"), 1)
    assert missed.trials[0].user_attrs["outcome"] == "missed"
    assert missed.trials[0].state == TrialState.PRUNED


def test_entries_to_epsilon_are_counted_up_to_the_measurement_that_meets_it(tmp_path):
    objective = "second_order_entries@epsilon=1e9"
    made = study_plan(["inner_steps=1..3", "meta_batch=2", "inner_lr=0.001"], objective=objective)
    study = done(tmp_path, made, 1)
    assert study.trials[0].value == 0  # met before training
    tight = done(tmp_path / "tight", study_plan(objective="gradient_entries@epsilon=1e-30"), 1)
    assert tight.trials[0].user_attrs["outcome"] == "missed"


def test_two_objectives_give_a_front_on_which_no_trial_beats_another(tmp_path):
    made = study_plan(objective="loss,memory")
    assert made.pruner == "none"
    study = done(tmp_path, made, 6)
    result = result_of(study, made, tmp_path / made.name, 6, 0, [], lambda event: None)
    front = [trial["values"] for trial in result["front"]]
    assert sorted(front) == sorted(trial.values for trial in study.best_trials if trial.values)
    assert all((tmp_path / made.name / f"front-{trial['number']}.yaml").exists() for trial in result["front"])


def test_time_in_which_nothing_ran_is_not_spent(tmp_path):
    made = study_plan()
    began = time.monotonic()
    study = done(tmp_path, made, 1)
    assert 0 < spent(study) <= time.monotonic() - began
    storage = open_storage(str(tmp_path / "journal.log"))
    owner = Owner(tmp_path / "workers")
    trial_id = claim(study, storage, made, owner.name, 2)
    storage.set_trial_user_attr(trial_id, "seconds", 7.0)  # what it said before it was killed
    end(owner)
    before = spent(study)
    time.sleep(1.0)  # the machine is off, say
    assert recover(study, storage, Owners(tmp_path / "workers")) == [1]
    assert spent(study) == before > 7


def test_a_clock_that_is_set_spends_nothing(tmp_path, monkeypatch):
    class Later(datetime.datetime):
        hours = 0

        @classmethod
        def now(cls, tz=None):
            cls.hours += 1
            return super().now(tz) + datetime.timedelta(hours=cls.hours)

    Later.datetime = Later  # some versions import the class, some its module
    monkeypatch.setattr("optuna.storages.journal._storage.datetime", Later)
    study = done(tmp_path, study_plan(), 2)
    assert study.trials[0].duration.total_seconds() > 3000
    assert 0 < spent(study) < 1000


def test_no_trial_begins_when_the_budget_is_spent(tmp_path):
    study = done(tmp_path, study_plan(), 50, budget=1e-3)
    assert len(study.trials) == 1


BAD = {
    "unknown parameter": (["--set-space", "innr_lr=1..2"], ["--set-space innr_lr", "did you mean 'inner_lr'?"]),
    "unknown option": (["--set-space", "algo_options.l3=1..2"], ["--set-space algo_options.l3", "'l3'", "allowed: l2"]),
    "swapped": (["--set-space", "inner_lr=0.5..0.1"], ["0.5..0.1", "ends swapped"]),
    "not allowed": (["--set-space", "outer_optimizer=adam,sdg"], ["'sdg' is not allowed", "adam, sgd"]),
    "part of the problem": (["--set-space", "ways=2,3"], ["'ways' is part of the problem"]),
    "nothing left": (["--space", "{tmp}/fixed.yaml"], ["every parameter is fixed"]),
    "swapped in a file": (["--space", "{tmp}/swapped.yaml"], ["swapped.yaml:1: inner_lr", "ends swapped"]),
    "no database": (["--storage", "postgresql+psycopg://u:secret@127.0.0.1:1/x"], ["--storage postgresql", "u:***@"]),
    "no folder": (["--storage", "sqlite:////nowhere/at/all.db"], ["unable to open"]),
    "no journal": (["--storage", "{tmp}/swapped.yaml"], ["not a journal"]),
    "objective": (["--objective", "los"], ["--objective", "'los' is not allowed"]),
    "accuracy of regression": (["--objective", "accuracy"], ["sinusoid is regression"]),
    "front and pruner": (["--objective", "loss,seconds", "--pruner", "median"], ["--pruner", "two objectives"]),
    "algorithm": (["--algo", "maml,anli"], ["did you mean 'anil'?"]),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_tuned_is_refused_in_one_line_and_nothing_is_written(case, tmp_path, capsys):
    if case == "no database":
        pytest.importorskip("psycopg")
    (tmp_path / "swapped.yaml").write_text("inner_lr: 0.5..0.1\n")
    names = ("inner_lr", "inner_steps", "meta_batch", "outer_lr_w", "outer_lr_phi")
    (tmp_path / "fixed.yaml").write_text("".join(f"{name}: 1\n" for name in names) + "algo_options: {l2: 0}\n")
    before = sorted(tmp_path.rglob("*"))
    arguments, words = BAD[case]
    given = [argument.format(tmp=tmp_path) for argument in arguments]
    assert main(["tune", "--benchmark", "sinusoid", "--out", str(tmp_path / "out"), *given]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert all(word in shown for word in words), shown
    assert "secret" not in shown
    assert sorted(tmp_path.rglob("*")) == before


def test_a_study_that_exists_with_another_objective_is_refused_and_left_alone(tmp_path, capsys):
    made = study_plan()
    done(tmp_path, made, 1)
    before = (tmp_path / "journal.log").read_bytes()
    flags = [part for name, value in TINY.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    space = [part for override in SMALL for part in ("--set-space", override)]
    for more, words in (
        (["--objective", "loss,seconds"], "another objective: loss, here loss,seconds"),
        (["--sampler", "random"], "another sampler"),
        (["--set", "outer_lr_phi=0.5"], "another base: outer_lr_phi"),
    ):
        assert main(["tune", *flags, *space, "--trials", "1", "--out", str(tmp_path), *more]) == 2
        assert words in capsys.readouterr().err
    assert (tmp_path / "journal.log").read_bytes() == before


def test_a_study_from_before_a_setting_was_there_goes_on(tmp_path):
    made = study_plan()
    storage = open_storage(str(tmp_path / "journal.log"))
    older = made.document()
    del older["base"]["label"]
    optuna.create_study(study_name=made.name, storage=storage).set_user_attr(ATTRIBUTE, older)
    check(storage, made)


def test_several_algorithms_get_a_study_each_with_one_budget_and_seed():
    config, origins = gather_as(TuneConfig, None, {**TINY, "algo": "maml,fomaml,anil", "seed": 3})
    made = plan(config, origins, overrides(None, ["inner_lr=0.001..0.02", "algo_options.l2=0.1"]))
    assert [study.base["geometry"] for study in made] == ["nonconvex", "nonconvex", "convex"]
    assert len({(study.tasks, study.rungs, study.base["seed"], str(study.space["inner_lr"])) for study in made}) == 1
    assert [study.base["algo_options"] for study in made] == [{}, {}, {"l2": 0.1}]
    assert all(math.isclose(study.config({}).inner_lr, RunConfig(**study.base).inner_lr) for study in made)


def test_help_needs_neither_torch_nor_optuna():
    code = "import sys; from harness.cli import main; main(['tune', '--help']); print(sorted(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "--objective" in shown
    assert "'harness.cli.many'" in shown
    assert not {"'torch'", "'optuna'"} & set(shown.replace("[", "").replace("]", "").split(", "))


def test_seeds_are_a_study_each_with_settings_of_their_own_name(tmp_path, monkeypatch, capsys):
    """Of one algorithm there are several tuned settings then, which the suite tells apart."""
    asked = []

    def work(self):
        asked.append(self._request["study"])

    def found(study, made, folder, *rest):
        (folder).mkdir(parents=True)
        for name in ("default", "best"):
            (folder / f"{name}.yaml").write_text("benchmark: sinusoid\n" + f"inner_lr: 0.0{1 + made.base['seed']}\n")
        best = {"number": 0, "params": {}, "values": [1.0]}
        return {"study": made.name, "algo": "anil", "geometry": "convex", "seed": made.base["seed"], "best": best} | {
            "outcomes": {}, "trials": 1, "seconds": 1, "default": None, "test": None, "objective": "loss",
            "importances": {}, "best_yaml": "", "plots": "",
        }  # fmt: skip

    monkeypatch.setattr("harness.tune.tuning.TrialPool.work", work)
    monkeypatch.setattr("harness.tune.tuning.result_of", found)
    flags = ["--benchmark", "sinusoid", "--trials", "1", "--seeds", "0,3", "--out", str(tmp_path)]
    assert main(["tune", "--algo", "anil:convex", *flags]) == 0
    assert main(["tune", "--algo", "anil:convex", *flags, "--study", "mine"]) == 0
    assert asked == ["anil-convex_sinusoid_1w10s_s0", "anil-convex_sinusoid_1w10s_s3", "mine-s0", "mine-s3"]
    labels = [run.config.label for run in plan_suite(str(tmp_path / "tuned.yaml"), seeds=[7]).runs]
    assert labels == ["default", "tuned s0", "default", "tuned s3"]
    assert main(["tune", *flags, "--seed", "1"]) == 2
    assert "--seeds with --seed" in capsys.readouterr().err


def test_a_default_that_is_the_best_is_one_setting_of_the_suite(tmp_path):
    for name in ("default", "best"):
        (tmp_path / f"{name}.yaml").write_text("benchmark: sinusoid\n")
    same = {"study": ".", "algo": "anil", "geometry": "convex", "seed": 0, "best": {"number": 0}}
    for default, labels in (({"number": 0}, ["default, tuned"]), ({"number": 1}, ["default", "tuned"]), (None, None)):
        suite = write_suite(tmp_path, [{**same, "default": default}])
        found = [run.config.label for run in plan_suite(str(suite), seeds=[0]).runs]
        assert found == (labels or ["default", "tuned"])
