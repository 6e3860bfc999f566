"""The commands whose options are the fields of a schema: ``harness run``, ``harness time`` and ``harness theory``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from harness.config import RunConfig
from harness.options import with_options
from harness.timing.config import TimeConfig

Json = Annotated[bool, Parameter(name="--json", negative=(), help="print one JSON document on stdout")]
Config = Annotated[Path | None, Parameter(name="--config", help="YAML file with any of these settings")]
Assignments = Annotated[
    tuple[str, ...],
    Parameter(name="--set", negative=(), show_default=False, help="KEY=VALUE, such as algo_options.l2=0.01"),
]


@with_options(RunConfig)
def run(
    *,
    config: Config = None,
    set_: Assignments = (),
    results: Annotated[Path, Parameter(name="--results", help="folder of run directories")] = Path("results/runs"),
    resume: Annotated[bool, Parameter(name="--resume", negative=(), help="go on from the last checkpoint")] = False,
    fresh: Annotated[
        bool, Parameter(name="--fresh", negative=(), help="delete an earlier run of the same key")
    ] = False,
    json: Json = False,
    **flags: Any,
) -> int:
    """Train, evaluate on held-out tasks and write a run directory.

    Defaults are replaced by the benchmark's, then --config, then flags, then --set.
    """
    from harness.settings import gather

    settings, origins = gather(config, flags, set_)
    from harness.experiment import run as run_experiment
    from harness.report.console import console, print_json, run_table
    from harness.report.progress import ConsoleProgress

    progress = ConsoleProgress(console(to_stderr=True))
    summary = run_experiment(settings, results=results, resume=resume, fresh=fresh, progress=progress, origins=origins)
    if json:
        print_json(summary)
    console(to_stderr=json).print(run_table(summary))
    return 0 if summary["status"] in ("completed", "diverged") else 1


@with_options(TimeConfig)
def time(
    *,
    config: Config = None,
    out: Annotated[Path | None, Parameter(name="--out", help="file for the JSON document, samples included")] = None,
    json: Json = False,
    **flags: Any,
) -> int:
    """Time gradient and second-order evaluations of every algorithm x N x engine, in interleaved rounds."""
    from harness.settings import gather_as

    settings, _ = gather_as(TimeConfig, config, flags)
    from harness.report.console import console, print_json, time_tables
    from harness.report.progress import show_lines
    from harness.store import write_json
    from harness.timing import time_meta_gradients

    with show_lines(console(to_stderr=True)) as show:
        document = time_meta_gradients(settings, show)
    if out is not None:
        write_json(out, document)
    if json:
        print_json(document)
    for part in time_tables(document):
        console(to_stderr=json).print(part)
    return 0 if any(row["status"] == "ok" for row in document["rows"]) else 1


@with_options(RunConfig)
def theory(
    *,
    config: Config = None,
    set_: Assignments = (),
    smoothness: Annotated[
        bool, Parameter(name="--smoothness", negative=(), help="also measure how smooth L_meta is, for every N (slow)")
    ] = False,
    json: Json = False,
    **flags: Any,
) -> int:
    """Print Tables 1 and 2, and estimate the constants in them on the first B tasks at initialisation."""
    from harness.settings import gather

    settings, origins = gather(config, flags, set_)
    from harness.report.console import console, print_json
    from harness.theory.estimate import estimate
    from harness.theory.show import theory_tables

    document = estimate(settings, smooth=smoothness, origins=origins)
    if json:
        print_json(document)
    for part in theory_tables(document):
        console(to_stderr=json).print(part)
    return 0
