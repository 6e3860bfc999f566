"""Two hosts on one share: kernels that do not know of each other's locks, clocks and process numbers of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml
from faulty import FLAGS, SETTINGS, command, forked, start
from test_faults_lock import only, standing_still, stopped_at

from harness.errors import HarnessError
from harness.store import lease
from harness.store.files import write
from harness.store.lock import Lease, Locked, Lost
from harness.tune.owners import Owner, Owners


def on_host(name: str, iteration: int | None = None) -> ExitStack:
    """In it, this process is on a host of that name, whose kernel's locks nobody else knows, and where time is short.

    With ``iteration``, its run stands still there until it gets SIGCONT.
    """
    stack = stopped_at(iteration) if iteration else ExitStack()
    for target, value in (
        ("fcntl.flock", lambda *_: None),
        ("platform.node", lambda: name),
        ("harness.store.lease._boot", lambda: name),
        ("harness.store.lease.BEAT", 0.1),
        ("harness.store.lease.PATIENCE", 1.5),
        ("harness.store.lock._LOOK", 0.05),
    ):
        stack.enter_context(patch(target, value))
    return stack


def stop(lease: Lease) -> None:
    """As SIGSTOP does."""
    lease._ended.set()
    lease._thread.join()


def go_on(lease: Lease) -> None:
    """As SIGCONT does."""
    lease._ended.clear()
    lease._renew_once()


def test_who_renews_his_lease_keeps_it_and_who_does_not_loses_it_and_stops(tmp_path, caplog):
    path = tmp_path / "lock.json"
    with on_host("a"):
        first = Lease(path)
    with on_host("b"):
        began = time.monotonic()
        with pytest.raises(Locked, match=f"{os.getpid()} on a, since"):
            Lease(path)
        assert time.monotonic() - began < lease.PATIENCE
        stop(first)
        second = Lease(path)
        assert f"no sign of life of process {os.getpid()} on a for 1.5 s: taken over" in caplog.text
        second.check()
        held = path.read_bytes()
        with pytest.raises(
            Lost, match=f"taken over .* by process {os.getpid()} on b, since it gave .* nothing more is written here"
        ):
            first.check()
        stop(second)
        held = path.read_bytes()
    with on_host("a"):
        go_on(first)
        assert path.read_bytes() == held, "what was lost is renewed"
        first.release()
        assert path.read_bytes() == held, "what was lost is removed"
        second.check()
        second.release()
        assert list(tmp_path.iterdir()) == []


def test_time_in_which_nobody_looked_is_no_silence(tmp_path):
    """A whole machine may have slept, its holder and whoever waits for it alike."""
    path = tmp_path / "lock.json"
    path.write_text("{}")
    with on_host("b"), patch("time.monotonic", lambda: now):
        now = 0.0
        silence = lease.Silence(path)
        now = 1000.0
        assert silence.look() <= lease.BEAT
        for _ in range(20):
            now += lease.BEAT
            quiet = silence.look()
        assert quiet >= lease.PATIENCE
        path.write_text("{} ")
        assert silence.look() == 0


def test_two_that_take_over_the_same_lease_at_the_same_time_end_as_one(tmp_path):
    """Each has seen the silence; the slower one replaces what the faster one has just taken."""
    path = tmp_path / "lock.json"
    with on_host("a"):
        stop(Lease(path))
    with on_host("b"):
        taken: list[Lease] = []
        real = os.replace

        def replace(source, target):
            real(source, target)
            if not taken:
                with patch("harness.store.lease._boot", lambda: "c"):
                    taken.append(Lease(tmp_path / "other"))
                real(tmp_path / "other", path)

        with patch("os.replace", replace), pytest.raises(Locked):
            Lease(path)
        stop(taken[0])


def test_a_lease_whose_file_goes_is_none(tmp_path):
    lease = Lease(tmp_path / "lock.json")
    (tmp_path / "lock.json").unlink()
    with pytest.raises(HarnessError, match="the run directory was removed"):
        lease.check()
    (tmp_path / "config.yaml").touch()
    with pytest.raises(Lost, match=r"lock\.json was removed"):
        lease.check()
    lease.release()


def test_temporary_files_of_two_containers_with_one_process_number_have_names_of_their_own(tmp_path):
    seen = set()
    real = os.replace
    with patch("os.getpid", lambda: 1), patch("os.replace", lambda a, b: (seen.add(a), real(a, b))):
        for _ in range(2):
            write(tmp_path / "best.yaml", b"a: 1")
    assert len(seen) == 2


def test_a_worker_of_another_host_is_dead_after_silence_alone_and_who_waits_says_for_whom(tmp_path, caplog):
    with on_host("a"):
        owner = Owner(tmp_path)
    with on_host("b"):
        known = Owners(tmp_path)
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            assert not known.dead(owner.name, "s: trial 3")
            time.sleep(0.05)
        stop(owner._lease)
        began = time.monotonic()
        while not known.dead(owner.name, "s: trial 3"):
            time.sleep(0.05)
        assert time.monotonic() - began >= 1.5 - 0.1
        said = f"s: trial 3 waits for process {os.getpid()} on a, which gives no sign of life in {tmp_path}"
        assert caplog.text.count(said) == 1
        known.forget(owner.name)
        # a folder that was copied without what its workers left
        while not known.dead("nobody", "s: trial 4"):
            time.sleep(0.05)
        assert "s: trial 4 waits for an unknown process" in caplog.text
        others = Owners(tmp_path, complete=False)  # a database has a heartbeat of its own
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            assert not others.dead("nobody", "s: trial 4")
            time.sleep(0.2)


@pytest.mark.slow
def test_a_run_that_stood_still_is_taken_over_and_writes_nothing_once_it_goes_on(tmp_path):
    results, said = tmp_path / "runs", tmp_path / "said"
    arguments = ["run", *FLAGS, "--results", str(results)]
    first = start(command, arguments, tmp_path / "first", on_host, ("a", 6))
    while not standing_still(first.pid):
        time.sleep(0.05)
        assert first.is_alive(), (tmp_path / "first").read_text()
    assert forked(command, [*arguments, "--resume"], said, on_host, ("b",)) == 0, said.read_text()
    assert f"no sign of life of process {first.pid} on a for 1.5 s: taken over" in said.read_text()
    after = {file.name: file.read_bytes() for file in only(results).iterdir()}
    os.kill(first.pid, signal.SIGCONT)
    first.join(60)
    assert first.exitcode == 1
    [line] = [line for line in (tmp_path / "first").read_text().splitlines() if line.startswith("error: ")]
    assert "taken over from this process by one that has ended since" in line
    assert {file.name: file.read_bytes() for file in only(results).iterdir()} == after
    lines = [json.loads(line) for line in (only(results) / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == list(range(1, SETTINGS["iterations"] + 1))


# ---------------------------------------------------------------- two mounts, two host names, two process tables

_SHORT = "from harness.store import lease\nlease.BEAT, lease.PATIENCE = 0.5, 4.0\n"
_BASE = {
    "benchmark": "sinusoid", "iterations": 600, "meta_batch": 1, "inner_steps": 1, "eval_tasks": 4, "threads": 1,
    "checkpoint_every": 50,
}  # fmt: skip


@pytest.fixture
def share(tmp_path) -> Iterator[dict[str, Path]]:
    """One folder behind two FUSE mounts, whose locks do not meet."""
    if shutil.which("bindfs") is None or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs bindfs and /dev/fuse: apt-get install bindfs")
    if subprocess.run(["unshare", "-u", "-p", "-f", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no host names of one's own here: unshare is not allowed")
    (tmp_path / "disk").mkdir()
    mounts = {name: tmp_path / f"mount-{name}" for name in ("nodeA", "nodeB")}
    try:
        for folder in mounts.values():
            folder.mkdir()
            if subprocess.run(["bindfs", tmp_path / "disk", folder], capture_output=True, check=False).returncode:
                pytest.skip("bindfs cannot mount here")
        yield mounts
    finally:
        for folder in mounts.values():
            subprocess.run(["umount", "-l", folder], capture_output=True, check=False)


def host(name: str, mount: Path, suite: Path, said: Path) -> subprocess.Popen:
    """A grid on a host of that name; every process on it has a number that one on the other has too."""
    given = [sys.executable, "-m", "harness", "compare", str(suite), "--workers", "1", "--results", str(mount / "runs")]
    line = ["unshare", "-u", "-p", "-f", "sh", "-c", f'hostname {name}; exec "$@"', "sh", *given]
    paths = [str(suite.parent), str(Path(__file__).parents[1])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    with said.open("w") as file:
        return subprocess.Popen(line, env=env, stdout=file, stderr=file, start_new_session=True)


def signalled(pid: int, number: int) -> None:
    """Send a signal to a process and all that it has started, whatever group they are in."""
    os.kill(pid, number)
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            signalled(int(child), number)


@pytest.mark.slow
def test_two_hosts_do_one_suite_together_and_one_that_stood_still_does_no_harm(share, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(_SHORT)
    suite, disk = tmp_path / "suite.yaml", tmp_path / "disk" / "runs"
    grid = [{"algo": "anil", "geometry": ["convex", "nonconvex"]}]
    suite.write_text(yaml.safe_dump({"title": "t", "base": _BASE, "seeds": [0, 1], "grid": grid}))
    nodes = {name: host(name, mount, suite, tmp_path / f"said-{name}") for name, mount in share.items()}
    try:

        def working(name: str) -> list[Path]:
            found = [path for path in disk.glob("*/lock.json") if f'"host": "{name}"' in path.read_text()]
            started = [path.parent for path in found if (path.parent / "checkpoint.pt").exists()]
            return [folder for folder in started if not (folder / "summary.json").exists()]

        def wait(condition, seconds: float = 120.0) -> None:
            deadline = time.monotonic() + seconds
            while not condition():
                assert time.monotonic() < deadline, [(tmp_path / f"said-{name}").read_text() for name in nodes]
                time.sleep(0.02)

        def stopped_at_work() -> list[Path]:
            """Host A stands still within a run, or goes on since it was between two."""
            signalled(nodes["nodeA"].pid, signal.SIGSTOP)
            found = working("nodeA")
            if not found:
                signalled(nodes["nodeA"].pid, signal.SIGCONT)
            return found

        wait(lambda: working("nodeA") and stopped_at_work())
        [stopped] = working("nodeA")
        wait(lambda: stopped in working("nodeB") or (stopped / "summary.json").exists())
        time.sleep(0.5)
        signalled(nodes["nodeA"].pid, signal.SIGCONT)
        assert {name: node.wait(300) for name, node in nodes.items()} == {"nodeA": 0, "nodeB": 0}
    finally:
        for node in nodes.values():
            if node.poll() is None:
                os.killpg(node.pid, signal.SIGKILL)
    said = {name: (tmp_path / f"said-{name}").read_text() for name in nodes}
    assert all("4 of 4 runs completed" in text for text in said.values()), said
    given = [sys.executable, "-m", "harness", "compare", str(suite), "--results", str(tmp_path / "alone")]
    subprocess.run(given, check=True, capture_output=True)
    for folder in (tmp_path / "alone").iterdir():
        files = {file.name for file in (disk / folder.name).iterdir()} - {"output.txt"}  # what was printed meanwhile
        assert files == {file.name for file in folder.iterdir()} - {"output.txt"}, "something was left"
        for name in ("metrics.jsonl", "evaluations.jsonl"):
            both = [(place / name).read_text().splitlines() for place in (folder, disk / folder.name)]
            alone, together = ([{**json.loads(line), "seconds": 0} for line in lines] for lines in both)
            assert alone == together
        parts = json.loads((disk / folder.name / "environment.json").read_text())["sittings"]
        assert len(parts) == 1 + (folder.name == stopped.name)
