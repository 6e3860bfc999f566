"""The page of the first half hour: its commands are those of the script, run, and follow from what was said before."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from benchmarks.suites.first_half_hour import MODEL, STEPS, SUITE, page, typed, walk
from harness.cli import app

PAGE = (Path(__file__).parents[1] / "docs" / "first-half-hour.md").read_text()
#: each command of the page, and what it said
SHOWN = re.findall(r"^```\n\$ (harness [^\n]*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_every_command_of_the_page_is_typed_by_hand_or_was_said_before():
    said = ""
    assert len(SHOWN) == len(STEPS)
    for step, (command, output) in zip(STEPS, SHOWN, strict=True):
        assert typed(step, said) == command
        said = output + said
    with pytest.raises(LookupError, match="nothing has said"):
        typed(STEPS[-1], "next, to look at it:\n  xdg-open report/report.html\n")


def test_every_command_of_the_page_is_one_that_the_program_takes():
    """Its options exist; those that are named in what it says too."""
    for command, _ in SHOWN:
        app.parse_args(shlex.split(command)[1:], exit_on_error=False, print_error=False)
    assert f"```yaml\n{SUITE}```" in PAGE
    assert f"```py\n{MODEL}```" in PAGE


def test_nothing_on_the_page_is_wider_than_its_terminal_but_paths_and_commands():
    for _, output in SHOWN:
        for line in output.splitlines():
            assert len(line) <= 80 or line.startswith("  ") or " " not in line or "warning" in line, line


@pytest.mark.slow
def test_the_first_half_hour_goes_as_the_page_says(tmp_path):
    done = walk(tmp_path)
    assert [step for step, _, _ in done] == list(STEPS)
    made = page(done)
    assert made.count("```") == PAGE.count("```")
    assert str(tmp_path) not in made
