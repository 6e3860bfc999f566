"""What grows with the length of a run: resident memory, time to append to ``metrics.jsonl``, time to resume.

    python -m benchmarks.suites.long_run --out results/reference/long-run.json

ANIL on ``sinusoid``, one task a meta-iteration and one thread; Linux tells the resident memory.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from harness.experiment.progress import Silent
from harness.experiment.run import run
from harness.measure.environment import environment
from harness.settings.config import RunConfig
from harness.store.directory import RunDirectory, write_json

ITERATIONS, EVERY, RESUMPTIONS = 20_000, 1_000, 9
SETTINGS: dict[str, Any] = {
    "benchmark": "sinusoid", "meta_batch": 1, "inner_steps": 1, "eval_tasks": 10, "threads": 1, "device": "cpu"
}  # fmt: skip


class Watch(Silent):
    """Resident bytes at every so many meta-iterations, and when training begins."""

    def __init__(self) -> None:
        self.resident: dict[int, int] = {}
        self.began = 0.0

    def begin(self, config: RunConfig, done: int) -> None:
        """See :class:`harness.experiment.progress.Progress`."""
        self.began = time.perf_counter()

    def trained(self, record: dict[str, Any]) -> None:
        """See :class:`harness.experiment.progress.Progress`."""
        if record["iteration"] % EVERY == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.resident[record["iteration"]] = pages * os.sysconf("SC_PAGE_SIZE")


def train(iterations: int, results: Path) -> tuple[Path, Watch, dict[int, list[float]]]:
    """A whole run: its directory, what was seen, and seconds of each append by the thousand they belong to."""
    watch, appends = Watch(), defaultdict(list)
    original = RunDirectory.append

    def append(self: RunDirectory, name: str, records: Iterable[Mapping[str, Any]], durable: bool = False) -> None:
        lines = list(records)
        begin = time.perf_counter()
        original(self, name, lines, durable)
        if lines and name == "metrics.jsonl":
            appends[-(-lines[-1]["iteration"] // EVERY) * EVERY].append(time.perf_counter() - begin)

    with patch.object(RunDirectory, "append", append):
        summary = run(RunConfig(**SETTINGS, iterations=iterations), results=results, progress=watch)
    return Path(summary["run_dir"]), watch, dict(appends)


def resume(folder: Path, iterations: int) -> float:
    """Seconds from the call until training would go on, after all iterations of a run whose summary is lost."""
    (folder / "summary.json").unlink()
    watch, begin = Watch(), time.perf_counter()
    run(RunConfig(**SETTINGS, iterations=iterations), results=folder.parent, resume=True, progress=watch)
    return watch.began - begin


def growth(resident: Mapping[int, int]) -> float:
    """The largest change of memory after the first measurement, as a share of it."""
    first, *later = resident.values()
    return max(abs(bytes_ - first) for bytes_ in later) / first


def measure(iterations: int = ITERATIONS) -> dict[str, Any]:
    """Everything, as one document; bytes and seconds, medians where there are several."""
    with tempfile.TemporaryDirectory() as folder:
        short, _, _ = train(EVERY, Path(folder))
        long, watch, appends = train(iterations, Path(folder))
        samples: dict[int, list[float]] = {EVERY: [], iterations: []}
        for _ in range(RESUMPTIONS):  # in turns, so that what else the machine does meets both
            samples[EVERY].append(resume(short, EVERY))
            samples[iterations].append(resume(long, iterations))
        size = (long / "metrics.jsonl").stat().st_size
    return {
        "environment": environment(torch.device("cpu")),
        "settings": {**SETTINGS, "iterations": iterations},
        "metrics_bytes": size,
        "resident_bytes": watch.resident,
        "resident_growth": growth(watch.resident),
        "append_seconds": {at: statistics.median(seconds) for at, seconds in appends.items()},
        "resume_seconds": {length: statistics.median(seconds) for length, seconds in samples.items()},
        "resume_samples": samples,
    }


def main(argv: list[str] | None = None) -> int:
    """Measure and write; 1 where memory grew by more than 2 %."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args(argv).out
    document = measure()
    write_json(out, document)
    return 0 if document["resident_growth"] <= 0.02 else 1


if __name__ == "__main__":
    sys.exit(main())
