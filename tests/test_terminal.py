"""What reaches a terminal: any letter on any encoding, and nothing from a file that it would obey."""

from __future__ import annotations

import io
import json
import logging
import sys

import matplotlib
import pytest
from fabricated import write_run
from rich.table import Table
from rich.text import Text

from harness.cli import main
from harness.report.charts import charts_of
from harness.report.comparison import compare_runs
from harness.report.figures import FORMATS, write_figures
from harness.report.runs import read_runs
from harness.terminal.console import console
from harness.terminal.encoding import spelt

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
    monkeypatch.setattr("harness.report.figures.charts_of", lambda comparison: charts_of(comparison)[:1])
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
