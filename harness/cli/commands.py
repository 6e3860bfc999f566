"""The commands about one setting or a few: ``harness run``, ``time``, ``verify`` and ``theory``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from harness.cli.options import Config, Json, Log, Names, Results, Seeds, Set, flag, with_options
from harness.cli.terminal import following
from harness.experiment.interrupts import INTERRUPTED
from harness.proof.config import ProofConfig
from harness.settings.config import RunConfig
from harness.store.records import FINISHED, Status
from harness.timing.config import TimeConfig

#: settings of a run of which the theory says nothing
_OF_TRAINING = (
    *("iterations", "outer_schedule", "eval_tasks", "eval_every", "stationarity_every", "stationarity_tasks"),
    *("checkpoint_every", "label", "eval_ways", "eval_shots", "eval_queries", "eval_inner_steps"),
)


@with_options(RunConfig)
def run(
    *,
    config: Config = None,
    set_: Set = (),
    results: Results = Path("results/runs"),
    resume: Annotated[bool, flag(name="--resume", help="go on from the last checkpoint")] = False,
    fresh: Annotated[bool, flag(name="--fresh", help="delete an earlier run of the same key")] = False,
    seeds: Seeds = None,
    log: Log = (),
    json: Json = False,
    **flags: Any,
) -> int:
    """Train, evaluate on held-out tasks and write a run directory.

    Defaults are replaced by the benchmark's, then --config, then flags, then --set. With --seeds, one run after the
    other, and their mean.
    """
    from harness.settings.layers import gather
    from harness.settings.seeds import one_each

    settings, origins = gather(config, flags, set_)
    from harness.cli.terminal.console import console, print_json, show
    from harness.cli.terminal.progress import ConsoleProgress
    from harness.cli.terminal.run import run_parts
    from harness.experiment.run import run as run_experiment

    progress = ConsoleProgress(console(to_stderr=True))
    summaries: list[dict[str, Any]] = []
    for each in one_each(settings, seeds, origins):
        summaries.append(
            run_experiment(
                each,
                results=results,
                resume=resume,
                fresh=fresh,
                progress=progress,
                log_to=_listed(log) or (),
                origins=origins,
            )
        )
        if summaries[-1]["status"] == Status.INTERRUPTED:
            break
    summary = summaries[-1]
    if seeds is None:
        document, parts = summary, run_parts(summary)
    else:  # scipy, for Student's t, takes a second to import
        from harness.cli.terminal.several import several_document, several_parts

        document, parts = several_document(summaries), several_parts(summaries)
    if json:
        print_json(document)
    show(parts, to_stderr=json)
    following.after_runs(summaries)
    if summary["status"] == Status.INTERRUPTED:
        return INTERRUPTED
    return 0 if all(each["status"] in FINISHED for each in summaries) else 1


@with_options(TimeConfig)
def time(
    *,
    config: Config = None,
    out: Annotated[Path | None, Parameter(name="--out", help="file for the JSON document, samples included")] = None,
    json: Json = False,
    **flags: Any,
) -> int:
    """Time gradient and second-order evaluations of every algorithm x N x engine, in interleaved rounds."""
    from harness.settings.layers import gather_as

    settings, origins = gather_as(TimeConfig, config, flags)
    from harness.cli.terminal.console import console, print_json, show
    from harness.cli.terminal.progress import show_lines
    from harness.cli.terminal.run import time_tables
    from harness.store.directory import write_json
    from harness.timing.session import time_meta_gradients

    with show_lines(console(to_stderr=True)) as say:
        document = time_meta_gradients(settings, say, origins=origins)
    if out is not None:
        write_json(out, document)
    if json:
        print_json(document)
    show(time_tables(document), to_stderr=json)
    following.after_time()
    return 0 if any(row["status"] == "ok" for row in document["rows"]) else 1


@with_options(ProofConfig)
def verify(
    *,
    algo: Annotated[
        Names, Parameter(help="algorithms to verify, NAME or NAME:GEOMETRY, commas between; all by default")
    ] = (),
    engine: Annotated[
        Names, Parameter(help="engines to verify, commas between; all that are installed by default")
    ] = (),
    config: Config = None,
    json: Json = False,
    **flags: Any,
) -> int:
    """Compare every algorithm and engine with independent witnesses in float64, and with peers in float32.

    On small problems; with any other option than --seed on your own model and tasks.
    """
    from harness.settings.layers import gather_as

    settings, origins = gather_as(ProofConfig, config, flags)
    from harness.cli.terminal.console import console, print_json
    from harness.cli.terminal.proof import proof_tables
    from harness.proof import verify as verify_gradients

    log = logging.getLogger("harness")
    own: dict[str, Any] = {"config": settings, "origins": origins} if settings.model_fields_set - {"seed"} else {}
    report = verify_gradients(_listed(algo), _listed(engine), seed=settings.seed, progress=log.debug, **own)
    if json:
        print_json(report)
    for part in proof_tables(report):
        console(to_stderr=json).print(part)
    for line in report.get("warnings", ()):
        console(to_stderr=json).print(f"! {line}", markup=False, highlight=False, soft_wrap=True)
    for skip in report.get("skipped", ()):
        named = (skip.get(key, "*") for key in ("engine", "algorithm", "geometry", "problem"))
        where = " ".join(name for name in named if name != "*")
        console(to_stderr=json).print(f"! {where}: {skip['reason']}", markup=False, highlight=False, soft_wrap=True)
    following.after_verify(report["ok"])
    return 0 if report["ok"] else 1


def _listed(names: tuple[str, ...]) -> list[str] | None:
    return [name.strip() for part in names for name in part.split(",")] or None


@with_options(RunConfig, unused=_OF_TRAINING, dtype="float64")
def theory(
    *,
    config: Config = None,
    set_: Set = (),
    smoothness: Annotated[
        bool, flag(name="--smoothness", help="also measure how smooth L_meta is, for every N (slow)")
    ] = False,
    advise: Annotated[
        bool, flag(name="--advise", help="also propose geometry, N and step sizes (a minute or two)")
    ] = False,
    json: Json = False,
    **flags: Any,
) -> int:
    """Print Tables 1 and 2, and estimate the constants in them on the first B tasks at initialisation."""
    from harness.settings.layers import gather

    settings, origins = gather(config, flags, set_)
    from harness.cli.terminal.console import console, print_json
    from harness.cli.terminal.theory import theory_tables
    from harness.theory.estimate import estimate

    document = estimate(settings, smooth=smoothness, advice=advise, origins=origins)
    if json:
        print_json(document)
    for part in theory_tables(document):
        console(to_stderr=json).print(part)
    return 0
