"""What a report's page says first: what each method costs, what is undecided, and what to run to decide it."""

from __future__ import annotations

import json
import math
import re

import pytest
import report_data
from fabricated import first_below, seal, write_run

from harness.errors import HarnessError
from harness.report.findings.answer import answers, sentence
from harness.report.findings.comparison import compare_runs
from harness.report.findings.costs import Target
from harness.report.findings.names import group_name
from harness.report.next_runs import write_next_runs
from harness.report.page import write_page
from harness.report.reading.runs import read_runs
from harness.report.tables.build import tables_of
from harness.report.tables.cells import shown
from harness.settings.suites import overview

EPSILON = 0.1
#: entries of one task and meta-iteration at N = 5, see tests/fabricated.py: N n_w + n
ENTRIES = {"anil": 5 * 10 + 100, "maml": 5 * 100 + 100}


def write_seeds(folder, algo, rate, seeds=5, **settings):
    return [write_run(folder, algo=algo, seed=seed, rate=rate * (1 + 0.01 * seed), **settings) for seed in range(seeds)]


def said(folder, *targets):
    runs, _ = read_runs([folder])
    return sentence(answers(compare_runs(runs, list(targets) or [Target("epsilon", EPSILON)])))


def test_the_sentence_names_the_cheapest_and_how_many_times_as_many_the_others_need(tmp_path):
    write_seeds(tmp_path, "anil", 0.1)
    write_seeds(tmp_path, "maml", 0.05)
    spent = {
        algo: ENTRIES[algo] * sorted(first_below(EPSILON, rate * (1 + 0.01 * seed), 2) for seed in range(5))[2]
        for algo, rate in (("anil", 0.1), ("maml", 0.05))
    }
    times = shown(spent["maml"] / spent["anil"])
    found = said(tmp_path)
    assert found.endswith(f"; to ε = 0.1 again ANIL convex, MAML {times} times as many.")
    assert found.startswith("To loss ≤ 1.1 ANIL convex needs the fewest gradient entries, MAML ")


def test_a_method_that_did_not_get_there_or_had_learnt_nothing_wins_nothing(tmp_path):
    write_seeds(tmp_path, "anil", 0.05)
    write_seeds(tmp_path, "maml", 0.001)
    for folder in write_seeds(tmp_path, "fomaml", 0.5):  # its gradient vanishes first, its accuracy stays at chance
        path = folder / "stationarity.jsonl"
        lines = [json.loads(line) | {"accuracy": 0.2} for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        seal(folder)
    found = said(tmp_path, Target("epsilon", EPSILON), Target("loss", 1.5))
    to_epsilon = found[found.index("to ε") :]
    assert "learnt nothing" not in found[: found.index("to ε")]  # a loss is met by learning alone
    assert "MAML did not get there" in to_epsilon
    assert "FOMAML had learnt nothing" in to_epsilon
    assert "ANIL convex" in to_epsilon.partition(",")[0] or "ANIL convex" in found.partition(",")[0]


def test_with_few_seeds_the_sentence_says_that_nothing_is_decided(tmp_path):
    write_seeds(tmp_path, "anil", 0.1, seeds=2)
    write_seeds(tmp_path, "maml", 0.05, seeds=2)
    assert said(tmp_path).endswith("(2 seeds: undecided, deciding takes 5).")


def test_a_difference_within_its_interval_is_called_undecided(tmp_path):
    for seed, (anil, maml) in enumerate([(0.1, 0.3), (0.1, 0.5), (0.1, 0.35), (0.1, 0.45), (0.1, 0.4)]):
        write_run(tmp_path, algo="anil", seed=seed, rate=anil)
        write_run(tmp_path, algo="maml", seed=seed, rate=maml, stationarity_every=1)
    assert re.search(r"times as many \(undecided: [0-9.]+ to [0-9.]+\)|as many \(undecided", said(tmp_path))


@pytest.fixture(scope="module")
def three_seeds(tmp_path_factory):
    """A report's page and next runs of a grid of three seeds."""
    folder = tmp_path_factory.mktemp("answer")
    report_data.write_grid(folder / "runs", steps=(1, 3, 10), seeds=3, algo_options={"l2": 0.00020704392631504397})
    comparison = report_data.compare(folder / "runs")
    next_runs, files = write_next_runs(comparison.claims, folder)
    write_page(comparison, tables_of(comparison), folder / "report.html", next_runs=next_runs)
    return comparison, next_runs, files, folder


def test_what_comes_next_is_a_suite_of_all_that_is_missing_and_its_price(three_seeds):
    comparison, next_runs, _, folder = three_seeds
    assert {claim.verdict for claim in comparison.claims} == {"undecided"}
    path = folder / "next" / "1.yaml"
    assert next_runs.first.command == f"harness compare {path} --results {folder / 'runs'}"
    suite = overview(path)
    assert suite["seeds"] == [0, 1, 2, 3, 4]
    asked = suite["runs"] // 5
    there = 3 * sum(group.algorithm != "fomaml" for group in comparison.groups)
    assert next_runs.first.price.startswith(f"{5 * asked - there} runs, about ")
    more = [claim for claim in next_runs.by_claim if any(each.changes for each in claim.remedy.wanted)]
    assert any("N = 30" in claim.sentence for claim in more)  # which is not there, and asks for more than seeds
    assert len(more) < 4
    assert next_runs.decides == len(next_runs.by_claim) - len(more)


def test_a_folder_that_cannot_be_made_is_one_line(three_seeds, tmp_path):
    (tmp_path / "next").write_text("in the way")
    with pytest.raises(HarnessError, match="next: File exists"):
        write_next_runs(three_seeds[0].claims, tmp_path)


def test_the_price_is_what_the_runs_at_hand_took(three_seeds):
    comparison, next_runs, _, _ = three_seeds
    claim = next(claim for claim in comparison.claims if claim.sentence.startswith("ANIL convex: K("))
    walls = [
        sorted(run.number("seconds", "wall") for run in group.completed)[1]
        for group in comparison.groups
        if group.method == "anil convex"
    ]
    assert claim.remedy.seconds == pytest.approx(2 * sum(walls))
    assert next_runs.by_claim[claim].price == f"6 runs, about {round(2 * sum(walls))} s one after the other"


def test_more_seeds_do_not_help_where_something_else_lacks(tmp_path):
    for steps in (1, 3, 5):  # Definition 1 is known to an error that no epsilon stands out from
        write_seeds(tmp_path, "anil", 0.1, inner_steps=steps, error=0.4)
    runs, _ = read_runs([tmp_path])
    remedies = [claim.remedy for claim in compare_runs(runs, [Target("epsilon", 0.1)]).claims]
    changes = {change for remedy in filter(None, remedies) for wanted in remedy.wanted for change in wanted.changes}
    assert ("stationarity_tasks", 4 * 64) in changes


def test_a_claim_without_its_runs_asks_for_them(tmp_path):
    write_seeds(tmp_path, "anil", 0.1, inner_steps=1)
    runs, _ = read_runs([tmp_path])
    (claim,) = [
        claim for claim in compare_runs(runs).claims if claim.sentence == "ANIL convex: K falls with N and saturates"
    ]
    assert [wanted.setting["inner_steps"] for wanted in claim.remedy.wanted] == [1, 5, 10]
    assert claim.remedy.runs == 10  # at N = 5 and 10, five seeds each
    assert not math.isnan(claim.remedy.seconds)


def test_no_text_of_the_page_has_endless_digits_or_json(three_seeds):
    folder = three_seeds[-1]
    html = (folder / "report.html").read_text()
    text = re.sub(r"<script.*?</script>|<style.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL)
    assert not re.findall(r"\d\.0*[1-9]\d{5,}|\de[+-]\d\d|\{&#34;", text)
    other = write_run(folder / "more", algo_options={"l2": 0.5}, seed=0).parent
    write_run(other, algo_options={"l2": 0.00020704392631504397}, seed=0)
    names = [group_name(group) for group in compare_runs(read_runs([other])[0]).groups]
    assert sorted(names) == [
        "ANIL convex (N = 5, algo_options.l2=0.000207)",
        "ANIL convex (N = 5, algo_options.l2=0.5)",
    ]
