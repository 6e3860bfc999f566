"""Grids of runs: finished ones are reused, unfinished ones go on, failures are recorded and stay their own."""

from __future__ import annotations

import dataclasses
import logging
import math
import operator
import statistics
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from harness.errors import InputError
from harness.grid.child import Place
from harness.grid.pool import Job, Pool
from harness.grid.workers import Cluster, Workers
from harness.measure.environment import environment, usable_cores
from harness.settings.config import RunConfig
from harness.settings.resolve import Resolved
from harness.settings.suites import plan
from harness.store.directory import outcome, read_json, write_json
from harness.store.environments import machine_in
from harness.store.files import refuse_link
from harness.store.records import FAILED
from harness.strangers.named import is_named

log = logging.getLogger("harness")

State = Literal["cached", "unfinished", "failed", "new"]


class Entry:
    """One run of the grid: what has been done of it, and what became of it."""

    def __init__(self, resolved: Resolved, results: Path) -> None:
        from harness.experiment.key import run_key
        from harness.experiment.setup import complete

        completed, factory = complete(resolved)
        self.config = completed.config
        self.directory = results / f"{resolved.directory}-{run_key(completed, factory)}"
        if read_json(self.directory / "summary.json") and _may_change_unseen(completed):
            self.directory = _at_its_start(self.directory, completed)
        refuse_link(self.directory)
        self.summary = outcome(self.directory) or {}
        self.resolved, self.asked = resolved, resolved.config.model_dump()

    @property
    def state(self) -> State:
        """Whether there is anything left to do."""
        status = self.summary.get("status")
        if status == "completed":
            return "cached"
        if status in FAILED:
            return "failed"
        return "unfinished" if (self.directory / "checkpoint.pt").exists() else "new"


def _may_change_unseen(resolved: Resolved) -> bool:
    """Whether model, loss or tasks are other people's, so that what they read is in no key."""
    from harness.experiment.sources import OWN

    if any(is_named(name or "") for name in (resolved.config.model, resolved.config.loss)):
        return True
    return type(resolved.benchmark).__module__.partition(".")[0] not in OWN


def _at_its_start(path: Path, resolved: Resolved) -> Path:
    """Where a run belongs whose model and tasks are as they are now, see :func:`~harness.experiment.start.place_of`."""
    from harness.experiment.setup import set_up
    from harness.experiment.start import place_of
    from harness.measure.precision import settled
    from harness.problem.models import give_back

    here = resolved.config.model_copy(update={"device": "cpu", "tf32": None})
    try:
        with settled():
            setup = set_up(dataclasses.replace(resolved, config=here))
        give_back(setup.problem.network.module)
        return place_of(path, setup.start)[0]
    except Exception as error:  # the run will say it
        log.debug("%s: %s", path, error)
        return path


def grid(suite: str, results: Path, assignments: Iterable[str] = (), seeds: Sequence[int] | None = None) -> list[Entry]:
    """Every run of ``suite`` with what is already there of it; raises :class:`InputError`."""
    planned = plan(suite, assignments, seeds)
    for reason in planned.missing:
        log.warning("left out: %s", reason)
    return [Entry(resolved, results) for resolved in planned.runs]


def compare(
    suite: str,
    *,
    results: str | Path = Path("results/runs"),
    assignments: Iterable[str] = (),
    seeds: Sequence[int] | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    retry: bool = False,
    mix: bool = False,
    watch: Callable[[list[Entry], Entry, dict[str, Any]], None] = lambda entries, entry, event: None,
) -> list[Entry]:
    """Do every run of ``suite`` that is not finished; returns all of them, each with its summary.

    Args:
        suite: name of a suite that comes with the project, or a YAML file.
        results: folder of run directories.
        assignments: ``KEY=VALUE``, over the suite's own settings.
        seeds: instead of the suite's own.
        workers: runs at a time; None: one a GPU, or as many as the suite's threads leave room for.
        scheduler: of a Dask cluster whose workers do the runs: its address, or the file that it wrote.
        retry: repeat runs that diverged, ran out of memory or crashed, or whose files were changed since.
        mix: reuse runs made on another GPU or with another torch.
        watch: is told every event.

    Raises:
        InputError: a setting cannot be met, or a finished run comes from elsewhere; nothing was run.
        KeyboardInterrupt: stopped by the user; the running ones have saved a checkpoint.
    """
    results = Path(results) if scheduler is None else Path(results).absolute()
    entries = grid(suite, results, assignments, seeds)
    with closing(workers_for(places(entries, workers), scheduler, workers)) as all_of_them:
        do(entries, all_of_them, retry=retry, mix=mix, watch=watch)
    return entries


def do(
    entries: list[Entry],
    workers: Workers,
    *,
    retry: bool = False,
    mix: bool = False,
    until: float = math.inf,
    watch: Callable[[list[Entry], Entry, dict[str, Any]], None] = lambda entries, entry, event: None,
) -> None:
    """Have ``workers`` do what is left of ``entries``; see :func:`compare`.

    At ``until``, a time of :func:`time.monotonic`, what is running saves a checkpoint and nothing more begins.
    """
    if not mix:
        _refuse_mixture(entries)
    todo = {
        id(job): (job, entry)
        for entry in entries
        if entry.state in ("new", "unfinished") or (retry and entry.state == "failed")
        for job in [Job(entry.asked, entry.directory, replaces=entry.summary if entry.state == "failed" else None)]
    }
    pool = Pool([job for job, _ in todo.values()], workers)

    def follow() -> None:
        for job, event in pool.events(until):
            entry = todo[id(job)][1]
            if event["event"] == "end":
                entry.summary = job.result
                if job.result["status"] in FAILED and "run_dir" not in job.result:  # no run was there to record it
                    write_json(entry.directory / "failure.json", job.result)
            watch(entries, entry, event)

    try:
        follow()
    except KeyboardInterrupt:
        pool.stop()
        try:
            follow()
        except KeyboardInterrupt:
            pool.stop(at_once=True)
        raise


def workers_for(places: list[Place], scheduler: str | None, most: int | None) -> Workers:
    """Who does runs: the workers of a Dask scheduler, no more than so many at a time, or processes here."""
    return Workers(places) if scheduler is None else Cluster(scheduler, most)


def places(entries: list[Entry], workers: int | None) -> list[Place]:
    """Where runs may compute side by side: a GPU each, or an equal share of the cores each."""
    return shares(entries[0].config.device, max((entry.config.threads or 0) for entry in entries), workers)


def shares(device: str, threads: int, workers: int | None) -> list[Place]:
    """See :func:`places`; ``threads`` is what a run asks for, 0 if nothing."""
    import torch

    if torch.device(device).type == "cuda":
        count = torch.cuda.device_count()
        return [Place(f"cuda:{index % count}") for index in range(workers or count)]
    cores = usable_cores()
    count = workers or (max(1, cores // threads) if threads else 1)
    return [Place(None, max(1, cores // count))] * count


def _refuse_mixture(entries: list[Entry]) -> None:
    """Seconds from another GPU or another torch do not belong in one table."""
    import torch

    cached = [entry.directory for entry in entries if entry.state == "cached"]
    here = machine_in(environment(torch.device(entries[0].config.device))) if cached else {}
    for directory in cached:
        there = machine_in(read_json(directory / "environment.json"))
        for part in ("torch", "GPU"):
            if (found := there.get(part, "unknown")) != here[part]:
                raise InputError(
                    f"{directory}: made with {part} {found}, here it is {here[part]}; "
                    "allowed: --mix, or another --results"
                )


def estimate(entries: list[Entry]) -> list[float | None]:
    """Seconds that each entry will take, from finished runs beside it of the same method and tasks; None without one.

    Scaled by meta-iterations and tasks, and to another N by a line through two or more that were measured.
    """
    folders = {entry.directory.parent for entry in entries}
    found = (read_json(path) for folder in sorted(folders) for path in sorted(folder.glob("*/summary.json")))
    done = [summary for summary in found if summary and summary.get("status") == "completed"]
    return [_estimate(entry.config, done) for entry in entries]


def _estimate(config: RunConfig, done: list[dict[str, Any]]) -> float | None:
    names = ("geometry", "benchmark", "ways", "shots", "queries", "model", "engine", "dtype")
    method = (config.algo, *(getattr(config, name) for name in names))
    points: dict[int, list[float]] = {}
    for summary in done:
        if tuple(summary.get(name) for name in ("algorithm", *names)) != method:
            continue
        try:  # a stranger's summary may hold anything
            per_task_there = float(summary["seconds"]["wall"]) / (summary["iterations"] * summary["meta_batch"])
            steps = operator.index(summary["inner_steps"])
        except (ArithmeticError, LookupError, TypeError, ValueError):
            continue
        if 0 < per_task_there < math.inf:
            points.setdefault(steps, []).append(per_task_there)
    known = {steps: statistics.median(seconds) for steps, seconds in points.items()}
    per_task = known.get(config.inner_steps)
    if per_task is None and len(known) > 1:
        slope, intercept = statistics.linear_regression(list(known), list(known.values()))
        per_task = max(min(known.values()) / 2, intercept + slope * config.inner_steps)
    return None if per_task is None else per_task * config.iterations * config.meta_batch
