"""A table of one's own: every drawn row has its own target and task; what is no number is named by row and column."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from images_made import draw

from benchmarks.table import Table
from harness.cli import main
from harness.errors import InputError
from harness.problem.benchmark import SPLITS

TINY = ["--iterations=1", "--meta-batch=2", "--eval-tasks=2", "--inner-steps=1", "--shots=1", "--queries=1"]
WORDS = ["n 1", "Ä, ö", 'a "b"', "1e3", "TRUE", "null", "a.b", "ß", "X", "0x1", "猫", "--json", "%s", "'", "7"]


def write(path, columns, rows, encoding="utf-8", **form):
    text = io.StringIO()
    csv.writer(text, **form).writerows([columns, *rows])
    path.write_bytes(text.getvalue().encode(encoding))


def made(rng, path, kind):
    """Rows whose features say which row, task and class they are of; the split of each task, or None."""
    names = rng.sample(WORDS, rng.randint(9, 12))
    splits = {
        name: rng.choice([split, split[:3]] if split == "validation" else [split])
        for name, split in zip(names, [*SPLITS * 2, *rng.choices(SPLITS, k=9)], strict=False)
    }
    rows = []
    for task, name in enumerate(names):
        for label in range(3 if kind == "classification" else 1):
            for _ in range(rng.randint(4, 6)):
                row = len(rows)
                target = f"class {WORDS[label]}" if kind == "classification" else row / 7 - 3
                rows.append({"row": row, "of": task, "class": label, "shop": name, "y": target, "fold": splits[name]})
    rng.shuffle(rows)
    columns = rng.sample([*rows[0]], 6)
    lines = [[row[column] for column in columns] for row in rows]
    form = {"quoting": rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), "lineterminator": rng.choice(["\n", "\r\n"])}
    write(path, columns, lines, rng.choice(["utf-8", "utf-8-sig", "utf-16"]), **form)
    return {row["row"]: row for row in rows}


@pytest.mark.parametrize("kind", ["regression", "classification"])
@pytest.mark.parametrize("seed", range(8))
def test_every_drawn_row_has_its_own_target_and_one_task_of_its_split(tmp_path, kind, seed):
    rng = random.Random(seed)
    rows = made(rng, tmp_path / "t.csv", kind)
    split_by = rng.choice(["fold", None])
    options = {"path": str(tmp_path / "t.csv"), "task": "shop", "target": "y", "split": split_by, "kind": kind}
    benchmark = Table(Table.Options(**options, features=("class", "row", "of"), standardise=False))
    ways = rng.randint(2, 3) if kind == "classification" else 1
    shots = rng.randint(1, 3)
    benchmark.check(ways, shots, 4 - shots)
    seen = {}
    for split in SPLITS:
        batch = draw(benchmark, split, 20, ways, shots, 4 - shots, seed=seed, first=rng.randrange(100))
        for sx, sy, qx, qy in zip(*vars(batch).values(), strict=True):
            x, y = torch.cat([sx, qx]), torch.cat([sy, qy])
            drawn = [rows[int(row)] for row in x[:, 1]]
            assert len({row["row"] for row in drawn}) == len(drawn) == 4 * ways
            (shop,) = {row["shop"] for row in drawn}
            assert seen.setdefault(shop, split) == split
            if split_by:
                assert split.startswith(drawn[0]["fold"])
            for row, point, target in zip(drawn, x.tolist(), y.tolist(), strict=True):
                assert point == [row["class"], row["row"], row["of"]]
                if kind == "regression":
                    assert target == [row["y"]]
            if kind == "classification":
                labels = {row["y"]: int(label) for row, label in zip(drawn, y, strict=True)}
                assert [labels[name] for name in sorted(labels)] == list(range(ways))
                assert all(labels[row["y"]] == label for row, label in zip(drawn, y.tolist(), strict=True))
                assert sy.bincount().tolist() == [shots] * ways
    assert set(seen.values()) == set(SPLITS)


def simple(folder, change=lambda rows: None, columns=("shop", "y", "a", "b"), tasks=10):
    rng = np.random.default_rng(0)
    rows = [[f"s{task}", *map(str, rng.normal(5, 3, 3).round(6))] for task in range(tasks) for _ in range(6)]
    change(rows)
    write(folder / "t.csv", columns, rows)
    return folder / "t.csv"


def of(path, **options):
    return Table(Table.Options(path=str(path), task="shop", target="y", **options))


def test_features_are_standardised_by_training_rows_alone(tmp_path):
    path = simple(tmp_path)
    plain, scaled = of(path, standardise=False), of(path)
    train = draw(plain, "train", 300, 1, 3, 3)
    rows = torch.cat([train.support_x, train.query_x], 1).flatten(0, 1).unique(dim=0)
    assert len(rows) == 36
    for split in SPLITS:
        expected = (draw(plain, split, 9, 1, 3, 3).query_x - rows.mean(0)) / rows.std(0, correction=0)
        assert torch.allclose(draw(scaled, split, 9, 1, 3, 3).query_x, expected)


def test_several_targets_and_a_run_of_each_kind(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    simple(
        tmp_path,
        lambda rows: [row.append("abc"[number % 3]) for number, row in enumerate(rows)],
        ["shop", "y", "a", "b", "c"],
    )

    def run(*words, **options):
        values = yaml.safe_dump(
            {"path": "t.csv", "task": "shop", **options}, default_flow_style=True, width=999
        ).strip()
        words = ["run", *TINY, *words, "--benchmark=table", f"--benchmark-options={values}", "--results=runs", "--json"]
        assert main(words) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    first = run(target=["y", "a"], features=["b"])
    assert set(first["metrics"]) == {"rmse", "r2"}
    second = run("--ways=3", target="c", features=["a", "b"], kind="classification")
    assert 0 <= second["accuracy"]["mean"] <= 1
    (tmp_path / "t.csv").rename(tmp_path / "u.csv")
    assert run(path="u.csv", target=["y", "a"], features=["b"])["run_dir"] == first["run_dir"]
    (tmp_path / "u.csv").write_text((tmp_path / "u.csv").read_text().replace("s3", "s33"))
    assert run(path="u.csv", target=["y", "a"], features=["b"])["run_dir"] != first["run_dir"]


def test_parquet_is_the_same_table(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    path = simple(tmp_path)
    pandas.read_csv(path).to_parquet(tmp_path / "t.parquet")
    assert of(tmp_path / "t.parquet").version == of(path).version
    pandas.DataFrame({"shop": [1, 2], "y": [1.0, None], "a": [1, 2]}).to_parquet(tmp_path / "n.parquet")
    with pytest.raises(InputError, match="row 2, column 'y' is 'nan'"):
        of(tmp_path / "n.parquet").check(1, 1, 1)


def put(row, column, value):
    return lambda rows: rows[row].__setitem__(column, value)


BAD = {
    "no number": (put(4, 2, "x y"), {}, "row 5, column 'a' is 'x y'; allowed: finite numbers"),
    "nan": (put(7, 1, "NaN"), {}, "row 8, column 'y' is 'NaN'"),
    "infinite": (put(7, 3, "-inf"), {}, "row 8, column 'b' is '-inf'"),
    "nothing": (put(0, 3, ""), {}, "row 1, column 'b' is ''"),
    "no task": (put(2, 0, " "), {}, "row 3, column 'shop' is empty"),
    "a long row": (lambda rows: rows[3].append("1"), {}, "line 5 has 5 fields, the first line 4"),
    "few rows": (lambda rows: rows.__delitem__(slice(0, 5)), {}, "for task 's0', which has 1 rows; allowed: at most 1"),
    "no column": (lambda rows: None, {"target": "price"}, "has no column 'price'; allowed: shop, y, a, b"),
    "target as feature": (lambda rows: None, {"features": ["y", "a"]}, "features y, a; allowed"),
    "odd splits": (lambda rows: None, {"split": "a", "features": ["b"]}, "row 1 is of split"),
    "one task": (lambda rows: rows.__delitem__(slice(6, None)), {}, "its validation split has no tasks"),
    "no rows": (lambda rows: rows.clear(), {}, "has no rows"),
    "unknown option": (lambda rows: None, {"targets": "y"}, "unknown option of table 'targets'"),
    "kind": (lambda rows: None, {"kind": "ranking"}, "'ranking' is not allowed; allowed: regression, classification"),
    "no file": (lambda rows: None, {"path": "nowhere.csv"}, "nowhere.csv is no file"),
    "no path": (lambda rows: None, {"path": ""}, "--benchmark-options '{path: FILE.csv"),
    "ways": (lambda rows: None, {"kind": "classification"}, "ways 1 for task 's"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_table_that_will_not_do_is_one_line(tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    change, options, said = BAD[name]
    simple(tmp_path, change)
    options = {"path": "t.csv", "task": "shop", "target": "y", **options}
    words = ["run", *TINY, "--benchmark=table", f"--benchmark-options={json.dumps(options)}", "--results=runs"]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert not list(Path().glob("runs/*"))


def test_a_task_in_two_splits_is_refused(tmp_path):
    path = simple(
        tmp_path,
        lambda rows: [row.append("train" if n != 3 else "test") for n, row in enumerate(rows)],
        ("shop", "y", "a", "b", "fold"),
    )
    with pytest.raises(InputError, match="row 4 of task 's0' is of split test, a row before train"):
        of(path, split="fold").check(1, 1, 1)


def test_what_is_no_parquet_is_one_line(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(InputError, match=r"t\.parquet (cannot be read|is Parquet, which needs pandas and pyarrow)"):
        of(tmp_path / "t.parquet").check(1, 1, 1)
