"""Two processes on one run, and run directories that lead elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml
from faulty import FLAGS, SETTINGS, command, forked, start

import harness
from harness import RunConfig
from harness.cli import main
from harness.errors import InputError
from harness.grid.compare import grid


def stopped_at(iteration: int) -> ExitStack:
    """In it, a run stands still in this meta-iteration until it gets SIGCONT."""
    from harness.experiment.train import Trainer

    original = Trainer._iterate

    def iterate(self: Trainer, number: int) -> None:
        if number == iteration:
            os.kill(os.getpid(), signal.SIGSTOP)
        original(self, number)

    stack = ExitStack()
    stack.enter_context(patch.object(Trainer, "_iterate", iterate))
    return stack


def only(results: Path) -> Path:
    [folder] = results.iterdir()
    return folder


def standing_still(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.slow
def test_the_second_process_says_who_is_at_it_and_leaves_and_a_dead_holder_holds_nothing(tmp_path):
    results, said = tmp_path / "runs", tmp_path / "said"
    arguments = ["run", *FLAGS, "--results", str(results)]
    first = start(command, arguments, tmp_path / "first", stopped_at, (6,))
    while not standing_still(first.pid):
        time.sleep(0.05)
        assert first.is_alive(), (tmp_path / "first").read_text()
    held = json.loads((only(results) / "lock.json").read_text())
    assert held["pid"] == first.pid
    before = {file.name: file.read_bytes() for file in only(results).iterdir()}
    for more in ([], ["--resume"], ["--fresh"]):
        assert forked(command, [*arguments, *more], said) == 2
        text = said.read_text()
        assert text.count("\n") == 1
        assert f"another process is working on this run: {first.pid} on {held['host']}, since {held['since']}" in text
    assert {file.name: file.read_bytes() for file in only(results).iterdir()} == before
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    assert forked(command, [*arguments, "--resume"], said) == 0
    assert (
        f"process {first.pid} on {held['host']}, which worked on it since {held['since']}, has died" in said.read_text()
    )
    assert not (only(results) / "lock.json").exists()


@pytest.mark.slow
def test_of_many_that_start_at_once_one_does_the_run_and_no_other_touches_it(tmp_path):
    results = tmp_path / "runs"
    arguments = ["run", *FLAGS, "--results", str(results)]
    processes = [start(command, arguments, tmp_path / f"said{number}") for number in range(6)]
    for process in processes:
        process.join(600)
    codes = [process.exitcode for process in processes]
    texts = [(tmp_path / f"said{number}").read_text() for number in range(6)]
    for code, text in zip(codes, texts, strict=True):
        assert code == (2 if "another process is working on this run" in text else 0), text
    did = [text for code, text in zip(codes, texts, strict=True) if code == 0 and "was finished before" not in text]
    assert len(did) == 1
    lines = [json.loads(line) for line in (only(results) / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == list(range(1, SETTINGS["iterations"] + 1))


@pytest.fixture
def elsewhere(tmp_path) -> tuple[Path, Path, RunConfig]:
    """A results folder whose run directory is a link to one outside, with an unfinished run in it."""
    config = RunConfig(**{**SETTINGS, "iterations": 2, "stationarity_every": 0})
    folder = Path(harness.run(config, results=tmp_path / "runs")["run_dir"])
    (folder / "summary.json").unlink()
    outside = tmp_path / "outside"
    shutil.move(folder, outside)
    folder.symlink_to(outside)
    return folder, outside, config


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("more", [{}, {"resume": True}, {"fresh": True}], ids=str)
def test_a_run_directory_that_is_a_link_is_refused_and_nothing_outside_is_touched(elsewhere, more):
    folder, outside, config = elsewhere
    before = contents(outside)
    with pytest.raises(InputError, match="is a symbolic link; allowed"):
        harness.run(config, results=folder.parent, **more)
    assert contents(outside) == before


def test_a_grid_with_such_a_link_in_it_is_refused_before_anything_is_run(elsewhere, tmp_path, capsys):
    folder, outside, config = elsewhere
    before = contents(outside)
    suite = tmp_path / "suite.yaml"
    base = {**SETTINGS, "iterations": 2, "stationarity_every": 0}
    suite.write_text(yaml.safe_dump({"title": "t", "base": base, "grid": [{"algo": config.algo}]}))
    folder.unlink()
    [entry] = grid(str(suite), folder.parent)
    entry.directory.symlink_to(outside)
    assert main(["compare", str(suite), "--results", str(folder.parent)]) == 2
    assert "is a symbolic link" in capsys.readouterr().err
    assert contents(outside) == before


@pytest.mark.parametrize("name", ["metrics.jsonl", "evaluations.jsonl", "checkpoint.pt", "environment.json"])
def test_files_that_are_links_are_refused_and_what_they_lead_to_stays(elsewhere, tmp_path, name):
    folder, outside, config = elsewhere
    folder.unlink()
    shutil.move(outside, folder)
    target = tmp_path / "target"
    shutil.move(folder / name, target)
    (folder / name).symlink_to(target)
    before = target.read_bytes()
    with pytest.raises(InputError, match=f"{name} is a symbolic link; allowed"):
        harness.run(config, results=folder.parent, resume=True)
    assert target.read_bytes() == before
    assert harness.run(config, results=folder.parent, fresh=True)["status"] == "completed"  # replaces the link
    assert target.read_bytes() == before


def test_a_copy_made_of_hard_links_stays_as_it_was(elsewhere, tmp_path):
    folder, outside, config = elsewhere
    folder.unlink()
    with (outside / "metrics.jsonl").open("a") as file:
        file.write("more\n")
    shutil.copytree(outside, folder, copy_function=os.link)
    before = contents(outside)
    assert harness.run(config, results=folder.parent, resume=True)["status"] == "completed"
    assert contents(outside) == before
