"""Tables of a comparison and their files: right numbers, and names from anywhere do no harm."""

import csv
import io
import json
import math
import shutil
import subprocess
from pathlib import Path

import pytest
from fabricated import first_below, write_grid, write_run

from harness.report.cells import Math, shown, table
from harness.report.comparison import compare_runs
from harness.report.runs import read_runs
from harness.report.tables import tables_of
from harness.report.writers import to_csv, to_json, to_latex, to_markdown, write_tables

EVIL = r"\input{/etc/passwd} <script>alert('x')</script> $x_1^2$ & 100% #1 ~ | `a` [a](b) * ¡é 中 😀"


def tables(folder: Path, **options):
    runs, skipped = read_runs([folder])
    return {each.name: each for each in tables_of(compare_runs(runs, skipped=skipped, **options))}


def records(each):
    return [dict(zip(each.columns, row, strict=True)) for row in each.rows]


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid")
    write_grid(folder, steps=(1, 5), L=1.0)
    return tables(folder)


def test_table_2_has_a_row_for_each_method_n_and_block(grid):
    rows = records(grid["table2"])
    assert [(row["method"], row["N"], row["(w, φ) of"]) for row in rows] == [
        *(
            (method, steps, f"ANIL {block}")
            for method in ("MAML", "FOMAML")
            for steps in (1, 5)
            for block in ("convex", "nonconvex")
        ),
        *((method, steps, None) for method in ("ANIL convex", "ANIL nonconvex") for steps in (1, 5)),
    ]


def test_every_setting_has_its_accuracy_of_the_completed_runs(tmp_path):
    for seed, status in enumerate(("completed", "completed", "diverged")):
        write_run(tmp_path, seed=seed, status=status, accuracy=0.5 + 0.1 * seed, inner_steps=5)
    (row,) = records(tables(tmp_path)["accuracy"])
    assert (row["group"], row["completed runs"], row["accuracy, 95 %"]) == ("ANIL convex (N = 5)", 2, "0 to 1")
    assert row["accuracy"] == pytest.approx(0.55)


def test_table_2_has_exact_entries_and_what_was_spent_until_k(grid):
    row = next(row for row in records(grid["table2"]) if (row["method"], row["N"]) == ("ANIL convex", 5))
    assert (row["gradient entries per task"], row["second-order entries per task"]) == (150, 5000)
    reached = first_below(0.03, 0.1 * 1.04, layers=2)
    assert row["target"] == "ε = 0.03"
    assert row["K(ε)"] == reached
    assert row["gradient entries to ε"] == 150 * 4 * reached
    assert row["second-order entries to ε"] == 5000 * 4 * reached
    assert row["seconds to ε"] == pytest.approx(0.01 * reached)
    assert row["gradient, s"] == pytest.approx(0.6 * 0.01 * reached)
    assert row["second order, s"] == pytest.approx(0.3 * 0.01 * reached)
    assert row["outer update, s"] == pytest.approx(0.1 * 0.01 * reached)
    assert (row["peak MiB"], row["accuracy"], row["reached"], row["seeds"]) == (50, 0.5, 5, 5)


def test_table_1_has_the_geometries_of_anil_alone(grid):
    assert {row["method"] for row in records(grid["table1"])} == {"ANIL convex", "ANIL nonconvex"}
    assert [row[0] for row in grid["table1_theory"].rows] == ["convex", "nonconvex"]


def test_factors_stand_beside_their_predictions(grid):
    row = next(row for row in records(grid["factors"]) if (row["geometry"], row["N"]) == ("convex", 5))
    assert row["gradient, predicted"] == pytest.approx(5 * 100 / (50 + 90) * 1.1**5)
    assert row["second-order, predicted"] == pytest.approx(100 / 10 * 1.1**5)
    assert (row["gradient, at equal K"], row["second-order, at equal K"]) == (600 / 150, 10)
    maml = [first_below(0.03, 0.05 * (1 + 0.02 * seed), layers=2) for seed in range(5)]
    anil = [first_below(0.03, 0.1 * (1 + 0.02 * seed), layers=2) for seed in range(5)]
    assert row["gradient factor"] == pytest.approx(600 * sorted(maml)[2] / (150 * sorted(anil)[2]))
    assert row["second-order factor"] == pytest.approx(50_000 * sorted(maml)[2] / (5000 * sorted(anil)[2]))
    assert row["κL"] == pytest.approx(0.1)


def test_a_target_that_was_not_reached_is_infinite_and_stays_in_the_table(tmp_path):
    for seed in range(5):
        write_run(tmp_path, seed=seed, rate=0.1)
        write_run(tmp_path, seed=seed, algo="maml", rate=0.1 if seed < 2 else 0.001)
    found = tables(tmp_path)
    row = next(row for row in records(found["table2"]) if row["method"] == "MAML")
    assert (row["K(ε)"], row["reached"], row["seeds"]) == (math.inf, 2, 5)
    assert row["gradient entries to ε"] == row["seconds to ε"] == row["second order, s"] == math.inf
    assert "| ∞ |" in to_markdown([found["table2"]])
    assert r"$\infty$" in to_latex([found["table2"]])
    assert ",inf," in to_csv(found["table2"])
    assert '"inf"' in to_json([found["table2"]])


def test_without_measurements_of_definition_1_there_are_still_tables(tmp_path):
    write_grid(tmp_path, seeds=1, steps=(1,), stationarity_every=0)
    found = tables(tmp_path)
    row = records(found["table2"])[-1]
    assert (row["gradient entries per task"], row["accuracy"]) == (140, 0.5)
    assert "K(ε)" not in row
    assert "no run measured Definition 1" in found["table2"].notes[0]


def test_several_problems_get_a_column_and_tables_over_them(tmp_path):
    for shots in (1, 5):
        write_grid(tmp_path, seeds=2, steps=(1,), shots=shots)
    found = tables(tmp_path)
    assert {row["problem"] for row in records(found["table2"])} == {"fc100 shots=1", "fc100 shots=5"}
    assert {row["method"]: row["problems"] for row in records(found["over_problems"])}["MAML"] == 2
    profile = {row["method"]: row["within 1× of the cheapest"] for row in records(found["profiles"])}
    assert profile == {"ANIL convex": 1, "ANIL nonconvex": 0, "FOMAML": 0, "MAML": 0}


def test_columns_that_nobody_fills_are_left_out():
    made = table("name", "Title", ["a", "b"], [[1, math.nan], [2, None]], [])
    assert (made.columns, made.rows) == (["a"], [[1], [2]])


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (56_400_300_000, "56,400,300,000"),
        (5.64e10, "5.64e+10"),
        (1234.5, "1,234"),
        (0.12345, "0.123"),
        (0.0, "0"),
        (45.0, "45"),
        (2e-5, "2.00e-05"),
        (math.inf, "∞"),
        (None, ""),
    ],
)
def test_numbers_are_written_for_people(cell, text):
    assert shown(cell) == text


def test_json_is_valid_and_says_what_infinity_is():
    def refuse(constant):
        raise ValueError(constant)

    made = table("name", EVIL, ["a"], [[math.inf], [math.nan], [EVIL], [1.5]], [EVIL])
    found = json.loads(to_json([made]), parse_constant=refuse)["tables"][0]
    assert found["rows"] == [["inf"], [None], [EVIL], [1.5]]
    assert found["title"] == EVIL


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_in_a_csv_file_is_no_formula(start):
    made = table("name", "", ["=1+1"], [[f"{start}cmd|' /C calc'!A1"], [-1.5], [-3], ["fine"]], [])
    (head,), *rows = csv.reader(io.StringIO(to_csv(made)))
    assert head == "'=1+1"
    assert rows[0][0][0] in "'\\"
    assert rows[1:] == [["-1.5"], ["-3"], ["fine"]]


def test_markdown_shows_names_as_they_are():
    text = to_markdown([table("name", EVIL, ["a", "b"], [[EVIL, 1]], [EVIL])])
    assert "<" not in text
    assert r"\[a\](b)" in text
    row = next(line for line in text.splitlines() if line.startswith("| ") and "input" in line)
    assert row.replace(r"\|", "").count("|") == 3


def test_latex_shows_names_as_they_are():
    text = to_latex([table("name", EVIL, ["a"], [[EVIL], ["[2ex]"], ["*"]], [EVIL])])
    assert r"\input" not in text
    assert r"\textbackslash{}input\{/etc/passwd\}" in text
    assert r"\$x\_1\textasciicircum{}2\$" in text
    assert "U+4E2D" in text
    assert "\n{}{[}2ex{]}" in text


def test_formulas_reach_latex_as_formulas():
    made = table("name", "", ["a"], [[Math("N^2", r"N^{2}")]], [])
    assert "$N^{2}$" in to_latex([made])
    assert "N^2" in to_markdown([made])


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.slow
def test_the_latex_document_compiles_as_it_is(grid, tmp_path):
    wide = table("evil", EVIL, ["a", EVIL], [[EVIL, math.inf], ["[2ex]", 1.5e10], ["--mix ?` !` << ,,", None]], [EVIL])
    printable = table("all", "all", ["sign"], [[f"a{chr(code)}b"] for code in range(32, 0x250)], [])
    write_tables([*grid.values(), wide, printable], tmp_path)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "tables.pdf").stat().st_size > 10_000


def test_every_table_has_its_files(grid, tmp_path):
    written = write_tables(list(grid.values()), tmp_path / "new" / "folder")
    assert {path.name for path in written} == {
        "tables.md",
        "tables.tex",
        "tables.json",
        *(f"{name}.csv" for name in grid),
    }
    for path in written:
        assert path.read_text(encoding="utf-8")
    first = list(csv.reader((tmp_path / "new" / "folder" / "table2.csv").open(encoding="utf-8")))
    assert first[0] == grid["table2"].columns
    assert len(first) == len(grid["table2"].rows) + 1


def test_accuracies_in_print_stand_beside_those_of_the_same_tasks(tmp_path):
    for algo in ("maml", "anil"):
        write_run(tmp_path, algo=algo, benchmark="fc100", ways=5, shots=5, accuracy=0.47)
    tables = {each.name: each for each in tables_of(compare_runs(read_runs([tmp_path])[0]))}
    (row,) = tables["in_print"].rows
    shown = dict(zip(tables["in_print"].columns, row, strict=True))
    assert (shown["group"], shown["accuracy"], shown["in print"]) == ("MAML (N = 5)", 0.47, 0.49)
