"""Standard streams that are closed, full or read by nobody, and a terminal that goes: no traceback, nothing lost."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from faulty import FLAGS, command, forked, signalled_at

from harness.store.directory import load_checkpoint

#: each with its ending where nobody could read what it says
COMMANDS = {
    "list": ["list"],
    "list --json": ["list", "--json"],
    "data status": ["data", "status"],
    "--help": ["--help"],
    "--version": ["--version"],
    "a mistake": ["run", "--benchmrk", "sinusoid"],
    "run": ["run", *FLAGS, "--json"],
    "theory": ["theory", "--benchmark", "sinusoid"],
    "report": ["report", "nowhere"],
}


@pytest.fixture(autouse=True)
def hangups():
    """They end a process, also where all of this runs below nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def without(*numbers: int) -> str:
    """As a shell starts a program with these file numbers closed."""
    return " ".join(f"{number}>&-" for number in numbers)


def shell(words: list[str], ending: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = f'exec "$@" {ending}'
    given = ["sh", "-c", line, "sh", sys.executable, "-m", "harness", *words]
    root = str(Path(__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": root}
    return subprocess.run(given, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=120)


def piped(words: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """With a pipe for stdout that nobody reads any more."""
    read, write = os.pipe()
    os.close(read)
    try:
        given = [sys.executable, "-m", "harness", *words]
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        return subprocess.run(given, cwd=cwd, env=env, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(write)


@pytest.mark.parametrize("name", ["list", "a mistake"])
def test_closed_or_full_streams_lead_to_no_traceback(tmp_path, name):
    closed = shell(COMMANDS[name], without(1), tmp_path)
    assert closed.returncode == (2 if name == "a mistake" else 0)
    assert "Traceback" not in closed.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_minds_its_streams(tmp_path, name):
    for ending in (without(1), without(2), without(0, 1, 2), "2>/dev/full", "2>/dev/full 1>&-"):
        done = shell(COMMANDS[name], ending, tmp_path)
        assert done.returncode == {"a mistake": 2, "report": 2}.get(name, 0), (ending, done.stderr)
        assert "Traceback" not in done.stderr + done.stdout
    done = piped(COMMANDS[name], tmp_path)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr, done.stderr
    assert done.returncode in (0, 1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["2>/dev/full", without(2), "2>&1 | head -1"])
def test_training_goes_on_where_nobody_can_read_of_it(tmp_path, ending):
    done = shell(["run", *FLAGS, "--set", "iterations=40"], ending, tmp_path)
    assert done.returncode == 0, done.stderr
    [folder] = (tmp_path / "results" / "runs").iterdir()
    deadline = time.monotonic() + 60
    while not (folder / "summary.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)  # a shell does not wait for all of a pipe
    assert json.loads((folder / "summary.json").read_text())["status"] == "completed"


@pytest.mark.slow
def test_a_terminal_that_goes_ends_with_a_checkpoint_as_sigterm_does(tmp_path):
    arguments, said = ["run", *FLAGS, "--results", str(tmp_path / "runs")], tmp_path / "said"
    assert forked(command, arguments, said, signalled_at, (5, signal.SIGHUP)) == 130
    [folder] = (tmp_path / "runs").iterdir()
    assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"
    assert load_checkpoint(folder / "checkpoint.pt")["totals"]["iteration"] == 5


def test_a_hangup_that_is_ignored_stays_ignored():
    from harness.experiment.interrupts import deferred, terminable

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminable(), deferred() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupt.pending
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_a_grid_that_is_ended_shows_the_cursor_again_and_its_runs_have_checkpoints(tmp_path, signum):
    suite = tmp_path / "suite.yaml"
    base = {"benchmark": "sinusoid", "iterations": 200_000, "eval_tasks": 2, "inner_steps": 1, "threads": 1}
    suite.write_text(yaml.safe_dump({"title": "t", "base": base, "grid": [{"algo": "anil"}]}))
    screen, terminal = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "TERM": "xterm"}
    given = [sys.executable, "-m", "harness", "compare", str(suite), "--results", str(tmp_path / "runs")]
    process = subprocess.Popen(given, env=env, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    os.set_blocking(screen, False)
    shown = b""

    def read() -> bytes:
        try:
            return os.read(screen, 1 << 16)
        except (BlockingIOError, OSError):
            return b""

    while not list(tmp_path.glob("runs/*/metrics.jsonl")):
        time.sleep(0.1)
        shown += read()
        assert process.poll() is None, shown
    process.send_signal(signum)
    while process.poll() is None:
        time.sleep(0.05)
        shown += read()
    shown += read()
    assert process.returncode == 130
    hidden, visible = shown.rfind(b"\x1b[?25l"), shown.rfind(b"\x1b[?25h")
    assert 0 <= hidden < visible
    assert list(tmp_path.glob("runs/*/checkpoint.pt"))
