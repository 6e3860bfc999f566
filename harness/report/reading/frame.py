"""Runs as a table for pandas: a row a run, a column a setting or a number."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import InputError
from harness.store.records import flat

if TYPE_CHECKING:
    import pandas

_SAID = ("schema", "files", "run_dir")


def results(*paths: str | Path) -> pandas.DataFrame:
    """Every finished run at or below ``paths`` (``results/runs`` by default), as reports read them.

    Settings are named as in ``config.yaml`` (``inner_lr``, ``model_options.filters``), numbers as in ``summary.json``
    (``accuracy.mean``, ``seconds.train``, ``counts.gradient_entries``); the index is the run's directory. What was not
    measured is missing. Raises :class:`InputError` where there is no run, or pandas is not installed.

    >>> harness.results("results/runs").groupby(["algo", "inner_steps"])["accuracy.mean"].mean()  # doctest: +SKIP
    """
    if importlib.util.find_spec("pandas") is None:
        raise InputError("results: pandas is not installed; try pip install pandas")
    import pandas

    from harness.report.reading.runs import read_runs

    runs, _ = read_runs([Path(path) for path in paths or ("results/runs",)])
    rows = [dict(flat({**run.config, **run.summary.document()})) for run in runs]
    table = pandas.DataFrame(rows, index=pandas.Index([str(run.path) for run in runs], name="run_dir"))
    return table.drop(columns=[name for name in table.columns if name.partition(".")[0] in _SAID])
