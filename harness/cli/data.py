"""What ``harness data`` does: say which data sets are there, fetch them, and check them."""

from __future__ import annotations

from typing import Any

from harness.datasets.duplicates import summary
from harness.datasets.images import ImageBenchmark
from harness.errors import MissingData
from harness.problem.benchmark import Benchmark, data_root
from harness.settings.listing import missing
from harness.settings.registry import benchmarks
from harness.settings.resolve import options_of


def status() -> list[dict[str, Any]]:
    """One row for each benchmark: ``benchmark``, ``needs_data``, ``present``, ``where`` and ``what_to_do``.

    ``where`` is the data directory, or None where nothing is read; ``what_to_do`` is empty where nothing is missing.
    """
    rows = []
    for name in benchmarks().names():
        kind = benchmarks().get(name)
        reads = hasattr(kind, "missing")
        problem = missing(kind) if reads else None
        rows.append(
            {
                "benchmark": name,
                "needs_data": reads and not getattr(kind, "embedded", False),
                "present": problem is None,
                "where": str(data_root()) if reads else None,
                "what_to_do": problem or "",
            }
        )
    return rows


def prepare(name: str) -> dict[str, Any]:
    """Download, unpack or render the data of benchmark ``name``: ``benchmark``, ``where`` and ``note``.

    Progress goes to stderr. Raises :class:`InputError` for an unknown name or a data set that a person has to put
    there, and :class:`HarnessError` with the reason when a download fails.
    """
    benchmark = _named(name)
    if not isinstance(benchmark, ImageBenchmark):
        _refuse_missing(benchmark)
        return {"benchmark": name, "where": None, "note": "tasks are drawn from a formula; there is nothing to prepare"}
    there = benchmark.missing() is None
    where = benchmark.prepare()
    return {"benchmark": name, "where": where, "note": "was there already" if there else "fetched"}


def verify(name: str, path: str | None = None) -> dict[str, Any]:
    """Decode all data of benchmark ``name`` anew and compare them, class by class, with what is published.

    ``path`` is where they are, of a benchmark with such an option.

    ``benchmark``, ``ok``, ``faults``, and ``duplicates`` with the number of groups of identical pictures
    ``within_class``, ``across_classes`` of a split and ``across_splits``, and all of these ``groups``. Duplicates
    are no fault, as published data have them. Raises :class:`InputError` for an unknown name or for data that are
    missing or cannot be read.
    """
    benchmark = _named(name, path)
    _refuse_missing(benchmark)
    faults, groups = benchmark.examine() if isinstance(benchmark, ImageBenchmark) else ([], [])
    return {"benchmark": name, "ok": not faults, "faults": faults, "duplicates": summary(groups)}


def _named(name: str, path: str | None = None) -> Benchmark:
    kind = benchmarks().get(name)
    return kind() if path is None else kind(options_of(kind, {"path": path}, "--path"))


def _refuse_missing(benchmark: Benchmark) -> None:
    if problem := getattr(benchmark, "missing", lambda: None)():
        raise MissingData(problem)
