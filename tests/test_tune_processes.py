"""Studies of several processes, on a journal and on PostgreSQL: killed at random, every place is filled once."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from harness.tune.storage import open_storage

pytestmark = pytest.mark.slow

FLAGS = {
    "algo": "anil",
    "benchmark": "sinusoid",
    "iterations": 60,
    "eval-tasks": 20,
    "threads": 1,
    "test-seeds": 0,
    "study": "s",
}
TRIALS = 9


def command(folder: Path, *more: str, **flags) -> list[str]:
    given = [part for name, value in {**FLAGS, **flags}.items() for part in (f"--{name}", str(value))]
    return [sys.executable, "-m", "harness", "tune", *given, "--out", str(folder), *more]


def workers_of(pid: int) -> list[int]:
    """All that the threads of a process started, and what those did."""
    found = []
    with contextlib.suppress(OSError):  # it has just ended
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return [*found, *(below for child in found for below in workers_of(child))]


def begun(folder: Path) -> int:
    return len(list(folder.glob("s/runs/*/metrics.jsonl")))


def kill_and_start_again(folder: Path, storage: str) -> optuna.Study:
    """Two of three workers die, then the command itself; then it is started again and ends."""
    if not Path("/proc/self/task").exists():
        pytest.skip("finds the workers in /proc")
    given = command(folder, "--workers", "3", "--trials", str(TRIALS), "--storage", storage)
    dice = random.Random(5)
    first = subprocess.Popen(given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for seen in (2, 4):
            while begun(folder) < seen and first.poll() is None:
                time.sleep(0.02)
            time.sleep(0.4 * dice.random())
            with contextlib.suppress(IndexError, ProcessLookupError):
                os.kill(dice.choice(workers_of(first.pid)), signal.SIGKILL)
        time.sleep(dice.random())
        left = workers_of(first.pid)
    finally:
        first.kill()
        first.wait()
    for worker in left:  # they notice, save a checkpoint and end
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, dice.choice([signal.SIGKILL, 0]))
    ended = subprocess.run([*given, "--json"], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    [result] = json.loads(ended.stdout)
    assert result["trials"] == TRIALS
    return optuna.load_study(study_name="s", storage=open_storage(storage))


def check(study: optuna.Study) -> None:
    done = [trial for trial in study.trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    assert sorted(trial.user_attrs["slot"] for trial in done) == list(range(TRIALS))
    others = [trial for trial in study.trials if trial not in done]
    assert others  # somebody did die
    assert {trial.state for trial in others} == {TrialState.FAIL}
    for lost in others:
        again = next(trial for trial in done if trial.user_attrs["slot"] == lost.user_attrs["slot"])
        assert lost.params.items() <= again.params.items()


def test_killed_workers_lose_no_trial_of_a_journal_and_none_is_done_twice(tmp_path):
    study = kill_and_start_again(tmp_path, str(tmp_path / "journal.log"))
    check(study)
    assert not list(tmp_path.glob("journal.log.workers/*"))
    assert (tmp_path / "s" / "best.yaml").exists()


def test_killed_workers_lose_no_trial_of_a_postgresql_server(tmp_path):
    pytest.importorskip("psycopg")
    with postgresql() as url:
        check(kill_and_start_again(tmp_path, url))


def test_who_waits_for_workers_that_left_nothing_says_so_and_goes_on(tmp_path):
    """A folder that was copied without the files of its workers, which were killed."""
    given = command(tmp_path, "--trials", "2", "--workers", "1")
    first = subprocess.Popen(given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not begun(tmp_path):
        time.sleep(0.02)
    left = workers_of(first.pid)
    for process in (first.pid, *left):
        os.kill(process, signal.SIGKILL)
    first.wait()
    shutil.rmtree(tmp_path / "journal.log.workers")
    (tmp_path / "sitecustomize.py").write_text(
        "from harness.store import lease\nlease.BEAT, lease.PATIENCE = 0.5, 3.0\n"
    )
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")]), str(Path(__file__).parents[1])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    ended = subprocess.run(given, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stderr
    said = "s: trial 0 waits for an unknown process, which gives no sign of life"
    assert said in " ".join(ended.stderr.split())
    study = optuna.load_study(study_name="s", storage=open_storage(str(tmp_path / "journal.log")))
    assert [trial.state.name for trial in study.trials].count("COMPLETE") == 2


def test_an_interrupt_saves_what_runs_and_the_same_command_goes_on(tmp_path):
    given = command(tmp_path, "--trials", "2", iterations=400)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    # A shell that starts the tests in the background lets them ignore SIGINT, and their children with them.
    first = subprocess.Popen(given, **quiet, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    while not begun(tmp_path):
        time.sleep(0.05)
    time.sleep(0.3)
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 130
    assert list(tmp_path.glob("s/runs/*/checkpoint.pt"))
    subprocess.run(given, check=True, capture_output=True, timeout=120)
    study = optuna.load_study(study_name="s", storage=open_storage(str(tmp_path / "journal.log")))
    states = [trial.state for trial in study.trials]
    assert states.count(TrialState.COMPLETE) == 2
    assert TrialState.RUNNING not in states


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """A server of its own on loopback, as a user other than root, who may not run one."""
    programs = shutil.which("pg_ctl") or next(iter(sorted(glob.glob("/usr/lib/postgresql/*/bin/pg_ctl"))), None)
    if programs is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    programs = Path(programs).resolve().parent
    user = None
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam("postgres").pw_uid
        except KeyError:
            pytest.skip("root may not run PostgreSQL, and there is no user postgres")
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    if user is not None:
        os.chown(folder, user, -1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def call(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=user, cwd=folder)

    options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {folder}"
    call("initdb", "-U", "harness", "-A", "trust")
    call("pg_ctl", "-w", "-o", options, "-l", str(folder / "log"), "start")
    try:
        yield f"postgresql+psycopg://harness@127.0.0.1:{port}/postgres"
    finally:
        call("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)
