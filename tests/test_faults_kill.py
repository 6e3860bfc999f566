"""A run killed at any moment: its directory opens, it goes on, and it ends as if nobody had touched it."""

from __future__ import annotations

import json
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from faulty import FLAGS, SETTINGS, Moments, command, forked, signalled_at, train

import harness
from harness import RunConfig
from harness.errors import InputError
from harness.report.reading.runs import read_runs
from harness.store.directory import RunDirectory, load_checkpoint

#: how many runs each signal ends in the test below: at moments around file operations, and at any time at all
AIMED, TIMED = 40, 15
LOGS = ("metrics.jsonl", "evaluations.jsonl", "stationarity.jsonl")


def only(results: Path) -> Path:
    [folder] = results.iterdir()
    return folder


def without_seconds(document: dict[str, Any]) -> dict[str, Any]:
    dropped = ("seconds", "peak_memory_bytes", "run_dir", "files")  # digests of files with seconds in them
    return {key: value for key, value in document.items() if key not in dropped}


def outcome(results: Path) -> dict[str, Any]:
    """All that a finished run has to say but for seconds and memory, and the names of its files.

    But for ``lock.json``, too: of a process that died after its last word, nobody has taken it away.
    """
    folder = only(results)
    state = load_checkpoint(folder / "checkpoint.pt")
    lines = {name: [json.loads(line) for line in (folder / name).read_text().splitlines()] for name in LOGS}
    return {
        "files": sorted({file.name for file in folder.iterdir()} - {"lock.json"}),
        "summary": without_seconds(json.loads((folder / "summary.json").read_text())),
        "parameters": {part: state[part].tolist() for part in ("w", "phi")},
        **{name: [without_seconds(line) for line in found] for name, found in lines.items()},
    }


def assert_opens(results: Path) -> None:
    """Whatever was killed, each file is as it was before or as it shall be, and readers say so in words."""
    for folder in results.iterdir() if results.exists() else ():
        directory = RunDirectory(folder)
        for name in ("config.yaml", "environment.json", "summary.json"):
            if (folder / name).exists():
                assert isinstance(yaml.safe_load((folder / name).read_text()), dict)
        if directory.checkpoint_path.exists():
            state = directory.load_checkpoint()
            for name, (size, _) in state["logs"].items():
                assert not size or (folder / name).stat().st_size >= size
        for name in LOGS:
            whole = (folder / name).read_bytes().split(b"\n")[:-1] if (folder / name).exists() else []
            assert all(isinstance(json.loads(line), dict) for line in whole)
        if (directory.summary() or {}).get("status") == "completed":
            assert len(read_runs([results])[0]) == 1
        else:
            with pytest.raises(InputError, match="no finished run"):
                read_runs([results])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[dict[str, Any], Counter[str]]:
    """What a run of :func:`train` ends with, and the moments that it and its resumption go through."""
    folder = tmp_path_factory.mktemp("undisturbed")
    moments: Counter[str] = Counter()
    for name, given in (("whole", ()), ("parts", ("replace checkpoint.pt after", 3, signal.SIGTERM)), ("parts", ())):
        forked(train, folder / name, *(given or ("", 0, 0)), folder / "seen")
        moments |= Counter((folder / "seen").read_text().split("\n"))
    whole = outcome(folder / "whole")
    assert whole == outcome(folder / "parts")
    return whole, moments


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_killed_at_any_moment_it_goes_on_and_ends_as_if_undisturbed(tmp_path, undisturbed, signum, record_property):
    expected, moments = undisturbed
    chance = random.Random(int(signum))
    ended = -signal.SIGKILL if signum == signal.SIGKILL else 130
    hits: Counter[str] = Counter()
    # Every kind of moment once, then any of them, then any time; a few kills fall on the same run.
    labels = sorted(moments)
    chance.shuffle(labels)
    aims = iter([*labels, *chance.choices(labels, k=1000)])
    finished = 0
    for number in range(1000):
        results = tmp_path / str(number)
        for _ in range(chance.randint(2, 6)):
            if hits.total() - hits["any time"] < max(AIMED, len(labels)):
                label = next(aims)
                code = forked(train, results, label, chance.randint(1, 1 + moments[label] // 3), signum)
            else:
                label, code = "any time", forked(train, results, after=chance.uniform(0, 0.3), signum=signum)
            assert code in (0, ended, -signum), label
            hits.update([label] if code else [])
            assert_opens(results)
        assert forked(train, results) == 0
        assert outcome(results) == expected
        finished += 1
        if hits["any time"] >= TIMED:
            break
    print(f"{signum.name}: {hits.total()} hits on {finished} runs: {dict(sorted(hits.items()))}")
    record_property("hits", dict(hits))
    assert hits.total() >= 50
    for file in ("checkpoint.pt", "summary.json", *LOGS, "environment.json", "lock.json"):
        assert any(file in label for label in hits), file
    assert any("torn" in label for label in hits)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signals", "saved"),
    [
        ((signal.SIGINT,), 5),
        ((signal.SIGTERM,), 5),
        ((signal.SIGINT, signal.SIGTERM), 5),  # as a worker has it when Ctrl-C reaches it and its parent too
        ((signal.SIGINT, signal.SIGINT), 4),
    ],
)
def test_one_interrupt_ends_with_a_checkpoint_two_end_at_once(tmp_path, undisturbed, signals, saved):
    arguments, said = ["run", *FLAGS, "--results", str(tmp_path / "runs")], tmp_path / "said"
    assert forked(command, arguments, said, signalled_at, (5, *signals)) == 130
    folder = only(tmp_path / "runs")
    assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"
    assert "interrupted; add --resume to go on" in said.read_text()
    # a checkpoint is due at even meta-iterations; after one signal there is another
    assert load_checkpoint(folder / "checkpoint.pt")["totals"]["iteration"] == saved
    assert forked(command, [*arguments, "--resume"], said) == 0
    assert outcome(tmp_path / "runs") == undisturbed[0]


@pytest.mark.parametrize("name", ["run", "compare", "tune"])
def test_an_interrupted_command_exits_with_130_and_one_line(name, monkeypatch, capsys):
    from harness.cli import main

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    for target in ("harness.experiment.run.run", "harness.grid.compare.compare", "harness.tune.tuning.tune"):
        monkeypatch.setattr(target, interrupted)
    assert main([name, "quick"] if name == "compare" else [name]) == 130
    lines = [line.strip() for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert "error: interrupted" in lines
    assert lines[-1].startswith(f"harness {name}")  # what goes on with it


@pytest.mark.slow
def test_a_signal_while_the_last_checkpoint_is_written_is_not_lost(tmp_path):
    last = SETTINGS["iterations"] // SETTINGS["checkpoint_every"]
    assert forked(train, tmp_path, "replace checkpoint.pt before", last, signal.SIGTERM) == 130
    assert json.loads((only(tmp_path) / "summary.json").read_text())["status"] == "interrupted"
    assert forked(train, tmp_path) == 0


def test_what_matters_is_on_the_disk_before_it_takes_its_name(tmp_path):
    done: list[tuple[str, str]] = []

    class Order(Moments):
        def _moment(self, operation: str, name: str, when: str) -> None:
            if when == "after":
                done.append((operation, name))

    with Order().watched():
        harness.run(RunConfig(**SETTINGS), results=tmp_path)
    replaced = [index for index, (operation, _) in enumerate(done) if operation == "replace"]
    assert {done[index][1] for index in replaced} >= {
        "config.yaml",
        "environment.json",
        "checkpoint.pt",
        "summary.json",
    }
    for index in replaced:
        name = done[index][1]
        assert done[index - 2 : index + 2] == [("write", name), ("fsync", name), ("replace", name), ("fsync", "folder")]
        for log in LOGS if name == "checkpoint.pt" else ():  # what it knows of them, too
            assert [operation for operation, file in done[:index] if file == log][-1:] in ([], ["fsync"])
