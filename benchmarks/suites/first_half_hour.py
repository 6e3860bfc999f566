"""The first half hour as a page: every command is run in a new folder, at 80 columns, and shown with what it says.

python -m benchmarks.suites.first_half_hour docs/first-half-hour.md

What comes next is taken from what the program said before, but for what a person brings: a suite, a model.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

SUITE = """\
title: MAML and ANIL on quadratics      # what reports call it
base:                                   # settings of every run; any that --help of run has
  benchmark: quadratic
  iterations: 40
  inner_lr: 0.4
  outer_lr_w: 0.03
  outer_lr_phi: 0.03
  eval_tasks: 50
  stationarity_every: 5                 # Definition 1, for the cost to epsilon
  threads: 1
grid:                                   # an entry a grid of its own: lists in it are crossed
  - {algo: [maml, "anil:convex"], inner_steps: 5}
seeds: [0, 1, 2]                        # each setting with each of them
"""
MODEL = """\
from torch import nn


def net(input_shape, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.Tanh(), nn.Linear(32, outputs))
"""
#: what an old gym, which learn2learn imports where that is installed, prints about itself
_GYM = re.compile(
    r"^(Gym has been|Please upgrade to Gymn|Users of this version of Gym|See the migration guide).*\n", re.M
)
#: lines of an output that are shown; of a longer one its beginning and its end
_MOST, _FIRST, _LAST = 44, 20, 22


@dataclass(frozen=True)
class Step:
    """``command`` is typed, or where it is a pattern, the first such line that the program has said so far is."""

    why: str
    command: str
    said: bool = False
    #: files that a person writes before, by name
    files: tuple[tuple[str, str], ...] = ()


STEPS = (
    Step("What is there, and what can be done with it?", "harness list"),
    Step(
        "One run, cut to a minute. It says where it is, and what makes a page of it.",
        "harness run --algo anil:convex --iterations 20 --eval-tasks 50",
    ),
    Step("", r"harness report results/runs/anil-convex_glyphs\S+", True),
    Step(
        "A comparison is a suite, a YAML file. `harness list` has those that come along; this is one of our own. "
        "What would it take?",
        "harness compare mine.yaml --dry-run",
        files=(("mine.yaml", SUITE),),
    ),
    Step(
        "Three seeds carry no claim, it says, and what does: so with five. What is finished is kept.",
        r"harness compare mine.yaml --seeds \S+",
        True,
    ),
    Step("", r"harness report results/runs", True),
    Step(
        "Were the step sizes fair? The report asks, and the search below is cut to a minute.",
        r"harness tune --algo \S+ --benchmark quadratic",
        True,
    ),
    Step("", r"harness compare results/tune/tuned.yaml", True),
    Step(
        "A model of one's own. `harness list` has said how it is proved first.",
        "harness verify --model mine.py:net --algo anil:convex,maml --engine native",
        files=(("mine.py", MODEL),),
    ),
    Step("", r"harness run --model mine.py:net", True),
)
#: what keeps the searches and runs that the program names within a minute each, as a person in a hurry adds it
HURRY = {
    "harness tune": "--trials 3 --iterations 10 --test-seeds 1",
    "harness compare results/tune/tuned.yaml": "--seeds 0,1 --set iterations=10 --set eval_tasks=20",
    "harness run --model": "--iterations 20 --eval-tasks 50",
}


def typed(step: Step, said: str) -> str:
    """The command of ``step`` after the program has ``said`` so much; raises :class:`LookupError` where it has not."""
    if not step.said:
        return step.command
    found = re.findall(rf"^  ({step.command})\r?$", said, re.MULTILINE)
    if not found:
        raise LookupError(f"nothing has said: {step.command}")
    command: str = found[0]
    return " ".join([command, *(more for start, more in HURRY.items() if command.startswith(start))])


def run(command: str, folder: Path) -> tuple[int, str]:
    """Exit status and output of ``command`` in ``folder``, in a plain terminal of 80 columns."""
    settings = {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "80", "LINES": "50"}
    here = {name: value for name, value in os.environ.items() if name != "FORCE_COLOR"}
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", *command.split()[1:]],
        cwd=folder,
        env={**here, **settings},
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    found = b""
    while True:
        try:
            part = os.read(master, 1 << 16)
        except OSError:  # Linux: the other end is closed
            break
        if not part:
            break
        found += part
    os.close(master)
    text = found.decode(errors="replace").replace("\r\n", "\n").replace(str(folder), "~")
    return process.wait(), _GYM.sub("", text)


def walk(folder: Path) -> list[tuple[Step, str, str]]:
    """Every step with its command and what that said; raises :class:`RuntimeError` where one fails."""
    done, said = [], ""
    for step in STEPS:
        for name, content in step.files:
            (folder / name).write_text(content)
        command = typed(step, said)
        status, output = run(command, folder)
        if status:
            raise RuntimeError(f"{command}: {status}\n{output}")
        said = output + said  # what was said last is followed first
        done.append((step, command, output))
    return done


def page(done: list[tuple[Step, str, str]]) -> str:
    """The page in Markdown."""
    parts = [
        "# The first half hour\n",
        "From nothing to a comparison, tuned step sizes and a model of one's own, in a terminal of 80 columns.\n"
        "`python -m benchmarks.suites.first_half_hour` runs every command and writes this page. What comes next is\n"
        "what the program says itself. Settings are cut so that all of it takes minutes: the numbers say nothing.\n",
        "```\npip install .\n```\n",
    ]
    for step, command, output in done:
        if step.why:
            parts.append(step.why + "\n")
        parts += [f"`{name}`:\n\n```{name.rpartition('.')[2]}\n{content}```\n" for name, content in step.files]
        parts.append(f"```\n$ {command}\n{_cut(output)}\n```\n")
    return "\n".join(parts)


def _cut(output: str) -> str:
    lines = [line.rstrip() for line in output.strip("\n").splitlines()]
    if len(lines) > _MOST:
        lines = [*lines[:_FIRST], f"[{len(lines) - _FIRST - _LAST} lines]", *lines[-_LAST:]]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        asked.out.write_text(page(walk(Path(place))))
