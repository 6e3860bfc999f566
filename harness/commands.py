"""The command ``harness run``, whose options are the fields of RunConfig."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from harness.options import with_run_options


@with_run_options
def run(
    *,
    config: Annotated[Path | None, Parameter(name="--config", help="YAML file with any of these settings")] = None,
    set_: Annotated[
        tuple[str, ...],
        Parameter(name="--set", negative=(), show_default=False, help="KEY=VALUE, such as algo_options.l2=0.01"),
    ] = (),
    results: Annotated[Path, Parameter(name="--results", help="folder of run directories")] = Path("results/runs"),
    resume: Annotated[bool, Parameter(name="--resume", negative=(), help="go on from the last checkpoint")] = False,
    fresh: Annotated[
        bool, Parameter(name="--fresh", negative=(), help="delete an earlier run of the same key")
    ] = False,
    json: Annotated[bool, Parameter(name="--json", negative=(), help="print one JSON document on stdout")] = False,
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
