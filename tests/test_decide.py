"""Plans, looks and runs until claims are decided, on runs whose K is known and which take no time to make."""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from fabricated import write_run

from harness.cli import main
from harness.cli.terminal.deciding import seconds_of
from harness.decide import plan as planning
from harness.decide import power, until
from harness.decide import settings as deciding
from harness.decide.power import chance, seeds_needed
from harness.decide.settings import Settings
from harness.errors import InputError
from harness.grid.child import Place
from harness.grid.pool import Job, Pool
from harness.grid.workers import Workers
from harness.report.compared import compared
from harness.report.findings import trends
from harness.report.findings.line import Line
from harness.report.findings.looks import FILE, LEVEL_OF_LOOKS, Looks, looked_at
from harness.report.findings.rows import Row
from harness.report.next_runs import write_next_runs
from harness.report.reading.runs import read_runs

LOOKS = (5, 8)
BASE = {"benchmark": "quadratic", "iterations": 100, "stationarity_every": 5, "threads": 1}
SAME = (
    "algo",
    "geometry",
    "benchmark",
    "ways",
    "shots",
    "queries",
    "inner_steps",
    "meta_batch",
    "engine",
    "dtype",
    "seed",
)
GRID = {"algo": "anil", "geometry": "nonconvex", "inner_steps": [1, 10]}


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump({"title": "t", "base": BASE, "grid": [GRID], "seeds": [3, 0, 1]}, sort_keys=False))
    return str(path)


class Done:
    """Does runs in no time: K to epsilon falls like 1/rate, which depends on N and on the seed."""

    def __init__(self, spread=0.05, effect=2.0):
        self.spread, self.effect, self.calls, self.most = spread, effect, [], math.inf

    def __call__(self, entries, workers, *, until=math.inf, **_):
        todo = [entry for entry in entries if entry.state == "new"]
        self.calls.append([entry.directory.name for entry in todo])
        for entry in todo[: self.most if self.most < math.inf else None]:
            self.most -= 1
            c = entry.config
            noise = np.random.default_rng([c.seed, c.inner_steps]).normal(0, self.spread)
            settings = {name: getattr(c, name) for name in SAME}
            rate = 0.2 * self.effect ** -math.log(c.inner_steps, 10) * math.exp(noise)
            write_run(entry.directory.parent, name=entry.directory.name, rate=rate, **settings)
            entry.summary = {"status": "completed"}


@pytest.fixture
def do(monkeypatch):
    done = Done()
    monkeypatch.setattr(until, "do", done)
    monkeypatch.setattr(planning, "do", done)
    for module in (until, deciding):  # two looks take no time, four a minute
        monkeypatch.setattr(module, "LOOKS", LOOKS)
    monkeypatch.setattr(until, "chance", lambda found, seeds: seeds / 100)
    for few in ("_COARSE", "_FINE"):
        monkeypatch.setattr(power, few, 8)
    return done


def verdicts(claims):
    return {(claim.problem, claim.sentence, claim.verdict) for claim in claims}


def reported(results):
    """As a report has them, which is written from the same comparison."""
    return {(claim.sentence, claim.verdict) for claim in compared([results]).comparison.claims}


def test_seeds_are_those_of_the_suite_and_then_the_smallest_others(suite, tmp_path):
    entries = Settings(suite, tmp_path / "runs").entries(1, 6)
    assert [(entry.config.seed, entry.config.inner_steps) for entry in entries] == [(s, 10) for s in (3, 0, 1, 2, 4, 5)]


def test_it_stops_at_the_first_look_where_all_is_decided_and_a_report_says_the_same(suite, tmp_path, do):
    do.effect = 4.0
    found = until.until_decided(suite, results=tmp_path / "runs")
    assert (found.ended, len(do.calls)) == ("decided", 1)
    assert len(do.calls[0]) == 2 * LOOKS[0]
    assert found.claims
    assert all(claim.verdict != "undecided" for claim in found.claims)
    shown = reported(tmp_path / "runs")
    assert {(claim.sentence, claim.verdict) for claim in found.claims} <= shown
    again = until.until_decided(suite, results=tmp_path / "runs")
    assert verdicts(again.claims) == verdicts(found.claims)
    assert len(do.calls) == 1


def test_looks_go_on_to_the_last_and_the_level_stays_that_of_all(suite, tmp_path, do):
    do.spread, do.effect = 0.3, 1.15
    found = until.until_decided(suite, results=tmp_path / "runs")
    assert found.ended == "nothing more"
    assert [len(call) for call in do.calls] == [10, 6]
    record = json.loads((tmp_path / "runs" / FILE).read_text())
    assert record["level"] == LEVEL_OF_LOOKS
    assert sorted(record["runs"]) == sorted(path.name for path in (tmp_path / "runs").iterdir() if path.is_dir())
    shown = compared([tmp_path / "runs"]).comparison
    assert any("99 % intervals" in line for line in shown.warnings)
    intervals = {claim.sentence: claim.interval_text for claim in found.claims}
    assert {c.sentence: c.interval_text for c in shown.claims if c.sentence in intervals} == intervals


def test_a_verdict_that_95_percent_alone_gives_is_not_given(suite, tmp_path, do):
    """Without the record the same runs are decided at 95 %: the record is what makes the difference."""
    do.spread, do.effect, do.most = 0.15, 1.5, 10
    until.until_decided(suite, results=tmp_path / "runs")
    strict = reported(tmp_path / "runs")
    (tmp_path / "runs" / FILE).unlink()
    loose = reported(tmp_path / "runs")
    held = {verdict for _, verdict in loose} - {"undecided"}
    assert held
    assert sum(v != "undecided" for _, v in strict) < sum(v != "undecided" for _, v in loose)


def test_cut_off_within_a_look_reports_stay_at_the_last_one_and_it_goes_on_to_the_same_end(suite, tmp_path, do):
    do.spread, do.effect = 0.3, 1.15
    whole = until.until_decided(suite, results=tmp_path / "whole")
    do.calls.clear()
    do.most = 12
    cut = until.until_decided(suite, results=tmp_path / "cut")
    assert cut.ended == "budget"
    assert len(list((tmp_path / "cut").glob("*/summary.json"))) == 12
    runs, _ = read_runs([tmp_path / "cut"])
    counted = looked_at(runs)
    assert len(counted.runs) == 10
    assert "2 runs are of looks that are not complete" in counted.notes[-1]
    assert {(claim.sentence, claim.verdict) for claim in cut.claims} <= reported(tmp_path / "cut")
    do.most = math.inf
    on = until.until_decided(suite, results=tmp_path / "cut")
    assert verdicts(on.claims) == verdicts(whole.claims)
    assert on.ended == whole.ended
    names = [sorted(path.name for path in (tmp_path / folder).iterdir()) for folder in ("whole", "cut")]
    assert names[0] == names[1]


def test_the_budget_is_not_begun_to_be_spent_on_a_look_that_does_not_fit(suite, tmp_path, do):
    do.spread, do.effect = 0.3, 1.15
    found = until.until_decided(suite, results=tmp_path / "runs", budget=0.5)  # 1.5 s a run, as it is fabricated
    assert found.ended == "budget"
    assert len(do.calls) == 1
    assert "more than is left" in found.why


@pytest.mark.slow
def test_the_end_of_the_budget_stops_what_is_running_and_no_look_is_recorded(suite, tmp_path):
    document = yaml.safe_load(Path(suite).read_text())
    document["base"] |= {"iterations": 10**6, "stationarity_every": 0, "checkpoint_every": 1000}
    Path(suite).write_text(yaml.safe_dump(document))
    found = until.until_decided(suite, results=tmp_path / "runs", budget=30, workers=1)
    assert found.ended == "budget"
    assert not found.claims
    assert not (tmp_path / "runs" / FILE).exists()
    assert {entry.state for entry in found.entries} <= {"new", "unfinished"}


def test_after_its_end_a_pool_begins_nothing(suite, tmp_path):
    [entry] = Settings(suite, tmp_path / "runs").entries(0, 1)
    pool = Pool([Job(entry.asked, entry.directory)], Workers([Place(threads=1)]))
    assert list(pool.events(until=time.monotonic())) == []
    assert not entry.directory.exists()


def test_settings_that_were_not_looked_at_keep_all_their_runs(suite, tmp_path, do):
    do.effect = 4.0
    until.until_decided(suite, results=tmp_path / "runs")
    for seed in range(7):
        write_run(tmp_path / "runs", algo="maml", benchmark="quadratic", seed=seed)
    assert len(looked_at(read_runs([tmp_path / "runs"])[0]).runs) == 10 + 7


@pytest.mark.parametrize("content", ['{"runs": 3}', "[]", '{"runs": [1]}', "{"])
def test_a_record_that_cannot_be_read_is_refused_and_reported_at_the_stricter_level(suite, tmp_path, do, content):
    do.effect = 4.0
    until.until_decided(suite, results=tmp_path / "runs")
    (tmp_path / "runs" / FILE).write_text(content)
    with pytest.raises(InputError, match=r"looks\.json: .*; allowed: as harness compare --until-decided wrote it"):
        until.until_decided(suite, results=tmp_path / "runs")
    counted = looked_at(read_runs([tmp_path / "runs"])[0])
    assert counted.level == LEVEL_OF_LOOKS
    assert len(counted.runs) == 10
    assert "all runs count" in counted.notes[1]


def test_no_seeds_are_spent_on_what_even_the_last_look_would_not_decide(suite, tmp_path, do, monkeypatch):
    do.spread, do.effect = 0.3, 1.15
    monkeypatch.setattr(until, "chance", lambda found, seeds: 0.04)
    found = until.until_decided(suite, results=tmp_path / "runs")
    assert found.ended == "nothing more"
    assert len(do.calls) == 1
    assert "that no more seeds decide" in found.why


@pytest.mark.parametrize(("seeds", "rule"), [(3, False), (5, True)])
def test_a_report_tells_who_would_look_again_to_do_so_by_the_rule(tmp_path, seeds, rule):
    for seed in range(seeds):
        for steps in (1, 10):
            rate = 0.2 * math.exp(np.random.default_rng([seed, steps]).normal(0, 0.3))
            write_run(tmp_path / "runs", geometry="nonconvex", inner_steps=steps, seed=seed, rate=rate)
    claims = compared([tmp_path / "runs"]).comparison.claims
    next_runs, _ = write_next_runs([claim for claim in claims if claim.line is not None], tmp_path)
    assert next_runs.by_claim
    assert {each.command.endswith(" --until-decided") for each in next_runs.by_claim.values()} == {rule}


def test_the_next_look_goes_where_it_decides_most_an_hour():
    def one(name, settings, chances):
        return until.Open(name, settings, chances)  # a claim is only carried along

    counts = {0: 5, 1: 5, 2: 5}
    dear, cheap = one("dear", (0,), {10: 0.9, 20: 0.9}), one("cheap", (1,), {10: 0.5, 20: 0.6})
    price = {0: 10.0, 1: 1.0, 2: 1.0}
    cost = lambda step: sum(price[each] * (n - counts[each]) for each, n in step.items())  # noqa: E731
    assert until._next([dear, cheap], [dear, cheap], counts, cost) == {1: 10}
    both = one("both", (0, 2), {10: 0.9, 20: 1.0})
    assert until._next([dear, both], [dear, both], counts, cost) == {0: 10, 2: 10}
    late = one("late", (2,), {10: 0.0, 20: 1.0})
    assert until._next([dear, late], [dear, late], counts, cost) == {2: 10}
    assert until._next([dear], [dear, cheap], counts, cost) == {0: 10}
    assert until._next([], [dear], counts, cost) is None


def test_a_plan_asks_for_more_seeds_the_smaller_the_effect(suite, tmp_path, do):
    needed = []
    for number, effect in enumerate((3.0, 1.3)):
        do.effect, do.spread = effect, 0.15
        results = tmp_path / str(number)
        found = planning.plan_of(planning.pilot(suite, results=results))
        assert len(list(results.glob("*/summary.json"))) == 2 * planning.PILOT
        assert not (results / FILE).exists()
        rows = {row.claim.sentence: row for row in found.rows}
        needed.append(next(row for sentence, row in rows.items() if "K(ε" in sentence and "rises" in sentence))
        document = json.loads(json.dumps(found.document()))
        assert document["runs"] == found.runs
        assert len(document["claims"]) == len(found.rows)
    few, many = needed
    assert few.seeds < (many.seeds or math.inf)
    assert few.look == next(n for n in LOOKS if n >= few.seeds)


def test_the_table_of_a_plan_fits_80_columns_and_the_next_command_is_the_rule(suite, tmp_path, do, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["plan", suite, "--results", str(tmp_path / "runs")]) == 0
    told = capsys.readouterr()
    assert "90 % power" in told.out
    assert f"harness compare {suite}" in told.err
    assert "--until-decided" in told.err
    assert main(["plan", suite, "--results", str(tmp_path / "runs"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["level"] == LEVEL_OF_LOOKS


def test_the_command_says_verdicts_and_why_it_ended(suite, tmp_path, do, capsys):
    do.effect = 4.0
    words = ["compare", suite, "--until-decided", "--budget", "2h", "--results", str(tmp_path / "runs")]
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ended"] == "decided"
    assert {claim["seeds"] for claim in document["claims"]} == {5}
    assert main(words) == 0
    told = capsys.readouterr()
    assert "every claim that this suite can be asked is decided" in told.out
    assert "harness report" in told.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--until-decided", "--budget", "2 hours"], "--budget '2 hours': allowed: a time above 0 with its unit"),
        (["--until-decided", "--budget", "0h"], "--budget '0h': allowed: a time above 0"),
        (["--budget", "2h"], "--budget without --until-decided: allowed: both, or neither"),
        (["--until-decided", "--seeds", "0..4"], "--seeds with --until-decided: allowed: one of them"),
        (["--until-decided", "--dry-run"], "--dry-run with --until-decided: allowed: one of them"),
        (["--until-decided", "--set", "seed=3"], "--seeds with --set"),
    ],
)
def test_what_cannot_be_asked_for_is_said_in_one_line(suite, tmp_path, do, capsys, words, says):
    assert main(["compare", suite, "--results", str(tmp_path / "runs"), *words]) == 2
    assert says in capsys.readouterr().err
    assert not do.calls


@pytest.mark.parametrize(("text", "seconds"), [("2h", 7200), ("90min", 5400), ("1.5h", 5400), ("300s", 300)])
def test_durations(text, seconds):
    assert seconds_of(text) == seconds


def line(*rows):
    return Line(tuple(float(n + 1) for n in range(len(rows))), tuple(Row.known(dict(enumerate(r))) for r in rows), ())


def falls(found, level):
    return trends.falls(found, level)[0]


def test_a_large_effect_takes_five_seeds_and_none_takes_more_than_can_be_had():
    random = np.random.default_rng(1)
    last = np.exp(random.normal(0, 0.05, 5))
    found = line(last * 3, last * np.exp(random.normal(0, 0.05, 5))), falls
    assert seeds_needed(found) == 5
    assert chance(found, 10) == 1
    nothing = line(np.exp(random.normal(0, 1, 5)), np.exp(random.normal(0, 1, 5))), falls
    assert (seeds_needed(nothing) or 1000) > 40
    assert seeds_needed((line([1.0, 2.0], [3.0, 4.0]), falls)) is None
    assert math.isnan(chance((line([1.0, 2.0], [3.0, 4.0]), falls), 10))


def test_what_was_looked_at_is_what_was_written(tmp_path):
    Looks().with_runs(["b", "a"]).write(tmp_path)
    assert json.loads((tmp_path / FILE).read_text())["runs"] == ["a", "b"]
    shutil.rmtree(tmp_path)
    assert not Path(tmp_path).exists()
