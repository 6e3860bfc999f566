"""Figures show what was measured, name their statistic, and are the same bytes from the same runs."""

from __future__ import annotations

import itertools
import re
import shutil
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import report_data
from fabricated import write_grid, write_run
from numpy.testing import assert_allclose
from one_pass import TABLE, set_in_one_pass

import harness
from harness.errors import InputError
from harness.report import figures
from harness.report.charts import charts_of, on_paper
from harness.report.charts.accuracy import front
from harness.report.charts.chart import Chart, Line, Panel
from harness.report.charts.curves import POINTS, average, trailing_mean
from harness.report.figures import draw, write_figures
from harness.report.figures.look import SETTINGS
from harness.report.figures.ticks import number
from harness.report.figures.width import inches
from harness.report.findings.comparison import compare_runs
from harness.report.findings.costs import Target
from harness.report.write import write_report

ANIL = report_data.METHODS[:2]


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """ANIL with five seeds, of which nonconvex N = 10 loses one and N = 30 all; MAML and FOMAML with three."""
    folder = tmp_path_factory.mktemp("grid")
    report_data.write_grid(folder, steps=(1, 3, 5, 10, 30), methods=ANIL)
    report_data.write_grid(folder, steps=(1, 5), seeds=3, methods=report_data.METHODS[2:])
    return {(chart.family, chart.variant): chart for chart in charts_of(report_data.compare(folder))}


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Convex ANIL with two N, really trained."""
    folder = tmp_path_factory.mktemp("real")
    for n in (1, 3):
        config = harness.RunConfig(
            benchmark="sinusoid",
            inner_steps=n,
            iterations=20,
            meta_batch=2,
            stationarity_every=5,
            stationarity_tasks=4,
            eval_tasks=4,
            inner_lr=0.01,
            threads=1,
        )
        harness.run(config, results=folder)
    return report_data.compare(folder, [Target("loss", 1e9), Target("epsilon", 1e-12)])


def lines_of(chart, quantity):
    (panel,) = [panel for panel in chart.panels if panel.quantity == quantity]
    return panel, {line.name: line for line in panel.lines}


@pytest.fixture
def only_svg(monkeypatch):
    """The quickest format alone."""
    monkeypatch.setattr(figures, "FORMATS", {"svg": figures.FORMATS["svg"]})


def test_real_runs_give_figures_and_leave_the_settings_of_matplotlib_alone(real, only_svg, tmp_path):
    before = dict(matplotlib.rcParams)
    written = write_figures(real, tmp_path / "new" / "folder")
    assert [path.name for path in written] == [
        "figure1.svg",
        "cost-epsilon-1e-12.svg",
        "cost-loss-1e+09.svg",
        "resources.svg",
        "captions.txt",
    ]
    assert dict(matplotlib.rcParams) == before


@pytest.mark.slow
def test_the_same_runs_give_the_same_bytes_in_every_format(real, tmp_path):
    first, again = (write_figures(real, tmp_path / name) for name in "ab")
    assert {path.suffix for path in first} == {".pdf", ".png", ".svg", ".txt"}
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_text_in_a_pdf_is_text_in_an_embedded_truetype_font(real, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "FORMATS", {"pdf": figures.FORMATS["pdf"]})
    first = compare_runs(real.groups[0].runs)
    content = write_figures(first, tmp_path)[0].read_bytes()
    assert b"/FontFile2" in content
    assert b"/ToUnicode" in content
    assert b"/Type3" not in content
    assert b"CreationDate" not in content


def test_a_curve_of_one_real_seed_is_the_trailing_mean_of_its_losses(real):
    alone = real.groups[0].runs[:1]
    (chart, *_) = charts_of(compare_runs(alone, []))
    panel, lines = lines_of(chart, "meta-iterations")
    (line,) = lines.values()
    loss = alone[0].metrics["loss"]
    assert_allclose(line.x, np.arange(1, 21))
    assert_allclose(line.y, loss)  # 20 iterations: no smoothing
    assert line.low is None
    assert "a single seed" in chart.statistic
    assert (panel.x_label, panel.y_label) == ("meta-iterations", "training loss")


def test_figures_1_and_2_have_a_line_for_each_n_against_iterations_and_seconds(grid):
    for family, title in (("figure1", "Figure 1: ANIL convex"), ("figure2", "Figure 2: ANIL nonconvex")):
        chart = grid[family, ""]
        assert chart.title == title
        assert [name.split(" (")[0] for name in chart.names] == [f"N = {n}" for n in (1, 3, 5, 10, 30)]
        assert [panel.x_label for panel in chart.panels] == ["meta-iterations", "running time (s)"]


def test_a_loss_figure_names_its_mean_its_band_its_seeds_and_its_smoothing(grid):
    statistic = grid["figure1", ""].statistic
    assert "mean over 5 seeds" in statistic
    assert "95 % interval of the mean (Student's t)" in statistic
    assert "mean of the last 3 meta-iterations" in statistic
    assert "Band of fewer than 5 seeds: their range." in grid["loss-methods", "N = 5"].statistic


def test_diverged_runs_end_with_a_cross_and_are_named_and_stay_out_of_the_mean(grid):
    chart = grid["figure2", ""]
    _, lines = lines_of(chart, "meta-iterations")
    assert {"N = 10 (1 of 5 diverged)", "N = 30 (5 of 5 diverged)"} < set(lines)
    panel = chart.panels[0]
    ten = [line for line in panel.lines if line.name.startswith("N = 10")]
    assert [line.kind for line in ten] == ["curve", "stopped"]
    assert ten[0].x[-1] == 60
    assert ten[1].x[-1] == 29  # the last finite loss before iteration 30
    axes = draw(chart).axes[0]
    crosses = [line.get_xdata()[-1] for line in axes.lines if line.get_marker() == "x"]
    assert crosses == [29] * 6


def test_methods_stand_side_by_side_where_they_share_n(grid):
    assert [(variant, chart.on_paper) for (family, variant), chart in grid.items() if family == "loss-methods"] == [
        ("N = 5", True),
        *((f"N = {n}", False) for n in (1, 3, 10, 30)),
    ]
    assert grid["loss-methods", "N = 5"].names == tuple(
        f"{method}, N = 5" for method in ("MAML", "FOMAML", "ANIL convex", "ANIL nonconvex")
    )


def test_without_a_shared_n_methods_share_one_figure(tmp_path):
    report_data.write_grid(tmp_path, steps=(5,), seeds=1, methods=ANIL[:1])
    report_data.write_grid(tmp_path, steps=(3,), seeds=1, methods=ANIL[1:])
    charts = charts_of(report_data.compare(tmp_path, []))
    (methods,) = [chart for chart in charts if chart.family == "loss-methods"]
    assert methods.names == ("ANIL convex, N = 5", "ANIL nonconvex, N = 3")


def test_what_was_never_reached_is_named_and_stands_at_the_top_edge(grid):
    chart = grid["cost", "ε = 0.01"]
    panel, lines = lines_of(chart, "gradient entries")
    line = lines["ANIL nonconvex (not reached at N = 1, 30)"]
    assert line.unreached.tolist() == [1, 30]
    assert "Triangles at the top edge: never reached." in chart.statistic
    axes = draw(chart).axes[1]
    at_top = [marks.get_offsets()[:, 0].tolist() for marks in axes.collections if top_edge(marks)]
    assert [1.0, 30.0] in at_top
    assert np.isfinite(panel.y_limits).all()


def top_edge(marks):
    return len(marks.get_offsets()) and (marks.get_offsets()[:, 1] == 1.0).all()


def test_fomaml_without_second_order_stands_at_the_bottom_edge_of_a_logarithmic_axis(grid):
    panel, lines = lines_of(grid["cost", "ε = 0.1"], "second-order entries")
    assert panel.y_log
    assert panel.zeros(lines["FOMAML (not reached at N = 1)"]).tolist() == [5]
    assert "bottom edge: zero" in grid["cost", "ε = 0.1"].statistic


def test_a_fit_that_does_not_hold_says_so_in_the_legend_and_why_below(grid):
    chart = grid["cost", "ε = 0.1"]
    (nonconvex,) = [name for name in chart.names if name.startswith("theory, ANIL nonconvex")]
    assert nonconvex.endswith("(does not hold)")
    assert "Theory does not hold for ANIL nonconvex: R²" in chart.statistic
    _, lines = lines_of(chart, "meta-iterations")
    (fit,) = [line for name, line in lines.items() if name.startswith("theory, ANIL convex")]
    measured = lines["ANIL convex"]
    assert_allclose(np.interp(measured.x, fit.x, fit.y), measured.y, rtol=0.2)


def test_a_fit_carries_over_to_entries_by_what_an_iteration_costs(grid):
    chart = grid["cost", "ε = 0.1"]
    name = next(name for name in chart.names if name.startswith("theory, ANIL convex"))
    fits = {panel.quantity: lines_of(chart, panel.quantity)[1][name].y for panel in chart.panels}
    each = 4 * (5 * 10 + 100)  # B (N n_w + n)
    at_5 = np.argmin(np.abs(lines_of(chart, "seconds")[1][name].x - 5))
    assert_allclose(fits["gradient entries"][at_5] / fits["meta-iterations"][at_5], each, rtol=1e-2)


def test_memory_and_time_are_given_with_their_units_from_zero(grid):
    panels = grid["resources", ""].panels
    assert [panel.y_label for panel in panels] == ["peak memory (MiB)", "seconds per meta-iteration"]
    assert panels[0].y_limits[0] == 0
    _, lines = lines_of(grid["resources", ""], "memory")
    assert lines["MAML"].y.tolist() == [50, 50]


def test_the_front_keeps_what_nothing_beats_in_both():
    cost, value = np.array([3.0, 1.0, 2.0, 2.0, 4.0]), np.array([0.6, 0.5, 0.4, 0.55, 0.6])
    assert front(cost, value).tolist() == [1, 3, 0]


def test_points_of_the_accuracy_figure_are_labelled_by_n_and_the_front_is_drawn(grid):
    chart = grid["accuracy-cost", ""]
    _, lines = lines_of(chart, "gradient entries")
    assert lines["MAML"].labels == ("1", "5")
    assert lines["Pareto front"].y.tolist() == sorted(lines["Pareto front"].y.tolist())
    assert "95 % interval of it (Student's t)" in chart.statistic


def test_several_problems_have_a_file_each_and_regression_has_no_accuracy_figure(only_svg, tmp_path):
    for benchmark, accuracy in (("fc100", 0.5), ("sinusoid", None)):
        write_run(tmp_path / "runs", benchmark=benchmark, accuracy=accuracy)
    written = write_figures(report_data.compare(tmp_path / "runs", []), tmp_path / "out")
    assert [path.stem for path in written] == [
        "figure1",
        "figure1-fc100",
        "resources-fc100",
        "accuracy-cost-fc100",
        "figure1-sinusoid",
        "resources-sinusoid",
        "captions",
    ]


def test_names_with_mathematics_and_slashes_are_drawn_as_they_are_and_stay_in_the_folder(only_svg, tmp_path):
    write_run(tmp_path / "runs", name="a", benchmark="../$x_{\n</b>", accuracy=None)
    write_run(tmp_path / "runs", name="b", benchmark="../$y", accuracy=None)
    comparison = report_data.compare(tmp_path / "runs", [])
    written = write_figures(comparison, tmp_path / "out")
    assert {path.parent for path in written} == {tmp_path / "out"}
    captions = (tmp_path / "out" / "captions.txt").read_text()
    assert r"Figure 1: ANIL convex (../$x_{\n</b>)" in captions


@pytest.mark.parametrize("width", [3.25, 5.5])
def test_a_figure_holds_nothing_but_panels_and_a_legend_and_fits_its_width(grid, width):
    """At the width of print: 8 or 9 points, no tick's label on another, no two lines of one colour."""
    for chart in grid.values():
        with matplotlib.rc_context(SETTINGS):
            figure = draw(chart, width)
        assert not figure.texts
        assert figure.get_figwidth() == pytest.approx(width)
        (legend,) = figure.legends
        box = legend.get_window_extent()
        assert box.x0 >= -1, chart.family
        assert box.x1 <= figure.bbox.x1 + 1, chart.family
        assert box.y0 >= -1, chart.family
        assert box.y1 <= min(axes.get_tightbbox().y0 for axes in figure.axes) + 1, chart.family
        for axes in figure.axes:
            written = [axes.xaxis.label, axes.yaxis.label, *axes.texts, *legend.get_texts()]
            for axis, ends in ((axes.xaxis, ("x0", "x1")), (axes.yaxis, ("y0", "y1"))):
                labels = [tick.label1 for tick in axis.get_major_ticks() if tick.label1.get_text()]
                assert len(labels) >= 2
                boxes = sorted(tuple(getattr(label.get_window_extent(), end) for end in ends) for label in labels)
                assert all(before[1] < after[0] for before, after in itertools.pairwise(boxes)), chart.family
                written += labels
            assert {text.get_fontsize() for text in written} <= {8.0, 9.0}
        colours = [
            handle.get_color()
            for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True)
            if not text.get_text().startswith("theory")
        ]
        assert len(set(colours)) == len(colours), chart.family


def test_eight_n_have_eight_colours_and_settings_of_one_method_another_each(tmp_path):
    for n in (1, 2, 3, 4, 5, 7, 10, 30):
        write_run(tmp_path, inner_steps=n)
        write_run(tmp_path, inner_steps=n, inner_lr=0.2)
    found = {chart.family: chart for chart in charts_of(report_data.compare(tmp_path, []))}
    steps = [line.get_color() for line in draw(found["figure1"]).legends[0].legend_handles]
    assert len(set(steps[:8])) == 8
    apart = [line.get_color() for line in draw(found["resources"]).legends[0].legend_handles]
    assert len(set(apart)) == len(apart) == 2


def test_points_of_one_place_stand_beside_each_other(tmp_path):
    for algo in ("maml", "fomaml", "anil"):
        for n in (1, 3):
            write_run(tmp_path, algo=algo, inner_steps=n)
    (chart,) = [chart for chart in charts_of(report_data.compare(tmp_path, [])) if chart.family == "resources"]
    (axes, _) = draw(chart).axes
    places = [tuple(line.get_transform().transform(line.get_xydata())[0].round()) for line in axes.lines]
    assert len(set(places)) == 3
    assert len({tuple(line.get_xydata()[0]) for line in axes.lines}) == 1


@pytest.mark.parametrize(("asked", "points"), [("neurips", 397.48), ("icml", 234.88), ("3.25", 3.25 * 72.27)])
def test_a_width_is_that_of_the_venue_in_the_file_itself(tmp_path, monkeypatch, asked, points):
    monkeypatch.setattr(figures, "FORMATS", {"pdf": figures.FORMATS["pdf"]})
    write_run(tmp_path / "runs")
    first = write_figures(report_data.compare(tmp_path / "runs", []), tmp_path / "out", inches(asked))[0].read_bytes()
    (box,) = re.findall(rb"/MediaBox \[ ?0 0 ([0-9.]+)", first)
    assert float(box) * 72.27 / 72 == pytest.approx(points, abs=0.01)


@pytest.mark.parametrize("asked", ["nips", "0", "nan", "1e3", ""])
def test_a_width_that_is_none_is_refused(asked):
    with pytest.raises(InputError, match=r"--width .* allowed: neurips, icml, icml-wide, ieee, ieee-wide, or inches"):
        inches(asked)


def test_ticks_are_powers_where_numbers_are_long():
    assert [number(value) for value in (0, 0.5, 200, 500_000, 1e6, 2e-5)] == [
        *("0", "0.5", "200", r"$5\times10^{5}$", "$10^{6}$", r"$2\times10^{-5}$")
    ]


def test_long_numbers_on_a_linear_axis_share_a_power_in_its_name():
    x = np.array([6.0e5, 1.2e6, 3.4e6])
    line = Line("a", 0, "markers", x, np.array([0.2, 0.3, 0.4]))
    panel = Panel("entries", "gradient entries", "accuracy on held-out tasks", (line,))
    with matplotlib.rc_context(SETTINGS):
        figure = draw(Chart("accuracy-cost", "", "", "", (panel,)))
        figure.draw_without_rendering()
    (axes,) = figure.axes
    assert axes.get_xlabel() == "gradient entries ($10^{6}$)"
    labels = {text for tick in axes.xaxis.get_major_ticks() if (text := tick.label1.get_text())}
    assert labels == {"1", "2", "3"}


def test_a_group_without_metrics_is_named(tmp_path):
    (write_run(tmp_path) / "metrics.jsonl").unlink()
    (chart, *_) = charts_of(report_data.compare(tmp_path, []))
    assert chart.names == ("N = 5 (no metrics.jsonl)",)
    draw(chart)


def test_runs_that_did_not_measure_definition_1_are_named_in_the_cost_figure(tmp_path):
    for n in (1, 3):
        write_run(tmp_path, inner_steps=n, stationarity_every=0)
        write_run(tmp_path, inner_steps=n, algo="maml")
    charts = {chart.family: chart for chart in charts_of(report_data.compare(tmp_path))}
    assert "ANIL convex (not measured)" in charts["cost"].names
    draw(charts["cost"])


def test_step_sizes_that_vary_with_n_make_another_line_than_a_constant_one(tmp_path):
    for n in (1, 2, 4):
        for rate in {0.1, 0.1 / n}:
            write_run(tmp_path, inner_steps=n, inner_lr=rate, geometry="nonconvex", rate=0.2)
    charts = {chart.family: chart for chart in charts_of(report_data.compare(tmp_path))}
    _, lines = lines_of(charts["cost"], "seconds")
    assert lines["ANIL nonconvex, α = 0.1"].x.tolist() == [1, 2, 4]
    assert lines["ANIL nonconvex, α differs between N"].x.tolist() == [2, 4]


def test_smoothing_never_looks_ahead():
    assert trailing_mean(np.array([4.0, 2.0, 0.0, 1.0]), 2).tolist() == [4.0, 3.0, 1.0, 0.5]


def test_seeds_are_averaged_where_all_of_them_were_measured_on_at_most_200_points():
    fast, slow = np.linspace(1, 100, 5000), np.linspace(2, 300, 5000)
    curve = average([(fast, fast), (slow, slow)], False)
    assert (curve.x[0], curve.x[-1]) == (2, 100)
    assert len(curve.x) <= POINTS
    assert_allclose(curve.y, curve.x, atol=0.1)


def test_the_band_of_five_seeds_is_an_interval_of_their_mean_and_of_three_their_range():
    x = np.arange(1.0, 11)
    seeds = [(x, np.full(10, value)) for value in (0.0, 1.0, 2.0, 3.0, 10.0)]
    five = average(seeds, True)
    assert_allclose(five.y, 3.2)
    assert_allclose(five.high - 3.2, 2.776 * np.std([0, 1, 2, 3, 10], ddof=1) / 5**0.5, rtol=1e-3)
    assert_allclose(five.low, 6.4 - five.high)
    above = average([(x, y + 0.1) for x, y in seeds], True)
    assert (above.low > 0).all()  # a loss that no seed has below 0 can stand on a logarithmic axis
    three = average(seeds[2:], True)
    assert_allclose([three.y[0], three.low[0], three.high[0]], [5.0, 2.0, 10.0])


def test_a_persons_style_is_over_ours(tmp_path, monkeypatch):
    write_grid(tmp_path / "runs", seeds=2)
    sheet = tmp_path / "mine.mplstyle"
    sheet.write_text("font.size: 10\nlegend.fontsize: 10\naxes.grid: False\n")
    drawn = []
    monkeypatch.setattr("harness.report.figures._write", lambda figure, folder, stem: drawn.append(figure) or [])
    write_report([tmp_path / "runs"], tmp_path / "out", style=str(sheet))
    assert drawn
    for figure in drawn:
        sizes = {text.get_fontsize() for legend in figure.legends for text in legend.get_texts()}
        assert sizes == {10.0}
        box = figure.legends[0].get_window_extent(figure.canvas.get_renderer())
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert not any(line.get_visible() for axes in figure.axes for line in axes.get_xgridlines())


@pytest.mark.parametrize(
    ("style", "reason"),
    [("nowhere.mplstyle", "no such file; allowed: FILE.mplstyle, or a name"), (".", "Is a directory|not a plain file")],
)
def test_a_style_that_is_none_is_refused(tmp_path, style, reason):
    write_run(tmp_path)
    with pytest.raises(InputError, match=reason):
        write_report([tmp_path], tmp_path / "out", style=style)


@pytest.fixture(scope="module")
def two_problems(tmp_path_factory):
    """Two benchmarks whose N differ: 1 and 10 in both, 5 in the first alone."""
    folder = tmp_path_factory.mktemp("two")
    report_data.write_grid(folder, steps=(1, 5, 10), methods=ANIL[:1], benchmark="fc100")
    report_data.write_grid(folder, steps=(1, 10), methods=ANIL[:1], benchmark="miniimagenet")
    return report_data.compare(folder)


def test_figure_1_of_two_data_sets_is_the_papers_a_column_each_iterations_left_and_time_right(two_problems):
    chart = on_paper(two_problems)[0]
    assert (chart.family, chart.problem) == ("figure1", "")
    left, right = chart.panels[:2]
    assert [panel.title for panel in chart.panels] == ["fc100", "", "miniimagenet", ""]
    assert [panel.x_label for panel in chart.panels] == ["meta-iterations", "running time (s)"] * 2
    assert left.y_limits == right.y_limits  # a pair shares its axis, two data sets do not have to
    assert left.y_log == right.y_log
    styles = [{line.name: line.style for line in panel.lines} for panel in chart.panels]
    assert styles[0] == styles[1] == {"N = 1": 0, "N = 5": 1, "N = 10": 2}
    assert styles[2] == styles[3] == {"N = 1": 0, "N = 10": 2}  # one N has one colour
    alone = {chart.problem: chart for chart in charts_of(two_problems) if chart.family == "figure1"}
    assert len(alone) == 2
    assert not any(panel.title for chart in alone.values() for panel in chart.panels)


def test_the_papers_figure_stands_in_a_row_at_a_text_width_and_in_pairs_in_a_column(two_problems, tmp_path, only_svg):
    chart = on_paper(two_problems)[0]
    for width, rows in ((397.48 / 72.27, 1), (234.88 / 72.27, 2)):
        with matplotlib.rc_context(SETTINGS):
            figure = draw(chart, width)
        assert len({round(axes.get_position().y0, 2) for axes in figure.axes}) == rows
        left, right = figure.axes[:2]
        assert (left.get_ylabel(), right.get_ylabel()) == ("training loss", "")
        assert left.get_ylim() == right.get_ylim()
    written = {path.name for path in write_figures(two_problems, tmp_path)}
    assert {"figure1.svg", "figure1-fc100.svg", "figure1-miniimagenet.svg"} <= written
    captions = (tmp_path / "captions.txt").read_text()
    assert captions.startswith("figure1: Figure 1: ANIL convex, a pair of panels for each problem.")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize(("venue", "points"), [("neurips", 397.48), ("icml", 234.88)])
def test_a_paper_takes_every_figure_and_the_table_as_they_are_in_one_pass(tmp_path, venue, points):
    """Without a width given to ``includegraphics``: a figure is as wide as the text, and its letters are as drawn."""
    report_data.write_grid(tmp_path / "runs", steps=(1, 5), methods=ANIL)
    report_data.write_grid(tmp_path / "runs", steps=(1, 5), methods=ANIL[:1], benchmark="miniimagenet")
    written = write_report([tmp_path / "runs"], tmp_path, width=venue)["files"]
    figures = [Path(file).stem for file in written if file.endswith(".pdf")]
    assert "figure1" in figures
    floats = "".join(
        rf"\begin{{figure}}\centering\includegraphics{{{{figures/{stem}}}.pdf}}\caption{{A}}\end{{figure}}"
        for stem in figures
    )
    set_in_one_pass(tmp_path, points, TABLE + floats)
