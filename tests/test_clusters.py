"""Suites and studies on a Dask cluster: machines cut off and killed, commands interrupted, and what is refused."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from harness.cli import main

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

_ROOT = Path(__file__).parents[1]
_BASE = {
    "benchmark": "sinusoid", "iterations": 1500, "meta_batch": 1, "inner_steps": 1, "eval_tasks": 4, "threads": 1,
    "checkpoint_every": 50,
}  # fmt: skip
#: times are short, so that nobody waits long for a machine that is gone
_SHORT = "from harness.store import lease\nlease.BEAT, lease.PATIENCE = 1.0, 10.0\n"
_IMPATIENT = {
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "10s",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "6s",
    "OMP_NUM_THREADS": "1",
}
_MODEL = """
from torch import nn
def net(shape, outputs):
    return nn.Sequential(nn.Linear(1, {0}), nn.Linear({0}, outputs))
"""


def suite(folder: Path, *, seeds: int, **base) -> Path:
    path = folder / "suite.yaml"
    grid = [{"algo": "anil", "geometry": ["convex", "nonconvex"]}]
    path.write_text(yaml.safe_dump({"title": "t", "base": {**_BASE, **base}, "seeds": [*range(seeds)], "grid": grid}))
    return path


def wait(condition: Callable[[], object], what: Path, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, {path.name: path.read_text()[-3000:] for path in what.glob("said-*")}
        time.sleep(0.05)


class Machine:
    """Where programs are started; they say what they say to files ``said-...``, and have a process group each."""

    def __init__(self, folder: Path, before: tuple[str, ...] = ()) -> None:
        self._folder, self._before = folder, before
        self._started: list[subprocess.Popen] = []

    def start(self, name: str, *words: object) -> subprocess.Popen:
        paths = [str(self._folder), str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {**os.environ, **_IMPATIENT, "PYTHONPATH": os.pathsep.join(paths)}
        given = [*self._before, sys.executable, "-m", *map(str, words)]
        with (self._folder / f"said-{name}").open("a") as file:
            process = subprocess.Popen(
                given, env=env, stdout=file, stderr=file, start_new_session=True, cwd=self._folder,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )  # fmt: skip
        self._started.append(process)
        return process

    def scheduler(self, host: str) -> subprocess.Popen:
        words = ("--host", host, "--port", 0, "--no-dashboard", "--scheduler-file", self._folder / "scheduler.json")
        return self.start("scheduler", "dask", "scheduler", *words)

    def worker(self, name: str) -> subprocess.Popen:
        words = ("--scheduler-file", self._folder / "scheduler.json", "--no-nanny", "--nthreads", 1, "--no-dashboard")
        return self.start(name, "dask", "worker", *words, "--local-directory", self._folder / "dask")

    def stop(self) -> None:
        for process in self._started:
            kill(process)


def kill(process: subprocess.Popen) -> None:
    """With all that it started, as when its machine dies."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def machine(tmp_path) -> Iterator[Machine]:
    """A machine with a scheduler and two workers."""
    pytest.importorskip("distributed")
    here = Machine(tmp_path)
    try:
        here.scheduler("127.0.0.1")
        wait((tmp_path / "scheduler.json").exists, tmp_path)
        for name in "ab":
            here.worker(name)
        yield here
    finally:
        here.stop()


NOBODY = {
    "127.0.0.1:1": "Timed out trying to connect",
    "nowhere": "No such file",
    "foo://x:5": "No such file",
    "scheduler.json": "no address of a scheduler",
    "/dev/zero": "not a plain file",
}


@pytest.mark.parametrize("scheduler", NOBODY)
def test_a_scheduler_that_is_not_there_is_one_line(scheduler, tmp_path, monkeypatch, capsys):
    pytest.importorskip("distributed")
    monkeypatch.setattr("harness.grid.workers._CONNECT_SECONDS", 0.5)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scheduler.json").write_text("{}")
    assert main(["compare", str(suite(tmp_path, seeds=1)), "--scheduler", scheduler]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"error: --scheduler {scheduler}: ")
    assert NOBODY[scheduler] in line
    assert line.endswith("allowed: HOST:PORT of a Dask scheduler that runs, or its --scheduler-file")
    assert not (tmp_path / "results").exists()


def test_without_dask_one_line_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["compare", str(suite(tmp_path, seeds=1)), "--scheduler", "here:8786"]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line == "error: --scheduler needs Dask; allowed: pip install 'anil-vs-maml-harness[dask]'"


@pytest.mark.slow
def test_an_interrupted_command_saves_what_runs_and_the_same_one_goes_on_by_new_code(machine, tmp_path):
    """The workers stay; what they import of a command's folder does not."""
    (tmp_path / "mine.py").write_text(_MODEL.format(2))
    path, runs = suite(tmp_path, seeds=2, model="mine:net", iterations=4000), tmp_path / "runs"
    words = ("harness", "compare", path, "--results", "runs", "--scheduler", "scheduler.json")
    first = machine.start("first", *words)
    wait(lambda: len(list(runs.glob("*/checkpoint.pt"))) == 2, tmp_path)
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 130
    ended = [json.loads(file.read_text()) for file in runs.glob("*/summary.json")]
    assert [summary["status"] for summary in ended] == ["interrupted"] * 2
    assert not list(runs.glob("*/lock.json"))
    lost = machine.start("lost", *words)  # and one that is killed leaves nothing running
    wait(lambda: len(list(runs.glob("*/lock.json"))) == 2, tmp_path)
    kill(lost)
    wait(lambda: not list(runs.glob("*/lock.json")), tmp_path)
    assert machine.start("again", *words, "--set", "iterations=200").wait(120) == 0
    (tmp_path / "mine.py").write_text(_MODEL.format(3))
    assert machine.start("other", *words, "--set", "iterations=200").wait(120) == 0
    done = [json.loads(file.read_text()) for file in runs.glob("*/summary.json")]
    found = sorted(summary["n_w"] for summary in done if summary["iterations"] == 200)
    assert found == [3, 3, 4, 4, 7, 7, 10, 10]


@pytest.mark.slow
def test_a_study_on_a_cluster_loses_no_trial_where_its_workers_die(machine, tmp_path):
    flags = "--algo anil --benchmark sinusoid --iterations 400 --eval-tasks 20 --threads 1 --test-seeds 1 --study s"
    words = (*flags.split(), "--trials", 6, "--workers", 2, "--out", "tuned", "--scheduler", "scheduler.json")
    command = machine.start("command", "harness", "tune", *words, "--json")
    third = machine.worker("c")
    wait(lambda: len(list(tmp_path.glob("tuned/s/runs/*/metrics.jsonl"))) >= 2, tmp_path)
    kill(third)
    for process in machine._started[1:3]:
        kill(process)
    machine.worker("d")
    assert command.wait(400) == 0
    result = json.loads((tmp_path / "tuned" / "s" / "result.json").read_text())
    assert (result["trials"], result["test"]["status"]) == (6, ["completed"])


@pytest.mark.slow
def test_the_slurm_script_of_the_docs_does_a_suite_and_goes_on_with_it_in_the_next_job(tmp_path):
    """Word for word, with an ``srun`` that starts two tasks here; the first job is told that its time is over."""
    pytest.importorskip("distributed")
    script = (_ROOT / "docs" / "clusters.md").read_text().split("```bash\n")[1].split("```")[0]
    (tmp_path / "grid.sh").write_text(script.replace("SUITE", str(suite(tmp_path, seeds=1, iterations=3000))))
    for name, line in {
        "dask": f'exec "{sys.executable}" -m dask "$@"',
        "harness": f'exec "{sys.executable}" -m harness "$@"',
        "srun": '"$@" & "$@" & wait',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    paths = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": paths, "SLURM_CPUS_PER_TASK": "1"}
    for number, ended in enumerate((130, 0)):
        with (tmp_path / "said-job").open("a") as file:
            job = subprocess.Popen(
                ["bash", "grid.sh"], cwd=tmp_path, env={**env, "SLURM_JOB_ID": str(number)}, start_new_session=True,
                stdout=file, stderr=file,
            )  # fmt: skip
        try:
            if ended:
                wait(lambda: len(list(tmp_path.glob("runs/*/checkpoint.pt"))) == 2, tmp_path)
                job.terminate()
            assert job.wait(300) == ended, (tmp_path / "said-job").read_text()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)  # as SLURM does with what a job leaves
    found = [json.loads(file.read_text()) for file in tmp_path.glob("runs/*/summary.json")]
    assert [summary["status"] for summary in found] == ["completed"] * 2


# ---------------------------------------------------------------- two machines with a network between them


class Host(Machine):
    """A machine with a network, a host name, processes and mounts of its own; ``folder`` shows ``disk`` on each."""

    def __init__(self, name: str, folder: Path, disk: Path) -> None:
        line = f'hostname {name}; ip link set lo up; bindfs "$1" "$2" && touch "$2/up-{name}" && exec sleep infinity'
        new = ["unshare", "-u", "-n", "-m", "-p", "-f", "--mount-proc", "--kill-child"]
        self.init = subprocess.Popen([*new, "sh", "-c", line, "sh", disk, folder], stderr=subprocess.DEVNULL)
        wait(lambda: (disk / f"up-{name}").exists() or self.init.poll() is not None, disk)
        if self.init.poll() is not None:
            pytest.skip("bindfs cannot mount here")
        [inside] = Path(f"/proc/{self.init.pid}/task/{self.init.pid}/children").read_text().split()
        self.inside = inside
        super().__init__(folder, ("nsenter", "-t", inside, "-u", "-n", "-m", "-p"))

    def network(self, *words: str) -> None:
        subprocess.run(["nsenter", "-t", self.inside, "-n", "ip", *words], check=True)

    def stop(self) -> None:
        super().stop()
        self.init.kill()
        self.init.wait()


@pytest.fixture
def hosts(tmp_path) -> Iterator[dict[str, Host]]:
    """Two of them, with a network in between."""
    pytest.importorskip("distributed")
    if missing := [name for name in ("bindfs", "ip", "nsenter", "unshare") if shutil.which(name) is None]:
        pytest.skip(f"needs {', '.join(missing)}: apt-get install bindfs iproute2 util-linux")
    if subprocess.run(["unshare", "-n", "-m", "-p", "-f", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network of one's own here: unshare is not allowed")
    disk, share = tmp_path / "disk", tmp_path / "share"
    disk.mkdir()
    share.mkdir()
    found: dict[str, Host] = {}
    try:
        for name in ("nodeA", "nodeB"):
            found[name] = Host(name, share, disk)
        ends = [("nodeA", "10.213.7.1/24"), ("nodeB", "10.213.7.2/24")]
        peer = ["peer", "name", "eth0", "netns", found["nodeB"].inside]
        found["nodeA"].network("link", "add", "eth0", "type", "veth", *peer)
        for name, address in ends:
            found[name].network("addr", "add", address, "dev", "eth0")
            found[name].network("link", "set", "eth0", "up")
        yield found
    finally:
        for host in found.values():
            host.stop()


@pytest.mark.slow
def test_one_machine_cut_off_for_a_while_and_one_killed_and_each_run_is_done_once(hosts, tmp_path):
    disk, share = tmp_path / "disk", tmp_path / "share"
    (disk / "sitecustomize.py").write_text(_SHORT)
    (disk / "suite.yaml").write_text(suite(disk, seeds=3).read_text())

    def working(name: str) -> list[Path]:
        found = [path for path in disk.glob("runs/*/lock.json") if f'"host": "{name}"' in path.read_text()]
        return [path.parent for path in found if (path.parent / "checkpoint.pt").exists()]

    a, b = hosts["nodeA"], hosts["nodeB"]
    a.scheduler("10.213.7.1")
    wait((disk / "scheduler.json").exists, share)
    on_a = a.worker("worker-a")
    again = 'while :; do "$@"; sleep 1; done'  # as docs/clusters.md has it
    b._before = (*b._before, "sh", "-c", again, "sh")
    b.worker("worker-b")
    words = ("compare", share / "suite.yaml", "--results", share / "runs", "--scheduler", share / "scheduler.json")
    command = a.start("command", "harness", *words)
    wait(lambda: working("nodeA") and working("nodeB"), share)
    b.network("link", "set", "eth0", "down")
    wait(lambda: not working("nodeB"), share)
    time.sleep(8)
    b.network("link", "set", "eth0", "up")
    wait(lambda: working("nodeA") and working("nodeB"), share)
    kill(on_a)
    a.worker("worker-a")
    assert command.wait(600) == 0, (share / "said-command").read_text()
    assert "6 of 6 runs completed" in (share / "said-command").read_text()
    alone = [sys.executable, "-m", "harness", "compare", str(disk / "suite.yaml"), "--results", str(tmp_path / "alone")]
    subprocess.run(alone, check=True, capture_output=True)
    begun_again = 0
    for folder in (tmp_path / "alone").iterdir():
        there = disk / "runs" / folder.name
        files = {file.name for file in there.iterdir()} - {"output.txt"}  # what was said meanwhile
        assert files == {file.name for file in folder.iterdir()} - {"output.txt"}, "something was left"
        for name in ("metrics.jsonl", "evaluations.jsonl"):
            both = [(place / name).read_text().splitlines() for place in (folder, there)]
            undisturbed, disturbed = ([{**json.loads(line), "seconds": 0} for line in lines] for lines in both)
            assert undisturbed == disturbed
        begun_again += len(json.loads((there / "environment.json").read_text())["sittings"]) - 1
    assert begun_again <= 2, "each disturbance takes one run away from a machine"
