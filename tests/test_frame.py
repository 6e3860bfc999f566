"""``harness.results``: runs in pandas."""

from __future__ import annotations

import json

import pytest
from fabricated import write_grid, write_run

import harness
from harness import InputError


def test_a_row_a_run_with_settings_and_numbers(tmp_path):
    pandas = pytest.importorskip("pandas")
    write_grid(tmp_path, seeds=2, steps=(1, 5))
    folder = write_run(tmp_path, name="alone", accuracy=0.7, seed=9, model_options={"filters": 4})
    table = harness.results(tmp_path)
    assert isinstance(table, pandas.DataFrame)
    assert len(table) == 4 * 2 * 2 + 1
    summary = json.loads((folder / "summary.json").read_text())
    row = table.loc[str(folder)]
    assert row["accuracy.mean"] == 0.7
    assert row["model_options.filters"] == 4
    assert row["counts.gradient_entries"] == summary["counts"]["gradient_entries"]
    assert row["seconds.train"] == summary["seconds"]["train"]
    assert set(table["algo"]) == {"maml", "fomaml", "anil"}
    assert table["accuracy.mean"].dtype == float
    assert not [name for name in table.columns if name.startswith("files.")]


def test_no_run_and_no_pandas_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no such folder"):
        harness.results(tmp_path / "nowhere")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install pandas"):
        harness.results(tmp_path)
