"""The notebook in docs/ runs from its first cell to its last, and holds nothing but what a person typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "your-own.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]

# As a notebook: a cell after the other in one place, each ending in what it shows.
RUN = """
import ast, json, sys
here = {"__name__": "__main__"}
for cell in json.load(sys.stdin):
    *body, last = ast.parse(cell).body
    exec(compile(ast.Module(body, []), "<cell>", "exec"), here)
    if isinstance(last, ast.Expr):
        print(eval(compile(ast.Expression(last.value), "<cell>", "eval"), here).to_csv(), end="@")
    else:
        exec(compile(ast.Module([last], []), "<cell>", "exec"), here)
"""


def test_it_holds_no_output():
    assert all(
        cell["outputs"] == [] and cell["execution_count"] is None for cell in CELLS if cell["cell_type"] == "code"
    )


@pytest.mark.slow
def test_every_cell_runs_and_shows_its_table(tmp_path):
    pytest.importorskip("pandas")
    environment = {**os.environ, "HARNESS_DATA": str(tmp_path / "data"), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(CODE),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    verified, cost, reached = done.stdout.split("@")[:3]
    assert verified.startswith("algorithm,geometry,strategy,float32,float64")
    assert [line.partition(",")[0] for line in cost.splitlines()] == [
        "method",
        "anil convex",
        "fomaml nonconvex",
        "maml nonconvex",
    ]
    assert {line.split(",")[1] for line in reached.splitlines()[1:]} == {"maml", "fomaml", "anil"}
