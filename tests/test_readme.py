"""The README keeps its word: its commands are what CI runs, its example runs, its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.suites.reference import filled
from harness.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str = "") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_ci_runs_exactly_the_test_command():
    install_and_run, install_and_test = blocks()[:2]
    assert install_and_run.strip() == "pip install . && harness run --algo anil --geometry convex"
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == install_and_test.strip()


def test_example_runs(tmp_path):
    environment = {**os.environ, "HARNESS_DATA": str(tmp_path / "data")}
    (example,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "'mean': 0." in done.stdout


def test_the_example_goes_through_the_commands_beneath_it(tmp_path, monkeypatch, capsys):
    (example,) = blocks("python")
    (tmp_path / "mine.py").write_text(example)
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^harness .*mine:my_model.*$", README, re.MULTILINE)
    more = {"verify": "--engine native --algo anil", "time": "--inner-steps 1 --rounds 1 --memory false --meta-batch 2",
            "run": "--iterations 1 --eval-tasks 2"}  # fmt: skip
    try:
        for command in commands:
            _, door, *words = command.split()
            assert main([door, *words, *more.pop(door).split()]) == 0, capsys.readouterr().err
    finally:
        sys.modules.pop("mine", None)
    assert not more


def test_links_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_numbers_are_those_of_the_reference_files():
    assert filled(README) == README
    assert README.count("<!-- /") == 7
