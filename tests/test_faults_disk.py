"""A disk that is full, a folder that may not be written, a folder that is gone: one line, and nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest
from faulty import FLAGS, Moments, command, forked, signalled_at

from harness.cli import main
from harness.store.directory import load_checkpoint

FILES = (
    "lock.json", "config.yaml", "environment.json", "metrics.jsonl", "evaluations.jsonl", "stationarity.jsonl",
    "checkpoint.pt", "summary.json",
)  # fmt: skip


def full_at(name: str) -> ExitStack:
    """In it, there is no room left when half of a file of that name has been written."""

    class Full(Moments):
        def _moment(self, operation: str, file: str, when: str) -> None:
            if (operation, file, when) == ("write", name, "torn"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return Full().watched()


def small_files(size: int) -> ExitStack:
    """In it, no file can grow beyond so many bytes: the kernel says so."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return ExitStack()


def gone_at(iteration: int, how: str) -> ExitStack:
    """In it, a run's directory is removed, or another takes its place, in this meta-iteration."""
    from harness.experiment.train import Trainer

    original = Trainer._iterate

    def iterate(self: Trainer, number: int) -> None:
        if number == iteration:
            path = self.directory.path
            path.rename(path.with_name("moved")) if how == "moved" else shutil.rmtree(path)
            if how == "another in its place":
                path.mkdir()
        original(self, number)

    stack = ExitStack()
    stack.enter_context(patch.object(Trainer, "_iterate", iterate))
    return stack


def unprivileged(arguments: list[str]) -> ExitStack:
    """In it, this process is nobody's: root could write everywhere. What it will import it has imported."""
    with tempfile.TemporaryDirectory() as scratch:
        main([*arguments, "--results", scratch, "--set", "iterations=1"])
    if os.geteuid() == 0:
        os.seteuid(65534)
    return ExitStack()


def one_line(said: Path) -> str:
    [line] = [line for line in said.read_text().splitlines() if line.startswith("error: ")]
    assert "Traceback" not in said.read_text()
    return line


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def lines(folder: Path, name: str) -> list[dict]:
    return [{**json.loads(line), "seconds": 0} for line in (folder / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> tuple[Path, Path]:
    """A run that was interrupted in its fifth meta-iteration, and the same undisturbed."""
    folder = tmp_path_factory.mktemp("begun")
    for name, harm, given in (("begun", signalled_at, (5, signal.SIGINT)), ("whole", None, ())):
        forked(command, ["run", *FLAGS, "--results", str(folder / name)], folder / "said", harm, given)
    return folder / "begun", folder / "whole"


@pytest.fixture
def copy(begun, tmp_path) -> Path:
    [folder] = shutil.copytree(begun[0], tmp_path / "runs").iterdir()
    return folder


def resumed(copy: Path, said: Path, harm=None, given=()) -> int:
    return forked(command, ["run", *FLAGS, "--resume", "--results", str(copy.parent)], said, harm, given)


def assert_goes_on(copy: Path, said: Path, whole: Path) -> None:
    """With room again, it ends as an undisturbed one."""
    assert resumed(copy, said) == 0, said.read_text()
    [undisturbed] = whole.iterdir()
    assert {file.name for file in copy.iterdir()} == {file.name for file in undisturbed.iterdir()}
    for name in ("metrics.jsonl", "evaluations.jsonl", "stationarity.jsonl"):
        assert lines(copy, name) == lines(undisturbed, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_no_room_left_in_the_middle_of_a_file_is_one_line_and_costs_nothing(copy, begun, tmp_path, name):
    before, said = contents(copy), tmp_path / "said"
    assert resumed(copy, said, full_at, (name,)) == 1
    assert one_line(said) == f"error: {copy / name}: No space left on device; what was saved before is kept"
    assert not [file for file in copy.iterdir() if file.name.startswith(".")]
    assert load_checkpoint(copy / "checkpoint.pt")["totals"]["iteration"] >= 5
    for log in ("metrics.jsonl", "evaluations.jsonl", "stationarity.jsonl"):
        assert (copy / log).read_bytes().startswith(before[log])
        assert (copy / log).read_bytes().endswith(b"\n")
    assert_goes_on(copy, said, begun[1])


@pytest.mark.slow
def test_a_limit_on_the_size_of_files_stops_at_the_checkpoint_and_keeps_the_last_one(copy, begun, tmp_path):
    before, said = contents(copy), tmp_path / "said"
    room = len(before["checkpoint.pt"]) - 1
    assert resumed(copy, said, small_files, (room,)) == 1
    assert one_line(said) == f"error: {copy / 'checkpoint.pt'}: File too large; what was saved before is kept"
    assert contents(copy)["checkpoint.pt"] == before["checkpoint.pt"]
    assert not [file for file in copy.iterdir() if file.name.startswith(".")]
    assert_goes_on(copy, said, begun[1])


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_disk_that_really_is_full_or_read_only(small_disk, begun, tmp_path):
    [copy] = shutil.copytree(begun[0], small_disk / "runs").iterdir()
    before, said = contents(copy), tmp_path / "said"
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"):
        ballast.write_bytes(bytes(2**20))
    assert resumed(copy, said) == 1
    assert "No space left on device; what was saved before is kept" in one_line(said)
    assert contents(copy)["checkpoint.pt"] == before["checkpoint.pt"]
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    before = contents(copy)
    assert resumed(copy, said) == 1
    assert "Read-only file system" in one_line(said)
    assert contents(copy) == before
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert_goes_on(copy, said, begun[1])


@pytest.mark.slow
@pytest.mark.parametrize("which", ["run directory", "results"])
def test_a_folder_that_may_not_be_written_is_one_line_and_nothing_changes(begun, which):
    with tempfile.TemporaryDirectory() as top:  # pytest's own folders are closed to others
        os.chmod(top, 0o755)
        results, said = Path(top) / "runs", Path(top) / "said"
        said.touch()
        said.chmod(0o666)
        [copy] = shutil.copytree(begun[0], results).iterdir()
        before = contents(copy)
        arguments = ["run", *FLAGS, "--results", str(results)]
        arguments += ["--resume"] if which == "run directory" else ["--seed", "1"]
        for folder in (copy, results):
            folder.chmod(0o555)
        assert forked(command, arguments, said, unprivileged, (["run", *FLAGS],)) == 1
        assert "Permission denied" in one_line(said)
        assert list(results.iterdir()) == [copy]
        assert contents(copy) == before
        for folder in (copy, results):
            folder.chmod(0o755)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["removed", "moved", "another in its place"])
def test_a_directory_that_goes_while_its_run_is_at_work_is_one_line_and_is_not_made_again(copy, begun, tmp_path, how):
    said = tmp_path / "said"
    assert resumed(copy, said, gone_at, (8, how)) == 1
    assert one_line(said) == f"error: {copy}: the run directory was removed while this run was working in it"
    assert not copy.exists() or not list(copy.iterdir())
    if how == "moved":
        moved = copy.with_name("moved")
        moved.rename(copy)
        assert_goes_on(copy, said, begun[1])


def test_standard_output_that_is_full_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "harness", "list", "--json"], stdout=full, stderr=subprocess.PIPE, text=True,
            check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "error: [Errno 28] No space left on device\n"
