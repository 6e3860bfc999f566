"""harness report: one command from run directories to tables, figures and a page; faults named, the rest reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fabricated import write_run

from harness.cli import main


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(2):
        for steps in (1, 5):
            write_run(folder, algo="anil", geometry="convex", inner_steps=steps, seed=seed)
            write_run(folder, algo="maml", geometry="nonconvex", inner_steps=steps, seed=seed)
    return folder


@pytest.mark.slow
def test_everything_is_written_and_what_could_not_be_read_is_named(runs, tmp_path, capsys):
    half, torn, old = (runs / name for name in ("half", "torn", "old"))
    for folder in (half, torn, old):
        folder.mkdir()
        (folder / "config.yaml").write_text("algo: anil\n")
    (torn / "summary.json").write_text('{"schema"')
    (old / "summary.json").write_text('{"schema": 1}')
    out = tmp_path / "out"
    assert main(["report", str(runs), "--out", str(out), "--epsilon", "0.1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    for folder, word in ((half, "not finished"), (torn, "summary.json"), (old, "schema")):
        assert any(str(folder) in warning and word in warning for warning in document["warnings"]), folder
    written = {Path(file).relative_to(out).as_posix() for file in document["files"]}
    assert {"report.html", "tables.md", "tables.tex", "tables.json", "figures/figure1.pdf"} <= written
    assert all((out / name).stat().st_size for name in written)
    assert document["findings"]
    assert document["differences"] is None


@pytest.mark.slow
def test_a_set_against_itself_differs_in_nothing(runs, tmp_path, capsys):
    assert main(["report", str(runs), "--against", str(runs), "--out", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["differences"]
    assert found[0].startswith("0 of"), found


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["EMPTY"], ["no finished run there"]),
        (["nowhere"], ["nowhere: no such folder"]),
        (["RUNS", "--epsilon", "-1"], ["--epsilon -1", "a number > 0"]),
        (["RUNS", "--accuracy", "90"], ["--accuracy 90", "<= 1"]),
        (["RUNS", "--against", "EMPTY"], ["no finished run there"]),
        (["RUNS", "--out", "FILE/out"], ["--out", "a writable folder"]),
    ],
)
def test_what_cannot_be_reported_is_refused_in_one_line(arguments, words, runs, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    places = {"EMPTY": str(tmp_path / "empty"), "RUNS": str(runs), "FILE/out": str(tmp_path / "file" / "out")}
    given = [places.get(argument, argument) for argument in arguments]
    if "--out" not in given:
        given += ["--out", str(tmp_path / "out")]
    assert main(["report", *given]) == 2
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown.startswith("error: ")
    assert all(word in shown for word in words), shown
    assert not (tmp_path / "out").exists()
