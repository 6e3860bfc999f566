"""The commands that take many options: ``harness run``, ``time``, ``verify``, ``theory``, ``compare`` and so on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, validators

from harness.cli.options import read_as, with_options
from harness.cli.terminal import following
from harness.experiment.interrupts import INTERRUPTED
from harness.proof.config import ProofConfig
from harness.settings.config import RunConfig
from harness.store.records import FINISHED, Status
from harness.strangers.blame import blamed
from harness.timing.config import TimeConfig
from harness.tune.config import TuneConfig

Json = Annotated[bool, Parameter(name="--json", negative=(), help="print one JSON document on stdout")]
Set = Annotated[
    tuple[str, ...],
    Parameter(name="--set", negative=(), show_default=False, help="KEY=VALUE, such as algo_options.l2=0.01"),
]
Numbers = Annotated[tuple[float, ...], Parameter(negative=(), show_default=False, converter=read_as)]
Names = Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)]
Results = Annotated[Path, Parameter(name="--results", help="folder of run directories")]
Seeds = Annotated[str | None, Parameter(name="--seeds", help="several seeds, 0..4 or 0,1,2", show_default=False)]
Config = Annotated[Path | None, Parameter(name="--config", help="YAML file with any of these settings")]


@with_options(RunConfig)
def run(
    *,
    config: Config = None,
    set_: Set = (),
    results: Results = Path("results/runs"),
    resume: Annotated[bool, Parameter(name="--resume", negative=(), help="go on from the last checkpoint")] = False,
    fresh: Annotated[
        bool, Parameter(name="--fresh", negative=(), help="delete an earlier run of the same key")
    ] = False,
    seeds: Seeds = None,
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
    from harness.cli.terminal.console import console, print_json, run_parts, show
    from harness.cli.terminal.progress import ConsoleProgress
    from harness.experiment.run import run as run_experiment

    progress = ConsoleProgress(console(to_stderr=True))
    summaries: list[dict[str, Any]] = []
    for each in one_each(settings, seeds, origins):
        summaries.append(
            run_experiment(each, results=results, resume=resume, fresh=fresh, progress=progress, origins=origins)
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
    from harness.cli.terminal.console import console, print_json, show, time_tables
    from harness.cli.terminal.progress import show_lines
    from harness.store.directory import write_json
    from harness.timing import time_meta_gradients

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
    algo: Annotated[Names, Parameter(help="algorithms to verify, commas between; all by default")] = (),
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
    return 0 if report["ok"] else 1


def _listed(names: tuple[str, ...]) -> list[str] | None:
    return [name.strip() for part in names for name in part.split(",")] or None


def compare(
    suite: str,
    *,
    set_: Set = (),
    seeds: Seeds = None,
    results: Results = Path("results/runs"),
    workers: Annotated[
        int | None,
        Parameter(
            converter=read_as,
            validator=validators.Number(gte=1),
            help="processes at a time; unset: one a GPU, or as cores allow",
        ),
    ] = None,
    retry: Annotated[
        bool, Parameter(name="--retry", negative=(), help="repeat runs that diverged, ran out of memory or crashed")
    ] = False,
    mix: Annotated[
        bool, Parameter(name="--mix", negative=(), help="reuse runs made on another GPU or with another torch")
    ] = False,
    dry_run: Annotated[
        bool, Parameter(name="--dry-run", negative=(), help="only list the runs, and what they would take")
    ] = False,
    json: Json = False,
) -> int:
    """Do every run of a suite that is not finished yet; SUITE is a name of harness list, or a YAML file."""
    from harness.cli.terminal.console import console, print_json, show
    from harness.cli.terminal.grid import GridView, grid_document, outcome_lines, plan_table
    from harness.grid.compare import compare as run_grid
    from harness.grid.compare import grid
    from harness.settings.seeds import seeds_of

    asked = None if seeds is None else seeds_of(seeds)
    if dry_run:
        entries = grid(suite, results, set_, asked)
        show(plan_table(entries), to_stderr=json)
    else:
        with GridView(console(to_stderr=True)).shown() as watch:
            entries = run_grid(
                suite,
                results=results,
                assignments=set_,
                seeds=asked,
                workers=workers,
                retry=retry,
                mix=mix,
                watch=watch,
            )
        show(outcome_lines(entries), to_stderr=json)
    if json:
        print_json(grid_document(suite, entries))
    following.after_compare(suite, results, entries, dry_run)
    return 0 if dry_run or all(entry.summary.get("status") in FINISHED for entry in entries) else 1


@with_options(TuneConfig)
def tune(
    *,
    config: Config = None,
    set_: Set = (),
    space: Annotated[
        Path | None, Parameter(name="--space", help="YAML file of parameters: a range, a choice or a fixed value")
    ] = None,
    set_space: Annotated[
        tuple[str, ...],
        Parameter(
            name="--set-space",
            negative=(),
            show_default=False,
            help="NAME=LOW..HIGH, NAME=A,B,C or NAME=VALUE to fix it; over --space",
        ),
    ] = (),
    out: Annotated[Path, Parameter(name="--out", help="folder of the journal and of what the studies find")] = Path(
        "results/tune"
    ),
    json: Json = False,
    **flags: Any,
) -> int:
    """Search the settings of each algorithm with Optuna: equal budgets, same seeds; the same command goes on."""
    from harness.settings.layers import gather_as

    settings, origins = gather_as(TuneConfig, config, flags, set_)
    from harness.cli.terminal.console import console, print_json, show
    from harness.cli.terminal.tuning import TuneView, tune_lines
    from harness.tune.tuning import tune as run_studies

    with TuneView(console(to_stderr=True)).shown() as watch:
        results = run_studies(settings, out=out, space=space, set_space=set_space, origins=origins, watch=watch)
    if json:
        print_json(results)
    show(tune_lines(results), to_stderr=json)
    following.after_tune(out / "tuned.yaml" if any(result["best"] for result in results) else None)
    return 0 if all(result["best"] for result in results) else 1


@with_options(RunConfig, dtype="float64")
def theory(
    *,
    config: Config = None,
    set_: Set = (),
    smoothness: Annotated[
        bool, Parameter(name="--smoothness", negative=(), help="also measure how smooth L_meta is, for every N (slow)")
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

    document = estimate(settings, smooth=smoothness, origins=origins)
    if json:
        print_json(document)
    for part in theory_tables(document):
        console(to_stderr=json).print(part)
    return 0


def report(
    runs: Annotated[tuple[Path, ...], Parameter(help="run directories, or folders of them")] = (Path("results/runs"),),
    *,
    out: Annotated[Path, Parameter(name="--out", help="folder for the report")] = Path("report"),
    epsilon: Numbers = (),
    loss: Numbers = (),
    accuracy: Numbers = (),
    against: Annotated[
        Path | None, Parameter(name="--against", help="other results, to say which differences are beyond noise")
    ] = None,
    mix: Annotated[
        bool, Parameter(name="--mix", negative=(), help="let runs of different machines share a timing table")
    ] = False,
    width: Annotated[
        str, Parameter(name="--width", help="of the figures: neurips, icml, icml-wide, ieee, ieee-wide, or inches")
    ] = "neurips",
    columns: Annotated[tuple[str, ...], Parameter(name="--columns", negative=(), show_default=False)] = (),
    json: Json = False,
) -> int:
    """Write Tables 1 and 2, Figures 1 and 2 and report.html from run directories.

    Parameters
    ----------
    epsilon
        bounds on both squared norms of Definition 1; unset: chosen from the data
    loss
        target losses on the fixed tasks; unset: chosen from the data
    accuracy
        target accuracies on the fixed tasks, between 0 and 1; unset: chosen from the data
    columns
        of table.tex, the table for a paper, commas between: accuracy, seconds, seconds_per_iteration, memory, seeds,
        K, gradient_entries, second_order_entries, seconds_to_target; unset: accuracy,K,seconds,memory
    """
    with blamed("matplotlib"):
        import matplotlib  # noqa: F401  (a person's matplotlibrc is read here, and may be no text)
    from harness.cli.terminal.console import console, print_json, report_lines, show
    from harness.cli.terminal.progress import show_lines
    from harness.report.findings.costs import targets_of
    from harness.report.write import write_report

    targets = targets_of(epsilon, loss, accuracy)
    names = [name.strip() for part in columns for name in part.split(",")]
    with show_lines(console(to_stderr=True)) as say:
        document = write_report(
            runs, out, targets=targets, against=against, mix=mix, columns=names, width=width, say=say
        )
    if json:
        print_json(document)
    show(report_lines(document), to_stderr=json)
    following.after_report(document["files"][0])
    return 0
