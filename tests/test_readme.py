"""The README keeps its word: its commands are what CI runs, its example runs, its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.suites.reference import filled
from harness.cli import main
from harness.report.findings.entries import entries

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OWN = (ROOT / "docs" / "own-models.md").read_text()


def blocks(language: str = "", page: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_ci_runs_exactly_the_test_command():
    install_and_run, install_and_test = blocks()[:2]
    assert install_and_run.strip() == "pip install . && harness run --algo anil --geometry convex"
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == install_and_test.strip()


def test_example_runs(tmp_path):
    environment = {**os.environ, "HARNESS_DATA": str(tmp_path / "data")}
    (example,) = blocks("python", OWN)
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "'mean': 0." in done.stdout


def test_the_example_goes_through_the_commands_beneath_it(tmp_path, monkeypatch, capsys):
    (example,) = blocks("python", OWN)
    (tmp_path / "mine.py").write_text(example)
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^harness .*mine:my_model.*$", OWN, re.MULTILINE)
    more = {"verify": "--engine native --algo anil", "time": "--inner-steps 1 --rounds 1 --memory false --meta-batch 2",
            "run": "--iterations 1 --eval-tasks 2"}  # fmt: skip
    try:
        for command in commands:
            _, door, *words = command.split()
            assert main([door, *words, *more.pop(door).split()]) == 0, capsys.readouterr().err
    finally:
        sys.modules.pop("mine", None)
    assert not more


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        place, _, anchor = link.partition("#")
        if not link.startswith("http"):
            goal = (page.parent / place).resolve() if place else page
            assert goal.exists(), link
            assert not anchor or anchor in anchors(goal), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_numbers_are_those_of_the_reference_files(page):
    assert filled(page.read_text()) == page.read_text()


def test_every_generated_part_is_on_a_page():
    parts = [name for page in PAGES for name in re.findall(r"<!-- /(\w+) -->", page.read_text())]
    assert sorted(parts) == sorted(
        ["claims", "factors", "fc100", "glyphs", "listed", "omniglot", "peers", "refuted", "speed", "tuned"]
    )


def test_every_page_is_found_from_the_readme():
    linked = {link for page in PAGES for link in re.findall(r"\]\((?:docs/)?([\w-]+\.md)", page.read_text())}
    assert {page.name for page in PAGES[1:]} <= linked | {"index.md"}


def test_every_refutation_has_its_paragraph_with_what_it_does_not_show():
    text = (ROOT / "docs" / "findings.md").read_text()
    paragraphs = text.split("\n## ")[1:]
    parts = ["*The paper.*", "*Measured.*", "*Likely reason.*", "*What it does not show.*"]
    assert all(part in paragraph for paragraph in paragraphs for part in parts)
    about = {name for names in re.findall(r"<!-- about: ([\w -]+) -->", text) for name in names.split()}
    refuted = re.findall(r"^\| (ANIL[^|]*|MAML[^|]*) \|", text.partition("<!-- /refuted -->")[0], re.MULTILINE)
    assert refuted
    for sentence in refuted:
        assert any(entry.name in about for entry in entries() if _says(entry.sentence, sentence)), sentence


def _says(template, sentence):
    """Whether ``sentence`` is what a report makes of ``template``."""
    return re.fullmatch(re.sub(r"\\{\w+\\}", ".+", re.escape(template)), sentence)
