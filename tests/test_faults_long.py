"""Long runs: nothing that a run holds or does again and again grows with its length."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from faulty import forked

from harness.errors import HarnessError
from harness.store.directory import RunDirectory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells what a process reads and holds")

#: what the longer numbers in /proc/self/io itself may add
SAME_BYTES = 32


def long_run(iterations: int, out: Path) -> None:
    from benchmarks.suites.long_run import growth, train

    _, watch, _ = train(iterations, out.parent)
    out.write_text(json.dumps({"growth": growth(watch.resident), "measured": len(watch.resident)}))


@pytest.mark.slow
def test_memory_stays_where_it_is_after_a_thousand_meta_iterations(tmp_path):
    assert forked(long_run, 3000, tmp_path / "out.json") == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["measured"] == 3
    assert found["growth"] <= 0.02


def bytes_moved() -> tuple[int, int]:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(lines[0].split()[1]), int(lines[1].split()[1])


def directory_of(path: Path, lines: int) -> RunDirectory:
    """A run directory that was killed after a checkpoint that knows so many lines."""
    directory = RunDirectory(path)
    with directory.claim():
        directory.begin({}, {}, resume=False)
        directory.append("metrics.jsonl", ({"iteration": k, "loss": 1.0} for k in range(lines)))
        directory.save_checkpoint({})
        directory.append("metrics.jsonl", [{"iteration": lines}])
    return directory


def test_resuming_reads_no_more_of_a_long_file_than_of_a_short_one(tmp_path):
    read = {}
    for lines in (1_000, 200_000):
        directory = directory_of(tmp_path / str(lines), lines)
        state = directory.load_checkpoint()
        before = bytes_moved()[0]
        directory.restore(state)
        read[lines] = bytes_moved()[0] - before
        text = (directory.path / "metrics.jsonl").read_text()
        assert text.endswith("}\n")
        assert text.count("\n") == lines
    assert abs(read[1_000] - read[200_000]) < SAME_BYTES


def test_appending_moves_the_new_lines_alone(tmp_path):
    moved = {}
    for lines in (1_000, 200_000):
        directory = directory_of(tmp_path / str(lines), lines)
        before = bytes_moved()
        directory.append("metrics.jsonl", [{"iteration": 7}])
        moved[lines] = tuple(after - earlier for after, earlier in zip(bytes_moved(), before, strict=True))
    assert all(abs(a - b) < SAME_BYTES for a, b in zip(moved[1_000], moved[200_000], strict=True))


@pytest.mark.parametrize("harm", ["shorter", "another", "gone"])
def test_a_file_that_is_not_the_one_that_the_checkpoint_knows_is_refused_and_stays(tmp_path, harm):
    directory = directory_of(tmp_path / "run", 100)
    file = directory.path / "metrics.jsonl"
    text = file.read_text()
    if harm == "gone":
        file.unlink()
    else:
        file.write_text(text[:500] if harm == "shorter" else text.replace('"iteration": 99', '"iteration": 98'))
    before = file.read_bytes() if harm != "gone" else None
    with pytest.raises(
        HarnessError, match="not the file that the checkpoint knows; add --fresh" if before else "No such"
    ):
        directory.restore(directory.load_checkpoint())
    assert before is None or file.read_bytes() == before
