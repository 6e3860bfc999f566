"""What reaches a terminal: any letter on any encoding, and nothing from a file that it would obey."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import re
import shlex
import statistics
import subprocess
import sys
import types

import matplotlib
import pytest
from fabricated import write_run
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.cli import main
from harness.cli.terminal import following
from harness.cli.terminal.console import console, show, table, whole
from harness.cli.terminal.encoding import spelt
from harness.cli.terminal.grid import GridView
from harness.experiment.in_words import interval
from harness.report.charts import charts_of
from harness.report.figures import FORMATS, write_figures
from harness.report.findings.comparison import compare_runs
from harness.report.findings.statistics import ENOUGH
from harness.report.reading.runs import read_runs
from harness.settings.config import RunConfig
from harness.settings.layers import gather
from harness.settings.suites import plan
from harness.tune.config import TuneConfig

RUN = (
    "run",
    "--benchmark",
    "sinusoid",
    "--algo",
    "maml",
    "--iterations",
    "1",
    "--eval-tasks",
    "2",
    "--meta-batch",
    "2",
)
COMMANDS = {
    "help": ["--help"],
    "help of run": ["run", "--help"],
    "list": ["list"],
    "data": ["data", "status"],
    "a run": [*RUN, "--results", "runs"],
    "a run called ε": [*RUN, "--label", "ε ± 日本 \U0001f600", "--results", "é"],
    "theory": ["theory", "--benchmark", "sinusoid", "--iterations", "1", "--inner-steps", "1"],
    "report": ["report", "made", "--out", "out"],
    "a mistake": ["run", "--algo", "é ± ε 日本"],
    "a file": ["run", "--config", "ε.yaml"],
    "half a letter": ["run", "--algo", "\udcff"],
}


@pytest.fixture
def streams(monkeypatch):
    """Makes stdout and stderr of an encoding, strict as Python has stdout; returns what was written."""

    def make(encoding):
        made = [io.BytesIO(), io.BytesIO()]
        for name, buffer in zip(("stdout", "stderr"), made, strict=True):
            monkeypatch.setattr(sys, name, io.TextIOWrapper(buffer, encoding=encoding))
        return made

    yield make
    logging.getLogger("harness").handlers.clear()


@pytest.fixture(autouse=True)
def without_figures(monkeypatch):
    """A report's words are enough here, and its figures take seconds."""
    monkeypatch.setattr("harness.report.write.write_figures", lambda *_: [])


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_fails_over_a_letter(tmp_path, monkeypatch, streams, command, encoding):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    for seed in (0, 1):
        write_run(tmp_path / "made", seed=seed, stationarity=1) if command == "report" else None
    out, err = streams(encoding)
    try:
        status = main(COMMANDS[command])
    except SystemExit as error:
        status = error.code
    sys.stdout.flush()
    sys.stderr.flush()
    bad = command in ("a mistake", "a file", "half a letter")
    assert status == (2 if bad else 0), err.getvalue()
    for stream in (out, err):
        assert b"Traceback" not in stream.getvalue()
        stream.getvalue().decode(encoding)
    if command == "a run" and encoding == "ascii":
        assert b"+/-" in out.getvalue()


def test_what_cannot_be_shown_is_spelt():
    assert (
        spelt("1 ± 2, ε ≤ 0.1, Φ, é, \u22121, x², … \u2013 “q” 日")
        == '1 +/- 2, epsilon <= 0.1, Phi, e, -1, x^2, ... - "q" \\u65e5'
    )
    assert spelt("┏━┓│─╯") == "+-+|-+"


EVIL = "\x1b]52;c;ZXZpbA==\x07\x1b]8;;http://evil\x1b\\click\x1b[2J\x9b31m\u202e\r\x08"


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_from_a_file_is_obeyed(terminal):
    made = console()
    made.file = io.StringIO()
    made._force_terminal = terminal
    table = Table("name", title=EVIL)
    table.add_row(Text(EVIL))
    for thing in (EVIL, Text(EVIL), table, Text(f"a\n{EVIL}", style="bold")):
        made.print(thing)
    shown = made.file.getvalue()
    for control in ("\x1b]", "\x1b[2J", "\x07", "\x9b", "\u202e", "\x08"):
        assert control not in shown
    assert "\\x1b]52;" in shown
    assert "a\n" in shown


def test_errors_and_warnings_are_escaped_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs", name="good")
    folder = write_run(tmp_path / "runs", name="bad")
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**summary, "status": EVIL}))
    assert main(["report", "runs", "--out", "out"]) == 0
    assert main(["run", "--algo", EVIL]) == 2
    assert main(["compare", f"{EVIL}.yaml"]) == 2
    logging.getLogger("harness").warning("%s", f"{EVIL}\nsecond line")
    captured = capsys.readouterr()
    for text in (captured.out, captured.err):
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "\u202e" not in text
    assert captured.err.splitlines()[-1].endswith("second line")


@pytest.mark.slow
def test_what_failed_runs_say_is_escaped(tmp_path, capsys):
    """``failure.json`` of a stranger, shown by ``compare``."""
    (tmp_path / "suite.yaml").write_text(
        "title: t\nbase: {benchmark: sinusoid, iterations: 1, eval_tasks: 2}\ngrid: [{}]\n"
    )
    words = ["compare", str(tmp_path / "suite.yaml"), "--results", str(tmp_path / "runs")]
    assert main([*words, "--dry-run", "--json"]) == 0
    run_dir = json.loads(capsys.readouterr().out)["runs"][0]["run_dir"]
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / run_dir.rpartition("/")[2]).mkdir()
    failure = tmp_path / "runs" / run_dir.rpartition("/")[2] / "failure.json"
    failure.write_text(json.dumps({"status": "crashed", "message": EVIL}))
    assert main(words) == 1
    captured = capsys.readouterr()
    assert "crashed: \\x1b]52;" in captured.out
    assert "\x1b" not in captured.out + captured.err


@pytest.mark.parametrize("name", ["[x]", "[/x]", "[bold]x", "{x}"])
def test_a_folder_of_any_name_is_a_folder(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    assert main([*RUN, "--results", name]) == 0
    assert main(["report", name, "--out", f"{name}/report"]) == 0
    assert f"report: {name}/report/report.html" in capsys.readouterr().out


def test_figures_do_not_depend_on_a_persons_settings_of_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.report.figures.on_paper", lambda comparison: charts_of(comparison)[:1])
    monkeypatch.setattr("harness.report.figures.FORMATS", {"svg": FORMATS["svg"]})
    for seed in (0, 1):
        write_run(tmp_path / "runs", seed=seed)
    comparison = compare_runs(read_runs([tmp_path / "runs"])[0])
    usual = {path.name: path.read_bytes() for path in write_figures(comparison, tmp_path / "usual")}
    theirs = {
        "text.usetex": True,
        "font.size": 30,
        "axes.facecolor": "red",
        "savefig.bbox": "tight",
        "lines.marker": "x",
    }
    with matplotlib.rc_context(theirs):
        found = {path.name: path.read_bytes() for path in write_figures(comparison, tmp_path / "theirs")}
        assert matplotlib.rcParams["text.usetex"]
    assert found == usual


def typed(text: str) -> list[list[str]]:
    """The commands that a program's words tell to type next."""
    lines = text.splitlines()
    return [shlex.split(lines[at + 1]) for at, line in enumerate(lines) if line.startswith("next, ")]


def test_the_next_command_works_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*RUN, "--results", "my runs", "--json"]) == 0
    captured = capsys.readouterr()
    json.loads(captured.out)
    [command] = typed(captured.err)
    assert command[:2] == ["harness", "report"]
    assert main(command[1:]) == 0
    [opened] = typed(capsys.readouterr().err)
    assert (tmp_path / opened[-1]).name == "report.html"


def test_a_report_of_several_methods_asks_for_a_search_of_their_step_sizes(tmp_path, capsys):
    for algo, geometry in (("maml", "nonconvex"), ("anil", "convex")):
        write_run(tmp_path / "runs", algo=algo, geometry=geometry, benchmark="sinusoid")
    words = ["report", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    _, search = typed(capsys.readouterr().err)
    assert search[:3] == ["harness", "tune", "--algo"]
    assert set(search[3].split(",")) == {"maml:nonconvex", "anil:convex"}
    assert search[4:] == ["--benchmark", "sinusoid"]
    for algo, geometry in (("maml", "nonconvex"), ("anil", "convex")):
        write_run(tmp_path / "tuned", algo=algo, geometry=geometry, benchmark="sinusoid", label="tuned")
    assert main(["report", str(tmp_path / "tuned"), *words[2:]]) == 0
    assert len(typed(capsys.readouterr().err)) == 1


@pytest.mark.parametrize(
    ("given", "right", "then"),
    [
        ("--model mine.py:net --algo maml,anil --engine=native --json", True, "run --model mine.py:net"),
        ("--algo=maml --model mine.py:net --inner-lr 0.05", True, "run --model mine.py:net --inner-lr 0.05"),
        ("--model mine.py:net", False, ""),
        ("--algo maml", True, ""),
    ],
)
def test_a_model_of_ones_own_that_passed_leads_to_its_training(given, right, then, capsys):
    token = following.words.set(("verify", *given.split()))
    following.after_verify(right)
    following.words.reset(token)
    assert typed(capsys.readouterr().err) == ([["harness", *then.split()]] if then else [])


def test_a_list_leads_to_what_a_suite_takes_and_to_ones_own_model(capsys):
    assert main(["list"]) == 0
    captured = capsys.readouterr()
    commands = typed(captured.err)
    assert ["harness", "compare", "quick", "--dry-run"] in commands
    assert ["harness", "verify", "--model", "FILE.py:function"] in commands
    row = next(line for line in captured.out.splitlines() if line.startswith("quick"))
    assert row.split()[1:6] == ["57", "0..2", "glyphs,", "quadratic", "ready"]


def test_an_interrupted_command_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.grid.compare.compare", interrupted)
    asked = ["compare", "quick", "--set", "label=a b", "--results", str(tmp_path)]
    assert main(asked) == 130
    said = capsys.readouterr()
    assert said.out == ""
    assert "keeps what is done" in said.err
    assert typed(said.err) == [["harness", *asked]]


def test_a_run_that_was_interrupted_says_resume_once(tmp_path, capsys):
    token = following.words.set(("run", "--algo", "maml", "--fresh"))
    following.after_runs([{"status": "interrupted", "run_dir": "x"}])
    following.words.reset(token)
    assert typed(capsys.readouterr().err) == [["harness", "run", "--algo", "maml", "--resume"]]


def test_a_dry_run_leads_to_the_runs_and_failures_to_another_try(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text("title: t\nbase: {benchmark: sinusoid, iterations: 1}\ngrid: [{algo: maml}]\n")
    assert main(["compare", "s.yaml", "--dry-run"]) == 0
    first, more = typed(capsys.readouterr().err)
    assert first == ["harness", "compare", "s.yaml"]
    assert more == ["harness", "compare", "s.yaml", "--seeds", "0,1,2,3,4"]
    ends = [
        types.SimpleNamespace(state=state, config=RunConfig(seed=seed)) for seed, state in enumerate(["failed"] * 5)
    ]
    following.after_compare("s.yaml", "runs", ends, False)
    again, report = typed(capsys.readouterr().err)
    assert again[-1] == "--retry"
    assert report == ["harness", "report", "runs"]


def test_few_seeds_are_said_to_carry_no_claim_with_the_price_of_enough(monkeypatch, capsys):
    entries = [types.SimpleNamespace(state="cached", config=RunConfig(seed=seed)) for seed in (0, 1, 2) for _ in "ab"]
    monkeypatch.setattr("harness.grid.compare.estimate", lambda entries: [10.0, 30.0] * 3)
    following.after_compare("quick", "runs", entries, False)
    said = capsys.readouterr().err
    assert "3 seeds carry no claim; 5 take about 80 s one after the other more" in said  # two more of 10 s and 30 s
    assert typed(said)[0] == ["harness", "compare", "quick", "--seeds", "0,1,2,3,4"]
    assert following.ENOUGH == ENOUGH


@pytest.mark.parametrize(
    ("mean", "half", "text"),
    [
        (1.69, 0.027, "1.690 ± 0.027"),
        (1.609, 0.0243, "1.609 ± 0.024"),
        (2.0, 1.003e-27, "2"),
        (1234.5, 67.0, "1234 ± 67"),
    ],
)
def test_a_loss_and_its_interval_have_equally_many_decimals(mean, half, text):
    assert interval(mean, half) == text


def test_several_seeds_are_run_one_after_the_other_and_summed_up(tmp_path, capsys):
    assert main([*RUN, "--results", str(tmp_path), "--seeds", "3..4,7", "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["seeds"] == [run["seed"] for run in document["runs"]] == [3, 4, 7]
    losses = [run["loss"]["mean"] for run in document["runs"]]
    assert document["loss"]["mean"] == pytest.approx(statistics.fmean(losses))
    half = 4.302653 * statistics.stdev(losses) / 3**0.5  # Student's t of two degrees of freedom
    assert document["loss"]["ci95"] == pytest.approx(half, rel=1e-5)
    shown = re.search(r"loss: ([\d.]+) ± ([\d.]+) over 3 seeds", captured.err)
    assert [float(text) for text in shown.groups()] == pytest.approx([statistics.fmean(losses), half], abs=1e-4)
    [report] = typed(captured.err)
    assert report[2:] == [run["run_dir"] for run in document["runs"]]


def test_seeds_replace_those_of_a_suite(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text("title: t\nbase: {benchmark: sinusoid, iterations: 1}\ngrid: [{algo: maml}]\n")
    assert main(["compare", "s.yaml", "--seeds", "5..9", "--dry-run", "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [re.search(r"_s(\d+)-", run["run_dir"])[1] for run in runs] == ["5", "6", "7", "8", "9"]


@pytest.mark.parametrize(
    "text", ["", "1..0", "a", "-1", "0..4..9", "0..9999999", "1.5", "0,,1", "0..999999999999999999"]
)
def test_seeds_that_are_none_are_one_line(tmp_path, monkeypatch, capsys, text):
    monkeypatch.chdir(tmp_path)
    for words in (RUN, ("compare", "quick")):
        assert main([*words, f"--seeds={text}"]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: --seeds {text!r}: allowed: 0..4 or 0,1,2")
        assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_seed_is_given_once(tmp_path, capsys):
    assert main([*RUN, "--seed", "1", "--seeds", "0..4", "--results", str(tmp_path)]) == 2
    assert "--seeds with --seed: give one of them" in capsys.readouterr().err
    assert main(["compare", "quick", "--set", "seed=1", "--seeds", "0..4", "--dry-run"]) == 2
    assert "--seeds with --set seed: give one of them" in capsys.readouterr().err


LONG = "/home/someone/experiments/results/runs/anil-nonconvex_miniimagenet_5w5s_N10_s0-0123456789abcdef"


@pytest.mark.parametrize("width", [60, 80])
def test_no_number_path_or_name_is_broken_where_a_table_is_too_wide(width):
    columns = [f"column {index}" for index in range(14)]
    rows = [
        [f"anil:{kind}", *(f"{1023.4567 * (row + index + 1):.4f}" for index in range(13))]
        for row, kind in enumerate(("convex", "nonconvex"))
    ]
    shown = rendered(table("wide", columns, rows), width)
    assert max(map(len, shown.splitlines())) <= width
    for row in rows:
        for cell in row:
            assert cell in shown
        assert shown.count(row[0]) > 1  # every part says whose numbers they are
    names = ["algorithm", "engine", "strategy", "median ms", *["x learn2learn"] * 9]
    cells = ["anil:nonconvex", "learn2learn", "linearised", "1023.4", *["1.01"] * 9]
    whole = {"words", *cells, *(word for name in names for word in name.split())}
    found = {word for word in rendered(table("words", names, [cells]), width).split() if set(word) != {"─"}}
    assert found == whole
    shown = rendered(table("paths", ("name", "where", "note"), [("a run", LONG, "it was there already")]), width)
    assert LONG in shown
    assert "note: it was there already" in shown


def rendered(part, width):
    made = console()
    made.file, made._width = io.StringIO(), width
    made.print(part, soft_wrap=True)
    return made.file.getvalue()


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_terminal_of_80_columns_shows_whole_paths_and_progress(tmp_path, term):
    """In a real pseudo-terminal: what was typed, what is said, and nothing broken or redrawn where it cannot be."""
    results = tmp_path / ("a-folder-with-a-long-name-" * 3)
    command = [sys.executable, "-m", "harness", *RUN, "--results", str(results)]
    environment = {**os.environ, "TERM": term, "COLUMNS": "80", "LINES": "24", "NO_COLOR": "1"}
    mine, theirs = pty.openpty()
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        said = b""
        while part := _read(mine):
            said += part
    os.close(mine)
    assert process.returncode == 0, said
    lines = said.decode().replace("\r\n", "\n").split("\n")
    [run_dir] = results.iterdir()
    assert f"  {run_dir}" in lines
    assert f"  harness report {run_dir}" in lines
    if term == "dumb":
        assert b"\x1b" not in said
        assert any("meta-iteration 1/1" in line for line in lines)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other side is closed
        return b""


def test_a_list_of_suites_says_what_they_hold_as_compare_plans_them(tmp_path, capsys):
    assert main(["list", "--json"]) == 0
    suites = {suite["name"]: suite for suite in json.loads(capsys.readouterr().out)["suites"]}
    for name in ("quick", "table2-quadratic", "theorem1-quadratic"):
        runs = plan(name).runs
        assert suites[name]["runs"] == len(runs)
        assert set(suites[name]["benchmarks"]) == {run.config.benchmark for run in runs}
        assert set(suites[name]["seeds"]) == {run.config.seed for run in runs}
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert suites["quick"]["title"] in shown
    assert suites["quick"]["path"] not in shown


def test_a_geometry_in_the_algorithms_name_means_the_same_everywhere(capsys):
    assert RunConfig(algo="anil:nonconvex") == RunConfig(algo="anil", geometry="nonconvex")
    settings, _ = gather(None, {"algo": "anil:nonconvex"})
    assert (settings.algo, settings.geometry) == ("anil", "nonconvex")
    assert TuneConfig(algo="anil:convex").algo == "anil:convex"
    assert main(["run", "--algo", "anil:convex", "--geometry", "nonconvex"]) == 2
    assert "two geometries" in capsys.readouterr().err


def test_what_is_missing_is_said_to_be_so_and_not_allowed(tmp_path, capsys):
    (tmp_path / "s.yaml").write_text("grid: [{algo: maml}]\n")
    assert main(["compare", str(tmp_path / "s.yaml")]) == 2
    assert capsys.readouterr().err.rstrip().endswith("title: missing; it is text, what the suite shows")


def test_time_left_is_that_of_runs_like_those_to_come_shared_by_the_workers(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.cli.terminal.grid.estimate", lambda entries: [10.0, 20.0, 60.0])
    clock = iter([0.0, 30.0, 30.0])
    monkeypatch.setattr("harness.cli.terminal.grid.time.monotonic", lambda: next(clock))
    config = RunConfig(iterations=100)
    entries = [
        types.SimpleNamespace(config=config, state=state, directory=tmp_path / f"{at}", summary={"status": "completed"})
        for at, state in enumerate(("cached", "unfinished", "new"))
    ]
    made = console()
    made.file = io.StringIO()
    view = GridView(made)
    for entry in entries[:2]:
        view(entries, entry, {"event": "progress", "iteration": 50, "loss": None})
    view(entries, entries[0], {"event": "end"})
    assert "1/3" in made.file.getvalue()
    assert "0:30 elapsed, about 0:35 left" in made.file.getvalue()  # (20/2 + 60) / 2 workers


def test_a_line_ends_between_words_on_a_terminal_and_a_command_and_a_path_stay_whole(monkeypatch):
    shown = {}
    for terminal in (True, False):
        out = Console(file=io.StringIO(), force_terminal=terminal, width=30, color_system=None)
        monkeypatch.setattr("harness.cli.terminal.console.console", lambda to_stderr, out=out: out)
        sentence = "a loss of 0.1234567 after 12345 meta-iterations"
        command = "  harness report results/runs --loss 0.5"
        show([sentence, whole(command), f"report: {'x' * 40}/report.html"])
        shown[terminal] = [line.rstrip() for line in out.file.getvalue().splitlines()]
    assert shown[True][:2] == ["a loss of 0.1234567 after", "12345 meta-iterations"]
    assert shown[True][2:] == shown[False][1:] == [command, f"report: {'x' * 40}/report.html"]
    assert shown[False][0] == sentence
