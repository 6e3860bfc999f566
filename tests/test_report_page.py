"""report.html in a real browser: offline, by mouse and keyboard, and with what came from files as text."""

from __future__ import annotations

import base64
import gzip
import json
import math
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
import report_data
from fabricated import write_run
from plotly.offline import get_plotlyjs_version

from harness.report.findings.claim import Claim
from harness.report.findings.comparison import nothing
from harness.report.next_runs import Next, NextRuns
from harness.report.page import write_page
from harness.report.page.script_safe import packed, plain
from harness.report.page.tables import cell, shaped
from harness.report.reading.studies import Figure, Result, Study, Tried
from harness.report.tables.build import tables_of
from harness.report.tables.cells import Ends, Table, table

EVIL = "<script>alert(1)</script>"
MARKUP = "</script>\u2028<b>"
LAST = f"z {EVIL}"  # in order of their names it comes after fc100
CLAIMS = [
    Claim("K falls with N and saturates", "held", "0.4 to 0.5", ""),
    Claim("Cost rises with N", "refuted", "", f"see {EVIL}"),
    Claim("N = 30 diverges", "undecided", "", "two seeds"),
]
TABLES = [
    Table(
        "table2",
        "Table 2 & more",
        ["method", "N", "gradient entries", "a column with a long name", "another one with a long name"],
        [["ANIL convex", 5, 56_400_300_000, 0.123456, None], [EVIL, 10, float("inf"), 2.5, None]],
        ["∞: never reached"],
    )
]
STUDY = Study(
    Path("study"),
    Result(
        study=f"study {EVIL}",
        algo="anil",
        geometry="convex",
        objective="loss",
        trials=2,
        best=Tried(number=1, params={}),
    ),
    (Figure(title=f"History {EVIL}", data=[{"x": [0, 1], "y": [2.0, 1.5], "name": EVIL}], layout={"xaxis": {}}),),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A page about two benchmarks, with a run and a setting whose names are markup."""
    folder = tmp_path_factory.mktemp("page")
    runs = folder / "runs"
    report_data.write_grid(runs, steps=(1, 10), seeds=2)
    write_run(runs, name="img src=x onerror=alert(1)", benchmark=LAST, seed=1)
    foreign = {"note": EVIL, "load": float("nan")}
    write_run(runs, name="other", benchmark=LAST, algo_options={"note": MARKUP}, seed=2, environment=foreign)
    comparison = replace(
        report_data.compare(runs),
        findings=["ANIL convex needed 0.11 of MAML's gradient entries.", f"Second: {EVIL}"],
        claims=CLAIMS,
        warnings=[f"Two seeds are too few for a claim, {number}." for number in range(20)],
        skipped=[f"results/{EVIL}: not finished"],
    )
    undecided = next(claim for claim in comparison.claims if claim.verdict == "undecided")
    todo = Next("two seeds", "harness compare next.yaml", "6 runs, about 3 min one after the other")
    changes = ["ANIL convex is slower than before."]
    write_page(comparison, TABLES, folder / "report.html", [STUDY], changes, NextRuns({undecided: todo}, todo, 1))
    return folder / "report.html"


def test_the_page_is_one_file_with_the_findings_before_everything_else(path):
    html = path.read_text(encoding="utf-8")
    order = [
        "the fewest gradient entries",
        "harness compare next.yaml",
        "ANIL convex is slower than before",
        "ANIL convex needed 0.11 of",
        "Two seeds are too few",
        "K falls with N",
        'class="card"',
        "Table 2 &amp; more",
    ]
    places = [html.index(text) for text in order]
    assert places == sorted(places)
    assert places[-1] < html.index("<script")  # so that all of it is there before any script has run
    assert not re.search(r"<(link|img|iframe|script)[^>]+(src|href)=", html)


def unpacked(html, name):
    """What the page's scripts find under this id."""
    block = re.search(rf'<script type="text/plain" id="{name}">([A-Za-z0-9+/=]*)</script>', html)[1]
    return json.loads(gzip.decompress(base64.b64decode(block)))


def test_nothing_from_a_file_becomes_markup(path):
    html = path.read_text(encoding="utf-8")
    assert EVIL not in html
    assert "\u2028" not in html
    assert unpacked(html, "plot-data")
    runs = unpacked(html, "run-data")["runs"]
    assert any(run["config"].get("algo_options") == {"note": MARKUP} for run in runs)


def test_two_writings_of_the_same_comparison_are_the_same_bytes(tmp_path):
    report_data.write_grid(tmp_path / "runs", steps=(1, 3), seeds=5, methods=report_data.METHODS[:1])
    for name in ("a", "b"):
        write_page(report_data.compare(tmp_path / "runs"), TABLES, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_is_packed_holds_no_letter_that_could_end_its_block_and_nothing_but_json():
    assert re.fullmatch("[A-Za-z0-9+/=]+", packed("<!--&\u2029</script>"))
    assert plain({1: (float("nan"), [float("inf"), {"x": object}])})["1"][0] == "nan"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ("", "", "")),
        (float("inf"), ("∞", "", "inf")),
        (0.0, ("0", "", "0.0")),
        (1234567, ("1,234,567", "", "1234567")),
        (0.25, ("0.250", "", "0.25")),
        (0.30933333333333335, ("0.309", "", "0.30933333333333335")),
        (5.64003e10, ("5.64×10¹⁰", "", "56400300000.0")),
        (-1.003e-27, ("-1.00×10⁻²⁷", "", "-1.003e-27")),
        ("3 to 5", ("3 to 5", "", "")),
    ],
)
def test_cells_are_short_and_sorted_by_the_exact_number(value, expected):
    assert cell(value) == expected


def test_a_table_says_once_what_its_rows_share_and_folds_targets_that_nobody_reached():
    never = Ends("∞ to ∞", math.inf, math.inf)
    rows = [
        ["MAML", "ε = 1", 12.5, Ends("10 to 15", 10.0, 15.0), 5],
        ["MAML", "ε = 0.1", math.inf, never, 5],
        ["MAML", "loss ≤ 1", 20.0, Ends("20 to 20", 20.0, 20.0), 5],
        ["MAML", "ε = 0.01", math.inf, never, 5],
    ]
    (made,) = shaped([table("targets", "T", ["group", "target", "K", "K, 95 %", "seeds"], rows, [])])
    assert [column.head for column in made.columns] == ["group", "target", "K"]
    assert made.same == [("seeds", "5")]
    assert [[each.text for each in row] for row in made.rows] == [
        ["MAML", "ε\u00a0=\u00a01", "12.5"],
        ["MAML", "ε\u00a0=\u00a00.1, ε\u00a0=\u00a00.01", "∞"],
        ["MAML", "loss\u00a0≤\u00a01", "20"],
    ]
    assert [row[2].ends for row in made.rows] == ["10 to 15", "", "20 to 20"]


def test_columns_that_would_not_fit_wait_until_they_are_asked_for_but_never_accuracy():
    heads = ["method", *(f"a number called {letter}" for letter in "abcdefghijklm"), "peak MiB", "accuracy"]
    (made,) = shaped([table("t", "T", heads, [["MAML", *range(10, 24), 0.5], ["ANIL", *range(30, 44), 0.6]], [])])
    shown = [column.head for column in made.columns if not column.extra]
    assert len(shown) < len(heads)
    assert "accuracy" in shown
    assert "peak MiB" not in shown


@pytest.fixture(scope="module")
def browser():
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("no chromium, chromium-browser or google-chrome on the path")
        pytest.skip("no chromium, chromium-browser or google-chrome on the path")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_page(browser, path):
    """Opens the page and fails afterwards if it complained or asked for anything but itself."""
    heard, contexts = [], []

    def open_with(file=path, **options):
        context = browser.new_context(
            **{"viewport": {"width": 1200, "height": 900}, "reduced_motion": "reduce"} | options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("dialog", lambda dialog: heard.append(f"dialog: {dialog.message}") or dialog.dismiss())
        page.on("request", lambda request: request.url.startswith("file://") or heard.append(request.url))
        page.goto(file.as_uri())
        return page

    yield open_with
    for context in contexts:
        context.close()
    assert heard == []


#: the card of Figure 1, behind those of the cost on both benchmarks
FIGURE1 = "#plot-2"


def drawn(page, card=FIGURE1):
    """What a plot shows: the names of its lines, and its axes."""
    page.locator(card).scroll_into_view_if_needed()
    page.locator(f"{card} .plot.js-plotly-plot").wait_for()
    return page.evaluate(
        """card => { const plot = document.querySelector(card + " .plot"); return {
            names: [...new Set(plot.data.map((trace) => trace.name))],
            x: plot.layout.xaxis.title.text, y: plot.layout.yaxis.type, xType: plot.layout.xaxis.type,
            paper: plot._fullLayout.paper_bgcolor, colour: plot.data.at(-1).line.color,
            marks: plot.querySelectorAll(".scatterlayer .trace").length }; }""",
        card,
    )


@pytest.mark.browser
def test_a_click_on_a_name_hides_its_line_and_shows_it_again(open_page):
    page = open_page()
    before = drawn(page)
    assert before["names"] == ["N = 1", "N = 10"]
    button = page.locator(f"{FIGURE1} .legend").get_by_role("button", name="N = 10")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    hidden = drawn(page)
    assert hidden["names"] == ["N = 1"]
    assert hidden["marks"] < before["marks"]
    button.click()
    assert drawn(page) == before


@pytest.mark.browser
def test_a_plot_of_a_study_is_drawn_in_the_colours_of_the_page(open_page):
    for scheme, paper in (("light", "#ffffff"), ("dark", "#1b1f23")):
        page = open_page(color_scheme=scheme)
        page.locator("#study-0-0").scroll_into_view_if_needed()
        page.locator("#study-0-0 .scatterlayer .trace").wait_for()
        assert page.evaluate("document.querySelector('#study-0-0 .plot')._fullLayout.paper_bgcolor") == paper


@pytest.mark.browser
def test_the_keyboard_reaches_lines_axes_and_quantities_and_keeps_its_place(open_page):
    page = open_page()
    drawn(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to what was found"
    for text, key, change in (
        ("running time", "Enter", ("x", "running time (s)")),
        ("log y", "Space", ("y", "log")),
        ("log x", "Enter", ("xType", "log")),
        ("N = 1", "Space", ("names", ["N = 10"])),
    ):
        for _ in range(40):
            if page.evaluate("document.activeElement.textContent") == text:
                break
            page.keyboard.press("Shift+Tab" if text == "log x" else "Tab")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.textContent") == text
        assert drawn(page)[change[0]] == change[1]


@pytest.mark.browser
def test_the_page_is_used_by_keyboard_alone(open_page, tmp_path):
    report_data.write_grid(tmp_path / "runs", steps=(1, 10), seeds=2)
    comparison = report_data.compare(tmp_path / "runs")
    write_page(comparison, tables_of(comparison), tmp_path / "r.html")
    page = open_page(tmp_path / "r.html")

    def tab_to(selector, key):
        for _ in range(200):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                page.keyboard.press(key)
                return page.locator(":focus")
        raise AssertionError(f"no way by Tab to {selector}")

    tab_to("nav a[href='#claims']", "Enter")
    claim = tab_to(".claim summary", "Enter")
    assert claim.locator("xpath=..").locator(".detail").first.is_visible()
    select = tab_to(".card select", "ArrowDown")
    assert select.input_value() == "1"
    card = "#" + select.evaluate("select => select.closest('.card').id")
    names = drawn(page, card)["names"]
    tab_to(f"{card} .legend button", "Space")
    assert len(drawn(page, card)["names"]) == len(names) - 1
    tab_to(".columns summary", "Enter")
    box = tab_to(".columns input:not(:checked)", "Space")
    column = int(box.input_value())
    heads = page.locator(".table").filter(has=box).locator("th")
    assert heads.nth(column).is_visible()
    tab_to("#tables th button", "Enter")
    assert page.locator("#tables th[aria-sort='ascending']").count() == 1
    tab_to("#run-filter", "m")
    run = tab_to("#run-list summary", "Enter")
    run.locator("xpath=..").get_by_role("link", name="config.yaml").wait_for()


@pytest.mark.browser
def test_logarithmic_axes_and_seconds_are_a_click_away(open_page):
    page = open_page()
    assert drawn(page)["x"] == "meta-iterations"
    controls = page.locator(f"{FIGURE1} .controls")
    controls.get_by_role("button", name="log y").click()
    assert drawn(page)["y"] == "log"
    controls.get_by_role("button", name="log y").click()
    assert drawn(page)["y"] == "linear"
    controls.get_by_role("button", name="running time").click()
    assert drawn(page)["x"] == "running time (s)"


@pytest.mark.browser
def test_another_target_is_chosen_in_the_cost_plot(open_page):
    page = open_page()
    card = page.locator(".card", has_text="Cost to a target").first
    name = "#" + card.get_attribute("id")
    first = drawn(page, name)
    card.get_by_label("Show").select_option(label="loss ≤ 1.1")
    assert drawn(page, name)["names"] != first["names"]
    card.get_by_role("button", name="Hide all").click()
    assert page.evaluate("name => document.querySelector(name + ' .plot').data.length", name) == 0


@pytest.mark.browser
def test_hovering_over_a_line_says_its_name_and_value(open_page):
    page = open_page()
    drawn(page)
    box = page.locator(f"{FIGURE1} .plot .nsewdrag").first.bounding_box()
    for share in range(5, 100, 3):
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * share / 100)
        page.wait_for_timeout(60)
        if page.locator(f"{FIGURE1} .hovertext").count():
            break
    assert re.search(r"N = 10?.*training loss [0-9.]+", page.locator(f"{FIGURE1} .hovertext").first.text_content())


@pytest.mark.browser
def test_dark_mode_changes_page_and_plots_also_while_it_is_open(open_page):
    page = open_page(color_scheme="light")
    light = drawn(page)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(300)
    dark = drawn(page)
    assert (dark["paper"], dark["colour"]) != (light["paper"], light["colour"])
    assert dark["paper"] == "#1b1f23"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != background


@pytest.mark.browser
def test_a_narrow_window_scrolls_in_one_direction_only(open_page):
    page = open_page(viewport={"width": 360, "height": 740})
    for number in range(page.locator(".card:visible").count()):
        drawn(page, "#" + page.locator(".card:visible").nth(number).get_attribute("id"))
    page.locator("#run-list summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    box = page.locator(".scroll").first
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    assert box.evaluate("box => getComputedStyle(box).overflowX") == "auto"


@pytest.mark.browser
def test_names_that_are_markup_are_shown_as_text_everywhere(open_page):
    page = open_page()
    assert page.locator("#skipped li").text_content() == f"results/{EVIL}: not finished"
    assert page.locator(".claim.refuted .why").text_content() == f"see {EVIL}"
    assert page.locator("td", has_text=EVIL).count() == 1
    page.get_by_label("Benchmark").select_option(label=LAST)
    visible = page.locator(".card:visible")
    assert EVIL in visible.first.locator("h3").text_content()
    drawn(page, "#" + visible.first.get_attribute("id"))
    page.get_by_label("Filter").fill("onerror")
    row = page.locator("#run-list details")
    assert row.count() == 1
    row.locator("summary").click()
    row.locator("dd").first.wait_for()
    terms = dict(zip(row.locator("dt").all_text_contents(), row.locator("dd").all_text_contents(), strict=True))
    assert terms["benchmark"] == LAST
    page.get_by_label("Filter").fill("other")
    row.locator("summary").click()
    row.locator("dd").first.wait_for()
    assert EVIL in row.locator("dd").all_text_contents()
    assert page.locator("script:not([type])").count() == 5
    assert page.locator("main script, main img, main b").count() == 0


def test_a_page_is_small_whatever_plots_a_study_has_and_its_library_is_licensed(path, tmp_path):
    assert path.stat().st_size < 2_000_000
    assert "Licensed under the MIT license" in path.read_text(encoding="utf-8")
    parallel = replace(STUDY, figures=(Figure(title="all of it", data=[{"type": "parcoords"}], layout={}),))
    write_page(nothing([]), TABLES, tmp_path / "whole.html", [parallel])
    assert (tmp_path / "whole.html").stat().st_size < 2_000_000  # its library does not draw that one
    assert "all of it: in the study's own plots.html" in (tmp_path / "whole.html").read_text(encoding="utf-8")
    assert f"plotly.js (basic - minified) v{get_plotlyjs_version()}" in path.read_text(encoding="utf-8")


@pytest.mark.browser
def test_tables_are_sorted_and_searched_and_accuracy_is_seen(open_page, tmp_path):
    made = table("t", "T", ["method", "K"], [["b", 1234.0], ["a", math.inf], ["c", 20.5], ["d", None]], [])
    write_page(nothing([]), [made], tmp_path / "t.html")
    page = open_page(tmp_path / "t.html")

    def shown():
        return page.locator("#tables tbody tr:visible td:first-child").all_text_contents()

    head = page.locator("#tables th button", has_text="K")
    head.focus()
    page.keyboard.press("Enter")
    assert shown() == ["c", "b", "a", "d"]
    assert page.locator("#tables th").nth(1).get_attribute("aria-sort") == "ascending"
    head.click()
    assert shown() == ["a", "b", "c", "d"]  # what is empty stays last
    page.get_by_label("Search").fill("1,234")
    assert shown() == ["b"]


@pytest.mark.browser
def test_accuracy_of_the_measured_tables_is_seen_without_scrolling_at_1280(open_page, tmp_path):
    report_data.write_grid(tmp_path / "runs", steps=(1, 5), seeds=5)
    comparison = report_data.compare(tmp_path / "runs")
    write_page(comparison, tables_of(comparison), tmp_path / "r.html")
    page = open_page(tmp_path / "r.html", viewport={"width": 1280, "height": 900})
    page.evaluate("document.querySelectorAll('details.table').forEach((table) => { table.open = true; })")
    seen = 0
    for box in page.locator("#tables .scroll").all():
        edge = box.bounding_box()
        for head in box.locator("th", has_text=re.compile("^accuracy$")).all():
            place = head.bounding_box()
            assert place["x"] + place["width"] <= edge["x"] + edge["width"]
            seen += 1
    assert seen >= 3


@pytest.mark.browser
def test_runs_are_filtered_and_opened_with_configuration_and_environment(open_page):
    page = open_page()
    page.get_by_label("Filter").fill("diverged")
    assert page.locator("#run-count").text_content() == "1 of 1 shown (18 in all)"
    row = page.locator("#run-list details")
    assert row.locator("dl").count() == 0
    row.locator("summary").focus()
    page.keyboard.press("Enter")
    assert row.locator("h4").all_text_contents() == ["Result", "Configuration", "Environment"]
    terms = dict(zip(row.locator("dt").all_text_contents(), row.locator("dd").all_text_contents(), strict=True))
    assert (terms["inner_steps"], terms["packages.torch"], terms["status"]) == ("10", "2.15.0", "diverged")
    link = row.get_by_role("link", name="summary.json").evaluate("link => link.href")
    assert json.loads(Path(unquote(urlparse(link).path)).read_text())["status"] == "diverged"
    status = page.locator("#run-list .facets dt:text-is('status') + dd")
    assert status.evaluate(
        "cell => cell.getClientRects().length && cell.offsetHeight < 2 * parseFloat(getComputedStyle(cell).fontSize)"
    )
    measured = page.locator("#run-list .facets > div").first.locator("dd").all_text_contents()
    assert not [text for text in measured if re.fullmatch(r"[\d.]{12,}", text)]


@pytest.mark.browser
def test_the_policy_of_the_page_stops_foreign_scripts_and_requests(open_page, path, tmp_path):
    html = path.read_text(encoding="utf-8")
    attack = "<script>document.title = 'taken over'</script><img src='https://example.org/x.png'>"
    (tmp_path / "attacked.html").write_text(html.replace("<main>", f"<main>{attack}"), encoding="utf-8")
    refused = []
    page = open_page()
    context = page.context.browser.new_context()
    other = context.new_page()
    other.on("console", lambda message: refused.append(message.text))
    other.goto((tmp_path / "attacked.html").as_uri())
    assert "compared" in other.title()
    assert len([text for text in refused if "Content Security Policy" in text]) == 2
    context.close()


@pytest.mark.browser
def test_the_page_prints_in_light_colours_with_every_plot(open_page, tmp_path):
    page = open_page(color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    shown = page.locator(".card:visible").count()
    assert page.locator(".card:visible .main-svg >> nth=0").count() > 0
    assert page.evaluate("document.querySelectorAll('.card:not([hidden]) .plot.js-plotly-plot').length") == shown
    assert drawn(page)["paper"] == "#ffffff"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert drawn(page)["paper"] == "#1b1f23"
    assert page.pdf(path=tmp_path / "report.pdf")


@pytest.mark.browser
def test_a_page_of_1000_runs_opens_in_3_seconds(open_page, tmp_path):
    for rate in (0.01, 0.02, 0.05, 0.1, 0.2):
        report_data.write_grid(
            tmp_path / "runs", steps=(1, 2, 3, 4, 5), seeds=10, inner_lr=rate, iterations=200, stationarity_every=20
        )
    write_page(report_data.compare(tmp_path / "runs"), TABLES, tmp_path / "report.html")
    page = open_page(tmp_path / "report.html")
    drawn(page)
    page.wait_for_selector("#run-list details")
    assert page.locator("#run-count").text_content() == "15 of 1000 shown"
    openings = []
    for _ in range(3):  # other work on the machine may slow one, not the page
        page.reload()
        openings.append(page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
    opened = min(openings)
    size = (tmp_path / "report.html").stat().st_size / 1e6
    print(f"1,000 runs: opened in {opened:.0f} ms, {size:.1f} MB")
    assert opened < 3000
    assert size < 2
