"""The command line: one JSON document, exit statuses, one line for every mistake, no torch before it is needed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.cli import main

SMALL = [
    "run",
    "--benchmark",
    "sinusoid",
    "--iterations",
    "2",
    "--meta-batch",
    "2",
    "--eval-tasks",
    "4",
    "--inner-lr",
    "0.01",
    "--threads",
    "1",
]


def test_run_prints_one_json_document(tmp_path, capsys):
    assert main([*SMALL, "--results", str(tmp_path), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["status"] == "completed"
    assert json.loads((Path(summary["run_dir"]) / "summary.json").read_text()) == summary


def test_run_ends_with_a_table(tmp_path, capsys):
    assert main([*SMALL, "--results", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    for part in (
        "held-out tasks",
        "before adaptation",
        "n_w, n_phi",
        "gradient entries",
        "second order",
        "peak memory",
    ):
        assert part in table


@pytest.mark.parametrize("command", [["list"], ["data", "status"]])
def test_other_commands_print_json(command, capsys):
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


ROW = {
    "algorithm": "maml",
    "geometry": "nonconvex",
    "engine": "native",
    "strategy": "recursion",
    "problem": "cnn",
    "witness": "autograd",
    "relative_error": 0.5,
    "tolerance": 1e-9,
    "ok": False,
    "dtype": "float64",
    "peer": None,
}


@pytest.mark.slow
def test_verify_prints_json(capsys):
    assert main(["verify", "--algo", "fomaml", "--engine", "native", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert set(ROW) == set(report["rows"][0])


def test_verify_takes_commas_as_time_and_tune_do(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("harness.proof.verify", lambda *names, **_: asked.append(names) or {"ok": True, "rows": []})
    assert main(["verify", "--algo", "maml, anil", "--algo", "fomaml", "--engine", "native,higher"]) == 0
    assert main(["verify"]) == 0
    assert asked == [(["maml", "anil", "fomaml"], ["native", "higher"]), (None, None)]


def test_the_largest_step_size_runs(tmp_path, capsys):
    assert main([*SMALL, "--outer-lr-w", "1e37", "--outer-lr-phi", "1e37", "--results", str(tmp_path)]) == 0
    assert "diverged" in capsys.readouterr().out


def test_without_threads_it_is_one_line(tmp_path, monkeypatch, capsys):
    """As where a user may have three processes."""

    def none_left(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", none_left)
    monkeypatch.setattr("harness.experiment.run.run", lambda *_, **__: threading.Thread().start())
    assert main([*SMALL, "--results", str(tmp_path)]) == 1
    error = "error: can't start new thread: the system allows this user no more threads or processes\n"
    assert capsys.readouterr().err == error


def test_a_user_without_a_home_is_told_what_to_name(tmp_path, monkeypatch, capsys):
    def nowhere(name):
        raise RuntimeError("no home")

    monkeypatch.delenv("HARNESS_DATA", raising=False)
    for found in (nowhere, lambda name: Path("~/.cache") / name):
        monkeypatch.setattr("platformdirs.user_cache_path", found)
        assert main(["data", "status"]) == 2
        assert "no home directory; allowed: a folder in $HARNESS_DATA" in capsys.readouterr().err
    assert main(["list"]) == 0
    assert main([*SMALL, "--results", str(tmp_path)]) == 0  # nothing is read


def test_verify_fails_where_a_gradient_is_wrong(monkeypatch, capsys):
    monkeypatch.setattr("harness.proof.verify", lambda *args, **kwargs: {"ok": False, "rows": [ROW]})
    assert main(["verify", "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["rows"] == [ROW]
    assert "5.00e-01" in captured.err


def test_config_file_flags_and_assignments(tmp_path, capsys):
    file = tmp_path / "run.yaml"
    file.write_text("benchmark: sinusoid\niterations: 9\nmeta_batch: 2\neval_tasks: 4\ninner_lr: 1e-2\nseed: 3\n")
    given = ["--iterations", "2", "--set", "algo_options.l2=0.25", "--set", "seed=4"]
    assert main(["run", "--config", str(file), *given, "--results", str(tmp_path / "runs"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["iterations"], summary["seed"], summary["inner_lr"]) == (2, 4, 0.01)
    assert "l2: 0.25" in (Path(summary["run_dir"]) / "config.yaml").read_text()


BAD = {
    "unknown algorithm": (["--algo", "anl"], ["--algo", "did you mean 'anil'"]),
    "missing geometry": (["--algo", "maml", "--geometry", "convex"], ["--geometry", "allowed: nonconvex"]),
    "too many ways": (["--benchmark", "glyphs", "--ways", "5000"], ["--ways", "5000", "allowed"]),
    "too many examples": (["--benchmark", "glyphs", "--shots", "5000"], ["5000", "allowed"]),
    "missing data": (["--benchmark", "fc100"], ["fc100", "harness data prepare fc100"]),
    "no YAML file": (["--config", "none.yaml"], ["none.yaml", "No such file"]),
    "bad YAML": (["--config", "bad.yaml"], ["bad.yaml:", "not readable as YAML"]),
    "unknown key": (["--set", "inner_stepz=1"], ["--set inner_stepz", "did you mean 'inner_steps'"]),
    "unknown flag": (["--inner-stepz", "1"], ["--inner-stepz", "--inner-steps"]),
    "negative step size": (["--inner-lr", "-0.1"], ["--inner-lr", "allowed: number > 0"]),
    "no number": (["--ways", "many"], ["--ways", "allowed: integer >= 1"]),
    "no such device": (["--device", "cuda:99"], ["--device", "cuda:99", "allowed: auto, cpu"]),
    "no device 128": (["--device", "cuda:128"], ["--device", "cuda:128", "allowed: auto, cpu"]),
    "no device 384": (["--device", "cuda:384"], ["--device", "cuda:384", "allowed: auto, cpu"]),
    "no device 999": (["--device", "cuda:999"], ["--device", "cuda:999", "allowed: auto, cpu"]),
    "a step beyond float32": (["--outer-lr-w", "1e38"], ["--outer-lr-w", "allowed: number > 0 and <= 1e+37"]),
    "no device": (["--device", "gpu"], ["--device", "allowed: auto, cpu"]),
    "no TF32 there": (["--device", "cpu", "--tf32", "true"], ["--tf32", "cpu has no TF32", "allowed there: false"]),
    "unknown choice": (["--outer-optimizer", "adagrad"], ["--outer-optimizer", "adam, sgd"]),
    "unknown strategy": (["--strategy", "magic"], ["--strategy", "recursion"]),
    "unknown engine": (["--engine", "naive"], ["--engine", "native"]),
    "unknown benchmark": (["--benchmark", "omniglt"], ["--benchmark", "omniglot"]),
    "unknown model": (["--model", "cnm"], ["--model", "cnn"]),
    "bad regex": (["--adapt", "("], ["--adapt", "last:k"]),
    "unknown option": (["--set", "algo_options.l22=1"], ["--set algo_options.l22", "did you mean 'l2'"]),
    "unwritable results": (["--results", "bad.yaml"], ["--results", "writable folder"]),
}


@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(mistake, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    Path("bad.yaml").write_text("ways: [1,\n")
    given, expected = BAD[mistake]
    usual = {"--benchmark": "sinusoid", "--results": "runs", "--iterations": "2", "--eval-tasks": "4"}
    usual = {name: value for name, value in usual.items() if name not in given}
    assert main(["run", *(word for pair in usual.items() for word in pair), *given]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("error: ")
    for part in expected:
        assert part in captured.err
    assert not Path("runs").exists()


def test_unknown_command(capsys):
    assert main(["rum"]) == 2
    assert 'Did you mean "run"' in capsys.readouterr().err


@pytest.mark.parametrize("command", [["--help"], ["run", "--help"], ["list"], ["list", "--json"], ["data", "status"]])
def test_looking_around_does_not_import_torch(command):
    code = (
        "import sys; from harness.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'torchvision')))"
    )
    assert subprocess.run([sys.executable, "-c", code, *command], capture_output=True, check=False).returncode == 0


def test_help_shows_every_option_with_its_default(capsys):
    main(["run", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for text in ("--inner-steps", "N, steps of the inner loop", "[default: 5]", "--outer-lr-phi", "--set", "--resume"):
        assert text in shown


def test_help_groups_options_and_shows_their_kinds_and_choices(capsys):
    """Every setting of a run is in a group with others of its kind; nothing but --json and files is in the last one."""
    main(["run", "--help"])
    shown = capsys.readouterr().out
    titles = re.findall(r"^╭─ (.+?) ─+╮$", shown, re.MULTILINE)
    assert titles[:4] == ["Method", "Tasks", "Model and loss", "Outer loop"]
    assert titles[-2:] == ["This command", "Files and output"]
    assert re.findall(r"^│ (--\S+)", shown, re.MULTILINE)[:3] == ["--algo", "--geometry", "--inner-steps"]
    own = shown[shown.index("─ This command ─") : shown.index("─ Files and output ─")]
    assert re.findall(r"^│ --([\w-]+)", own, re.MULTILINE) == ["resume", "fresh"]
    flat = " ".join(shown.replace("│", " ").split())
    assert "--inner-lr FLOAT alpha, step size of the inner loop (> 0) [default: 0.4 (glyphs)]" in flat
    assert "--outer-optimizer CHOICE optimizer of the outer loop (adam, sgd)" in flat
    assert "--model-options MAPPING options of the model, as {filters: 32} [default: {filters: 32} (glyphs)]" in flat
    assert "--tf32 BOOL" in flat
    assert "--benchmark TEXT" in flat


def test_help_of_theory_has_no_settings_of_training(capsys):
    main(["theory", "--help"])
    shown = capsys.readouterr().out
    assert "--inner-lr" in shown
    assert not {"--checkpoint-every", "--label", "--iterations"} & set(shown.split())


@pytest.mark.parametrize("words", ["--inner-lr five", "--tf32 yes", "--outer-optimizer adamw", "--task-chunk half"])
def test_a_setting_of_the_wrong_kind_is_one_line_that_says_what_is_allowed(words, capsys):
    assert main(["run", *words.split()]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(rf"error: {words.split()[0]}: .* is not allowed; allowed: .*\n", error)
