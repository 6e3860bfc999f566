"""Tables of a comparison and their files: right numbers, and names from anywhere do no harm."""

import csv
import io
import json
import math
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from fabricated import first_below, write_grid, write_run
from one_pass import TABLE, set_in_one_pass

from harness.cli import main
from harness.report.findings.comparison import compare_runs
from harness.report.reading.runs import read_runs
from harness.report.tables.build import tables_of
from harness.report.tables.cells import Math, shown, table
from harness.report.tables.for_paper import COLUMNS, Spread, paper_table, spread_text
from harness.report.tables.writers import to_csv, to_json, to_latex, to_markdown, write_tables

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


def test_a_group_whose_inner_loop_overshoots_is_named_with_its_alpha_L(tmp_path):
    for steps, of_seed in ((1, (10.0, 15.0, 19.0)), (5, (10.0, 25.0, 40.0))):
        for seed, L in enumerate(of_seed):
            write_run(tmp_path, algo="anil", geometry="convex", inner_steps=steps, inner_lr=0.1, seed=seed, L=L)
    comparison = compare_runs(read_runs([tmp_path])[0])
    [told] = [line for line in comparison.warnings if "overshoots" in line]
    assert "N = 5" in told
    assert "alpha L reaches 2.5" in told
    assert "up to 0.08" in told
    [work] = [each for each in tables_of(comparison) if each.name == "work"]
    assert [row["αL"] for row in records(work)] == pytest.approx([1.5, 2.5])


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
    for head, *rows in (list(csv.reader(io.StringIO(to_csv(found["table2"])))), in_json(found["table2"])):
        row = next(dict(zip(head, row, strict=True)) for row in rows if "MAML" in row)
        assert row["K(ε)"] in ("", None)
        assert row["K(ε), why empty"] == "infinite"


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
        (0.38, "0.380"),
        (123.4, "123"),
        (2e-5, "2.00e-05"),
        (math.inf, "∞"),
        (None, ""),
    ],
)
def test_numbers_are_written_for_people(cell, text):
    assert shown(cell) == text


def in_json(made):
    found = json.loads(to_json([made]))["tables"][0]
    return [found["columns"], *found["rows"]]


def test_json_is_valid_and_says_what_infinity_is():
    def refuse(constant):
        raise ValueError(constant)

    made = table("name", EVIL, ["a"], [[math.inf], [math.nan], [EVIL], [1.5]], [EVIL])
    found = json.loads(to_json([made]), parse_constant=refuse)["tables"][0]
    assert found["rows"] == [[None, "infinite"], [None, "not measured"], [EVIL, None], [1.5, None]]
    assert found["columns"] == ["a", "a, why empty"]
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
        *(f"{name}.parquet" for name in grid if find_spec("pyarrow")),
    }
    for path in written:
        assert path.suffix == ".parquet" or path.read_text(encoding="utf-8")
    first = list(csv.reader((tmp_path / "new" / "folder" / "table2.csv").open(encoding="utf-8")))
    assert set(first[0]) - set(grid["table2"].columns) == {
        *("K(ε), 95 % low", "K(ε), 95 % high", "gradient (s)", "second order (s)", "outer update (s)"),
        *("accuracy (0 to 1)", "accuracy, 95 % low (0 to 1)", "accuracy, 95 % high (0 to 1)"),
        *("accuracy at K (0 to 1)", "peak (MiB)"),
    }
    assert len(first) == len(grid["table2"].rows) + 1


def test_every_number_in_a_file_for_programs_is_one(grid):
    """No interval as text, no infinity as a word: what pandas reads has numbers where there are numbers."""
    for made in grid.values():
        head, *rows = csv.reader(io.StringIO(to_csv(made)))
        assert len(set(head)) == len(head)
        for name, cells in zip(head, zip(*rows, strict=True), strict=True):
            if "low" in name.split() or "high" in name.split():
                assert all(cell == "" or math.isfinite(float(cell)) for cell in cells), name
            assert not {"inf", "∞", "nan", "one seed"} & set(cells), name


def test_parquet_has_the_numbers_of_the_csv_file_as_numbers(grid, tmp_path):
    pyarrow, pandas = pytest.importorskip("pyarrow"), pytest.importorskip("pandas")
    odd = table("odd", "odd", ["count", "K", "mixed"], [[2**70, 1, "x"], [1, math.inf, 2], [None, 2.5, None]], [])
    write_tables([*grid.values(), odd], tmp_path)
    for name in grid:
        binary, text = pandas.read_parquet(tmp_path / f"{name}.parquet"), pandas.read_csv(tmp_path / f"{name}.csv")
        assert list(binary.columns) == list(text.columns)
        for column in text.select_dtypes("number"):
            if text[column].notna().any():
                assert pandas.api.types.is_numeric_dtype(binary[column]), column
                assert binary[column].astype(float).equals(text[column].astype(float)), column
    found = pyarrow.parquet.read_table(tmp_path / "odd.parquet").to_pydict()
    assert found == {
        "count": [2.0**70, 1.0, None],
        "K": [1.0, None, 2.5],
        "K, why empty": [None, "infinite", None],
        "mixed": ["x", "2", None],
    }
    assert str(pyarrow.parquet.read_schema(tmp_path / "table2.parquet").field("N").type) == "int64"


def test_both_ends_of_an_interval_are_the_intervals_own(tmp_path):
    for seed, accuracy in enumerate((0.4, 0.5, 0.6)):
        write_run(tmp_path, seed=seed, accuracy=accuracy)
    found = tables(tmp_path)["accuracy"]
    head, row = in_json(found)
    ends = [row[head.index(f"accuracy, 95 % {end} (0 to 1)")] for end in ("low", "high")]
    half = 4.302653 * 0.1 / 3**0.5  # Student's t of two degrees of freedom
    assert ends == pytest.approx([0.5 - half, 0.5 + half], rel=1e-5)
    assert records(found)[0]["accuracy, 95 %"] == "0.252 to 0.748"


def paper(folder, *columns):
    return paper_table(compare_runs(read_runs([folder])[0]), columns)


def body(text):
    lines = text.partition("\\midrule")[2].partition("\\bottomrule")[0].strip().splitlines()
    return [[cell.strip() for cell in line.removesuffix(r"\\").split("&")] for line in lines]


def test_a_table_for_a_paper_has_a_row_a_setting_and_the_columns_asked_for(tmp_path):
    for seed in range(5):
        for algo, mean in (("maml", 0.394), ("anil", 0.412)):
            write_run(tmp_path, algo=algo, seed=seed, accuracy=mean + 0.0145 * (seed - 2), seconds=0.5, iterations=60)
    text = paper(tmp_path, "accuracy", "seconds", "seeds")
    half = f"{100 * 2.776445 * 0.0145 * (10 / 4) ** 0.5 / 5**0.5:.1f}"
    assert body(text) == [
        ["MAML", "5", rf"$39.4 \pm {half}$", "$30$", "$5$"],
        ["ANIL convex", "5", rf"$41.2 \pm {half}$", "$30$", "$5$"],
    ]
    assert r"\documentclass" not in text
    assert r"\usepackage" not in "".join(line for line in text.splitlines() if not line.startswith("%"))


def test_a_cost_that_was_not_reached_is_what_was_spent_in_vain(tmp_path):
    for seed in range(5):
        write_run(tmp_path, seed=seed, rate=0.1)
        write_run(tmp_path, seed=seed, algo="maml", rate=0.001, iterations=100)
    cells = {row[0]: row[2] for row in body(paper(tmp_path, "K"))}
    assert cells["MAML"] == "$>100$"
    assert cells["ANIL convex"][1].isdigit()


def test_a_spread_that_rounds_to_nothing_is_written_as_nothing():
    assert spread_text([Spread(50.0, 1e-27)]) == [("50", "0")]
    assert spread_text([Spread(1.69, 0.027), Spread(1.609, 0.024)]) == [("1.690", "0.027"), ("1.609", "0.024")]
    assert spread_text([Spread(30.933333333333335)]) == [("30.9", "")]


def test_an_unknown_column_is_refused_before_anything_is_written(tmp_path, capsys):
    write_run(tmp_path / "runs")
    words = ["report", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--columns", "accuracy,second"]
    assert main(words) == 2
    assert "did you mean 'seconds'? allowed: K, accuracy" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.slow
@pytest.mark.parametrize("width", [397, 234])
@pytest.mark.parametrize("columns", [(), tuple(COLUMNS)])
def test_a_paper_inputs_its_table_in_one_pass_without_an_overfull_box(tmp_path, width, columns):
    write_grid(tmp_path / "runs", steps=(1, 5), iterations=200)
    write_run(tmp_path / "runs", label=EVIL[:40], inner_lr=0.25)
    (tmp_path / "table.tex").write_text(paper(tmp_path / "runs", *columns), encoding="utf-8")
    set_in_one_pass(tmp_path, width, TABLE)


def test_accuracies_in_print_stand_beside_those_of_the_same_tasks(tmp_path):
    for algo in ("maml", "anil"):
        write_run(tmp_path, algo=algo, benchmark="fc100", ways=5, shots=5, accuracy=0.47)
    tables = {each.name: each for each in tables_of(compare_runs(read_runs([tmp_path])[0]))}
    (row,) = tables["in_print"].rows
    shown = dict(zip(tables["in_print"].columns, row, strict=True))
    assert (shown["group"], shown["accuracy"], shown["in print"]) == ("MAML (N = 5)", 0.47, 0.49)
