"""In a notebook: a bar while a run works, a result as a table and a curve, a report as its page."""

from __future__ import annotations

import json
import re
import shutil
import sys
from types import SimpleNamespace

import pytest
from fabricated import write_grid

import harness

CONFIG = {"benchmark": "sinusoid", "iterations": 3, "eval_tasks": 2, "inner_steps": 1, "meta_batch": 2, "device": "cpu"}
_CELLS = """
import harness
result = harness.run(harness.RunConfig({config}), results="runs")
result
""".format(config=", ".join(f"{name}={value!r}" for name, value in CONFIG.items()))


@pytest.fixture
def kernel(monkeypatch):
    """What IPython is to a program in a kernel; returns what has been displayed, each with its updates."""
    shown: list[list[dict[str, str]]] = []

    def display(data, raw, display_id):
        assert raw
        assert display_id
        shown.append([data])
        return SimpleNamespace(update=lambda data, raw: shown[-1].append(data))

    monkeypatch.setitem(
        sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=None), display=display)
    )
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    return shown


def test_a_run_draws_one_bar_in_its_place_that_ends_full(tmp_path, kernel):
    harness.run(harness.RunConfig(**CONFIG), results=tmp_path)
    [[first, *updates]] = kernel
    assert first == {"text/plain": "", "text/html": ""}
    training = [each["text/html"] for each in updates if "meta-iteration 3/3" in each["text/plain"]]
    assert training
    assert "value='3' max='3'" in training[0]
    assert "anil nonconvex: sinusoid" in training[0] or "anil convex: sinusoid" in training[0]
    assert "evaluating on test tasks 2/2" in updates[-1]["text/plain"]


def test_nobody_is_shown_a_bar_elsewhere_nor_beside_a_progress_of_ones_own(tmp_path, kernel, monkeypatch):
    from harness.experiment.progress import Silent

    harness.run(harness.RunConfig(**CONFIG), results=tmp_path / "own", progress=Silent())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))  # imported in a script
    harness.run(harness.RunConfig(**CONFIG), results=tmp_path / "script")
    assert kernel == []


def test_a_result_is_its_summary_and_shows_a_table_and_a_curve(tmp_path):
    result = harness.run(harness.RunConfig(**CONFIG), results=tmp_path)
    (folder,) = tmp_path.iterdir()
    assert json.loads(json.dumps(result)) == {
        **json.loads((folder / "summary.json").read_text()),
        "run_dir": str(folder),
    }
    shown = result._repr_html_()
    assert f"{result['loss']['mean']:.2f}"[:3] in shown
    assert "gradient entries" in shown
    assert str(folder) in shown
    assert "src='data:image/png;base64," in shown
    (folder / "metrics.jsonl").unlink()
    assert "base64" not in result._repr_html_()
    assert "gradient entries" in harness.run(harness.RunConfig(**CONFIG), results=tmp_path, fresh=True)._repr_html_()


def test_names_in_a_result_are_text(tmp_path):
    result = harness.run(harness.RunConfig(**CONFIG), results=tmp_path / "<script>alert(1)</script>")
    assert "<script>" not in result._repr_html_()


def test_a_report_from_python_is_that_of_the_command_and_shows_its_page(tmp_path):
    write_grid(tmp_path / "runs", seeds=5, steps=(1, 5), iterations=60)
    report = harness.report(tmp_path / "runs", out=tmp_path / "report", loss=[1.5])
    assert (tmp_path / "report" / "report.html").is_file()
    assert any("loss" in finding for finding in report["findings"])
    page = re.search(r'srcdoc="([^"]*)"', report._repr_html_())
    assert "&lt;title&gt;" in page[1]
    with pytest.raises(harness.InputError, match="--loss -1"):
        harness.report(tmp_path / "runs", out=tmp_path / "report", loss=[-1])
    from harness.report.write import write_report  # the room is still there

    assert callable(write_report)


def test_what_a_notebook_completes_is_what_is_public():
    assert set(dir(harness)) == {*harness.__all__, "__version__"}


@pytest.mark.slow
def test_a_real_notebook_keeps_one_bar_and_the_result_of_its_cell(tmp_path):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    cells = [nbformat.v4.new_code_cell(_CELLS)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for output in notebook.cells[0].outputs if output.output_type in ("display_data", "execute_result")]
    bar, result = (output.data["text/html"] for output in shown)
    assert "<progress value='2' max='2'" in bar
    assert "<table>" in result
    assert "data:image/png" in result


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_report_in_a_notebook_answers_inside_its_frame(tmp_path):
    api = pytest.importorskip("playwright.sync_api")
    write_grid(tmp_path / "runs", seeds=5, steps=(1, 5), iterations=60)
    report = harness.report(tmp_path / "runs", out=tmp_path / "report", loss=[1.5])
    (tmp_path / "notebook.html").write_text(f"<!doctype html><meta charset=utf-8>{report._repr_html_()}")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto((tmp_path / "notebook.html").as_uri())
        frame = page.frame_locator("iframe")
        frame.locator(".plot").first.scroll_into_view_if_needed(timeout=10_000)
        frame.locator(".plot.js-plotly-plot .main-svg").first.wait_for(timeout=10_000)
        browser.close()
    assert not errors
