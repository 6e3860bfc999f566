"""The commands about many runs: harness compare, tune and report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, validators

from harness.cli.options import Config, Json, Numbers, Results, Scheduler, Seeds, Set, flag, read_as, with_options
from harness.cli.terminal import following
from harness.errors import InputError
from harness.store.records import FINISHED
from harness.strangers.blame import blamed
from harness.tune.config import TuneConfig

Workers = Annotated[
    int | None,
    Parameter(
        converter=read_as,
        validator=validators.Number(gte=1),
        help="processes at a time; unset: one a GPU, or as cores allow",
    ),
]
Mix = Annotated[bool, flag(name="--mix", help="reuse runs made on another GPU or with another torch")]


def compare(
    suite: Annotated[str, Parameter(help="a name of harness list, or a YAML file")],
    /,
    *,
    set_: Set = (),
    seeds: Seeds = None,
    results: Results = Path("results/runs"),
    workers: Workers = None,
    scheduler: Scheduler = None,
    retry: Annotated[
        bool, flag(name="--retry", help="repeat runs that diverged, ran out of memory or crashed")
    ] = False,
    mix: Mix = False,
    dry_run: Annotated[bool, flag(name="--dry-run", help="only list the runs, and what they would take")] = False,
    until_decided: Annotated[
        bool, flag(name="--until-decided", help="more seeds, where they decide most, until claims are")
    ] = False,
    budget: Annotated[
        str | None,
        Parameter(name="--budget", help="of --until-decided: 2h, 90min or 300s; unset: as long as it takes"),
    ] = None,
    json: Json = False,
) -> int:
    """Do every run of a suite that is not finished yet; SUITE is a name of harness list, or a YAML file."""
    from harness.cli.terminal.console import console, print_json, show
    from harness.cli.terminal.grid import GridView, grid_document, outcome_lines, plan_table
    from harness.grid.compare import compare as run_grid
    from harness.grid.compare import grid
    from harness.settings.seeds import seeds_of

    if until_decided:
        for given, name in ((seeds is not None, "--seeds"), (dry_run, "--dry-run")):
            if given:
                raise InputError(f"{name} with --until-decided: allowed: one of them; harness plan says what it takes")
        from harness.cli.terminal.deciding import compare_until

        return compare_until(
            suite,
            json,
            budget,
            results=results,
            assignments=set_,
            workers=workers,
            scheduler=scheduler,
            retry=retry,
            mix=mix,
        )
    if budget is not None:
        raise InputError("--budget without --until-decided: allowed: both, or neither")
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
                scheduler=scheduler,
                retry=retry,
                mix=mix,
                watch=watch,
            )
        show(outcome_lines(entries), to_stderr=json)
    if json:
        print_json(grid_document(suite, entries))
    following.after_compare(suite, results, entries, dry_run)
    return 0 if dry_run or all(entry.summary.get("status") in FINISHED for entry in entries) else 1


def plan(
    suite: str,
    *,
    set_: Set = (),
    results: Results = Path("results/runs"),
    workers: Workers = None,
    mix: Mix = False,
    json: Json = False,
) -> int:
    """Say how many seeds decide each claim of a suite, and what they take, from a pilot of three seeds.

    Finished runs are the pilot; those that lack are done first.
    """
    from harness.cli.terminal.console import console, print_json, show
    from harness.cli.terminal.deciding import plan_parts
    from harness.cli.terminal.grid import GridView
    from harness.cli.terminal.progress import show_lines
    from harness.decide.plan import pilot, plan_of

    with GridView(console(to_stderr=True)).shown() as watch:
        settings = pilot(suite, results=results, assignments=set_, workers=workers, mix=mix, watch=watch)
    with show_lines(console(to_stderr=True)) as say:
        found = plan_of(settings, workers=workers, mix=mix, say=say)
    if json:
        print_json(found.document())
    show(plan_parts(found), to_stderr=json)
    following.after_plan(suite, results, found.runs)
    return 0


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
    seeds: Seeds = None,
    scheduler: Scheduler = None,
    json: Json = False,
    **flags: Any,
) -> int:
    """Search the settings of each algorithm with Optuna: equal budgets, same seeds; the same command goes on.

    With --seeds, one study of each algorithm for each: how far the search's own luck goes.
    """
    from harness.settings.layers import gather_as
    from harness.settings.seeds import one_each

    settings, origins = gather_as(TuneConfig, config, flags, set_)
    each = [one.seed for one in one_each(settings, seeds, origins)]
    from harness.cli.terminal.console import console, print_json, show
    from harness.cli.terminal.tuning import TuneView, tune_lines
    from harness.tune.tuning import tune as run_studies

    with TuneView(console(to_stderr=True)).shown() as watch:
        results = run_studies(
            settings,
            seeds=each,
            out=out,
            space=space,
            set_space=set_space,
            origins=origins,
            scheduler=scheduler,
            watch=watch,
        )
    if json:
        print_json(results)
    show(tune_lines(results), to_stderr=json)
    following.after_tune(out / "tuned.yaml" if any(result["best"] for result in results) else None)
    return 0 if all(result["best"] for result in results) else 1


def report(
    runs: Annotated[
        tuple[Path, ...],
        Parameter(negative=(), show_default=False, help="run directories, or folders of them; results/runs by default"),
    ] = (Path("results/runs"),),
    /,
    *,
    out: Annotated[Path, Parameter(name="--out", help="folder for the report")] = Path("report"),
    epsilon: Numbers = (),
    loss: Numbers = (),
    accuracy: Numbers = (),
    against: Annotated[
        Path | None, Parameter(name="--against", help="other results, to say which differences are beyond noise")
    ] = None,
    mix: Annotated[bool, flag(name="--mix", help="let runs of different machines share a timing table")] = False,
    width: Annotated[
        str, Parameter(name="--width", help="of the figures: neurips, icml, icml-wide, ieee, ieee-wide, or inches")
    ] = "neurips",
    style: Annotated[
        str,
        Parameter(name="--style", show_default=False, help="of the figures: FILE.mplstyle, or a name of matplotlib's"),
    ] = "",
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
    from harness.cli.terminal.console import console, print_json, show
    from harness.cli.terminal.progress import show_lines
    from harness.cli.terminal.run import report_lines
    from harness.report.findings.costs import targets_of
    from harness.report.write import write_report

    targets = targets_of(epsilon, loss, accuracy)
    names = [name.strip() for part in columns for name in part.split(",")]
    with show_lines(console(to_stderr=True)) as say:
        document = write_report(
            runs, out, targets=targets, against=against, mix=mix, columns=names, width=width, style=style, say=say
        )
    if json:
        print_json(document)
    show(report_lines(document), to_stderr=json)
    following.after_report(document["files"][0], document["untuned"])
    return 0
