"""Which commit a result comes from: that of the code that runs, and of no other; unknown where nobody says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.measure import checkout
from harness.measure.checkout import PACKAGES, git_state

ROOT = Path(__file__).parents[1]


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=n", "-c", "user.email=e@e"]
    return subprocess.run(
        ["git", "-C", folder, *who, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def repository(folder: Path) -> Path:
    for package in PACKAGES:
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text("")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "m")
    return folder


@pytest.fixture
def clone(tmp_path):
    return repository(tmp_path / "clone")


def state(root: Path) -> dict:
    return git_state.__wrapped__(root)


def test_a_checkout_has_its_commit_and_says_what_is_changed(clone):
    commit = git(clone, "rev-parse", "HEAD")
    assert state(clone) == {"commit": commit, "dirty": False}
    (clone / "notes.txt").write_text("no code")
    assert state(clone) == {"commit": commit, "dirty": False}
    (clone / "algorithms" / "new.py").write_text("")
    assert state(clone) == {"commit": commit, "dirty": True}


@pytest.mark.parametrize("names", [("GIT_DIR",), ("GIT_DIR", "GIT_WORK_TREE"), ("GIT_INDEX_FILE",)])
def test_variables_of_git_lead_to_no_other_repository(clone, tmp_path, monkeypatch, names):
    other = repository(tmp_path / "other")
    git(other, "commit", "-q", "--allow-empty", "-m", "another")
    there = {"GIT_DIR": other / ".git", "GIT_WORK_TREE": other, "GIT_INDEX_FILE": other / "nothing"}
    expected = {"commit": git(clone, "rev-parse", "HEAD"), "dirty": False}
    for name in names:
        monkeypatch.setenv(name, str(there[name]))
    assert state(clone) == expected


def test_a_folder_that_is_no_checkout_of_its_own_has_not_that_of_the_one_around_it(clone):
    inner = clone / "inner"
    for package in PACKAGES:
        (inner / package).mkdir(parents=True)
    (inner / ".git").mkdir()
    found = state(inner)
    assert (found["commit"], found["dirty"]) == (None, None)
    assert "no checkout of its own" in found["why"]


@pytest.mark.parametrize("fault", ["missing", "dubious", "half"])
def test_where_git_does_not_answer_nothing_is_called_unchanged(clone, tmp_path, monkeypatch, fault):
    scripts = {
        "dubious": "echo \"fatal: detected dubious ownership in repository at 'x'\" >&2; exit 128",
        "half": f'case "$*" in *status*) echo "fatal: no index" >&2; exit 128;; esac; exec {shutil.which("git")} "$@"',
    }
    (tmp_path / "bin").mkdir()
    if fault in scripts:
        (tmp_path / "bin" / "git").write_text(f"#!/bin/sh\n{scripts[fault]}\n")
        (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = state(clone)
    assert found["dirty"] is None
    expected = {"missing": "git: No such file", "dubious": "dubious ownership", "half": "no index"}[fault]
    assert expected in found["why"]
    assert len(found["contents"]) == 16


def test_what_was_built_knows_its_commit_and_whether_it_was_changed_since(clone, tmp_path):
    built = tmp_path / "built"
    for package in PACKAGES:
        shutil.copytree(clone / package, built / package)
    unknown = state(built)
    assert (unknown["commit"], unknown["dirty"], unknown["why"]) == (None, None, "not installed from a checkout")
    (built / "harness" / "measure").mkdir()
    checkout.leave(clone, built)
    commit = git(clone, "rev-parse", "HEAD")
    assert state(built) == {"commit": commit, "dirty": False}
    again = tmp_path / "again"  # as from an archive that was made of it
    shutil.copytree(built, again)
    checkout.leave(built, again)
    assert state(again) == {"commit": commit, "dirty": False}
    (built / "harness" / "__init__.py").write_text("1")
    assert state(built) == {"commit": commit, "dirty": True}
    (built / checkout.LEFT).write_text("[")
    assert state(built)["commit"] is None


@pytest.mark.slow
def test_installed_from_a_clone_it_has_the_clones_commit(tmp_path):
    """The README's first command: ``pip install .`` in a clone."""
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "results", "tests", "*.egg-info"))
    git(source, "init", "-q")
    git(source, "add", ".")
    git(source, "commit", "-q", "-m", "m")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--target", target, source]
    subprocess.run(command, check=True, capture_output=True)
    program = "from harness.measure.checkout import git_state; print(git_state())"
    environment = {**os.environ, "PYTHONPATH": str(target)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str({"commit": git(source, "rev-parse", "HEAD"), "dirty": False})
