"""Studies of ``harness tune`` in a report: found, shown beside the runs, left out with the reason where damaged."""

from __future__ import annotations

import base64
import gzip
import json
import re

import pytest
from fabricated import write_run
from hypothesis import given
from hypothesis import strategies as st
from search import search

from harness.errors import InputError
from harness.report.reading.studies import read_studies, studies_table
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


def write_study(folder, result=RESULT, plots=FIGURES, tested=()):
    """A study whose best trial got 90 % on test tasks, and ``tested`` with fresh seeds."""
    study = folder / "anil-convex_fc100"
    for seed, accuracy in enumerate((0.5, 0.7, 0.9)):
        write_run(study / "runs", seed=seed, accuracy=accuracy, inner_lr=0.1 * (1 + seed))
    for seed, accuracy in enumerate(tested):
        write_run(study / "test", seed=1_000_000 + seed, accuracy=accuracy, inner_lr=0.3)
    for name, content in (("result.json", result), ("plots.json", plots)):
        (study / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return study


def test_a_report_shows_what_a_study_found_and_its_plots(tmp_path):
    write_study(tmp_path / "tune")
    written = write_report([tmp_path / "tune"], tmp_path / "out")
    assert not [line for line in written["warnings"] if "result.json" in line or "plots.json" in line]
    row = (tmp_path / "out" / "studies.csv").read_text().splitlines()[1]
    for text in ("ANIL convex", "0.527", "0.369", "0.850 (0.800 to 0.900), 2 seeds", "inner_lr 0.249, inner_steps 9"):
        assert text in row
    page = (tmp_path / "out" / "report.html").read_text()
    assert 'id="study-0-0"' in page
    plots = json.loads(gzip.decompress(base64.b64decode(re.search('id="plot-data">([^<]*)<', page)[1])))
    assert plots["study-0-0"][0][0]["data"] == [{"x": [0, 1], "y": [0.5, 0.4]}]


def accuracies(out):
    """The rows of the accuracy table."""
    return [row.split(",") for row in (out / "accuracy.csv").read_text().splitlines()[1:]]


def test_what_a_study_chose_among_is_no_held_out_accuracy(tmp_path):
    write_study(tmp_path / "tune", tested=(0.61, 0.62, 0.63))
    written = write_report([tmp_path / "tune"], tmp_path / "out")
    assert [row[:3] for row in accuracies(tmp_path / "out")] == [["ANIL convex (N = 5)", "3", "0.62"]]
    assert "3 trials of studies are not compared: the best of many is no result" in written["warnings"]
    compared, study = written["findings"][-3], written["findings"][-1]
    assert compared.startswith("Held-out accuracy, each method at its best N: ANIL convex (N = 5) 62.0%")
    assert study == (
        "ANIL convex, best of 20 trials by loss: accuracy 85.0% on test tasks, trained anew with 2 fresh seeds."
    )


def test_a_study_that_tested_nothing_is_shown_and_nothing_is_compared(tmp_path):
    write_study(tmp_path / "tune", {**RESULT, "test": None})
    written = write_report([tmp_path / "tune"], tmp_path / "out")
    assert written["findings"] == ["ANIL convex, best of 20 trials by loss: not tested on test tasks."]
    assert not (tmp_path / "out" / "accuracy.csv").exists()
    assert 'id="study-0-0"' in (tmp_path / "out" / "report.html").read_text()


def test_trials_stay_out_of_a_report_of_other_runs(tmp_path):
    write_study(tmp_path / "tune", tested=(0.6,))
    write_run(tmp_path / "runs", algo="maml")
    both = write_report([tmp_path / "runs", tmp_path / "tune"], tmp_path / "out")
    assert (
        "3 trials of studies are not compared: the best of many is no result; so are 1 runs that tested them, "
        "which the studies' table has"
    ) in both["warnings"]
    assert [row[0] for row in accuracies(tmp_path / "out")] == ["MAML (N = 5)"]


@pytest.mark.parametrize("mark", ["place", "summary"])
def test_trials_are_known_by_their_place_or_their_summary_wherever_they_are_read(mark, tmp_path):
    study = write_study(tmp_path)
    runs = study / "runs"
    if mark == "summary":  # moved out of their study, or of one that has not ended
        for path in runs.glob("*/summary.json"):
            path.write_text(json.dumps({**json.loads(path.read_text()), "trial": True}))
        runs = runs.rename(tmp_path / "moved")
    with pytest.raises(InputError, match="trials of a study, nothing else"):
        write_report([runs], tmp_path / "out")
    write_run(tmp_path / "others")
    with pytest.raises(InputError, match="trials of a study, nothing else"):
        write_report([tmp_path / "others"], tmp_path / "out", against=runs)


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
