"""Studies of ``harness tune`` in a report: found, shown beside the runs, left out with the reason where damaged."""

from __future__ import annotations

import json

import pytest
from fabricated import write_run
from hypothesis import given
from hypothesis import strategies as st
from search import search

from harness.report.studies import read_studies, studies_table
from harness.report.write import write_report

RESULT = {
    "study": "anil-convex_fc100",
    "algo": "anil",
    "geometry": "convex",
    "objective": "loss",
    "sampler": "TPESampler(seed=0)",
    "trials": 20,
    "best": {"number": 17, "params": {"inner_lr": 0.2493, "inner_steps": 9}, "values": [0.3688]},
    "default": {"number": 0, "params": {}, "values": [0.5272]},
    "test": {"accuracy": [0.9, 0.8, None], "loss": [0.3, 0.4, None]},
}
FIGURES = {"figures": [{"title": "History", "data": [{"x": [0, 1], "y": [0.5, 0.4]}], "layout": {}}]}


def write_study(folder, result=RESULT, plots=FIGURES):
    study = folder / "anil-convex_fc100"
    write_run(study / "runs")
    for name, content in (("result.json", result), ("plots.json", plots)):
        (study / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return study


def test_a_report_shows_what_a_study_found_and_its_plots(tmp_path):
    write_study(tmp_path / "tune")
    written = write_report([tmp_path / "tune"], tmp_path / "out")
    assert not [line for line in written["warnings"] if "result.json" in line or "plots.json" in line]
    row = (tmp_path / "out" / "studies.csv").read_text().splitlines()[1]
    for text in ("ANIL convex", "0.527", "0.369", "0.85 (0.8 to 0.9), 2 seeds", "inner_lr 0.249, inner_steps 9"):
        assert text in row
    page = (tmp_path / "out" / "report.html").read_text()
    assert 'id="study-0-0"' in page
    assert '"study-0-0":{"data":[{"x":[0,1],"y":[0.5,0.4]}]' in page


def test_trials_are_compared_only_where_there_is_nothing_else(tmp_path):
    write_study(tmp_path / "tune")
    alone = write_report([tmp_path / "tune"], tmp_path / "out")
    assert "compared" not in str(alone["warnings"])
    write_run(tmp_path / "runs", algo="maml")
    both = write_report([tmp_path / "runs", tmp_path / "tune"], tmp_path / "out")
    assert "1 runs of 1 studies are shown as studies and not compared" in both["warnings"]
    assert [row.split(",")[0] for row in (tmp_path / "out" / "accuracy.csv").read_text().splitlines()[1:]] == [
        "MAML (N = 5)"
    ]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("result.json", "{", "result.json: not readable as JSON"),
        ("result.json", {**RESULT, "best": {"number": 1, "params": {"inner_lr": []}}}, "best.params.inner_lr"),
        ("result.json", {**RESULT, "best": {"number": 1, "params": {}, "values": [float("nan")]}}, "best.values.0"),
        ("plots.json", {"figures": 3}, "plots.json: no list of figures"),
        ("plots.json", {"figures": [{"title": "x", "data": "y", "layout": {}}]}, "plots.json"),
    ],
)
def test_what_cannot_be_read_of_a_study_is_named_and_left_out(name, content, reason, tmp_path):
    study = write_study(tmp_path)
    (study / name).write_text(content if isinstance(content, str) else json.dumps(content))
    studies, skipped = read_studies([tmp_path])
    assert len(skipped) == 1
    assert reason in skipped[0]
    assert "\n" not in skipped[0]
    assert [len(found.figures) for found in studies] == ([] if name == "result.json" else [0])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@search(100)
@given(key=st.sampled_from(sorted(RESULT)), value=_JSON)
def test_no_content_of_a_result_leads_to_a_traceback(key, value, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    (folder / "result.json").write_text(json.dumps({**RESULT, key: value}))
    studies, skipped = read_studies([folder])
    assert len(studies) + len(skipped) == 1
    if studies:
        assert studies_table(studies).rows
