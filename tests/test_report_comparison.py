"""Comparisons: targets, factors, claims, findings and warnings that a reader can rely on."""

import json
import math
import shutil

import pytest
from fabricated import first_below, write_grid, write_run
from hypothesis import given
from hypothesis import strategies as st
from search import search

from harness.errors import InputError
from harness.report.findings.comparison import compare_runs
from harness.report.findings.costs import Target, targets_of
from harness.report.reading.runs import read_runs
from harness.report.tables.build import tables_of
from harness.report.tables.cells import interval_text, shown

EPSILON = Target("epsilon", 0.1)


def compare(folder, *targets, mix=False):
    runs, skipped = read_runs([folder])
    return compare_runs(runs, list(targets) or None, mix, skipped)


def claim(comparison, *words):
    (found,) = [each for each in comparison.claims if all(word in each.sentence for word in words)]
    return found


def write_seeds(folder, rates, seeds=5, **options):
    """ANIL runs at every N of ``rates``, whose K falls with the rate."""
    for steps, rate in rates.items():
        for seed in range(seeds):
            write_run(folder, inner_steps=steps, seed=seed, rate=rate * (1 + 0.01 * seed), **options)


def test_the_headline_is_the_smallest_epsilon_that_every_method_reaches_at_its_best_n(tmp_path):
    write_seeds(tmp_path, {1: 0.001, 5: 0.05}, algo="maml")
    write_seeds(tmp_path, {1: 0.1})
    found = compare(tmp_path)
    assert found.headline == Target("epsilon", 0.03)
    reason = {kind: headline.reason for kind, headline in found.headlines["fc100"].items()}
    assert reason["epsilon"] == "the smallest ε of a 1-3-10 grid that every seed of every method reaches at its best N"
    assert reason["loss"] == "the lowest loss from the data that every seed of every method reaches at its best N"
    assert found.headline in found.targets
    assert all(found.headline in result.costs for result in found.results)


def test_where_no_epsilon_is_reached_by_all_the_headline_is_what_somebody_reaches(tmp_path):
    write_seeds(tmp_path, {1: 0.001}, algo="maml")
    write_seeds(tmp_path, {1: 0.1})
    found = compare(tmp_path)
    assert found.headline == Target("epsilon", 3e-4)  # 1e-4 is met at the last measurement alone
    assert "no target is reached by every method" in found.headlines["fc100"]["epsilon"].reason
    (row,) = found.factors
    assert row.target.value > 0.1  # what MAML comes to, exp(-0.001 K), and not the headline
    assert f"to reach {row.target} " in found.findings[0]


def test_given_targets_are_kept_and_the_headline_is_one_of_them(tmp_path):
    write_seeds(tmp_path, {1: 0.1})
    given = [Target("epsilon", 0.5), EPSILON, Target("epsilon", 1e-9), Target("loss", 1.2), Target("accuracy", 0.5)]
    found = compare(tmp_path, *given)
    assert found.targets == given
    assert found.headline == EPSILON
    reason = found.headlines["fc100"]["epsilon"].reason
    assert reason == "the smallest ε given that every seed of every method reaches at its best N"
    (result,) = found.results
    assert result.costs[Target("epsilon", 1e-9)].iterations.value == math.inf
    assert result.costs[Target("loss", 1.2)].iterations.value == 15
    assert result.costs[Target("accuracy", 0.5)].iterations.value == 15


@pytest.mark.parametrize(("rate", "step"), [(0.1, 1), (1.0, 3)])
def test_at_most_nine_targets_are_shown_evenly_and_the_headline_with_them(tmp_path, rate, step):
    write_seeds(tmp_path, {1: rate})
    found = compare(tmp_path)
    shown = [target for target in found.targets if target.kind == "epsilon"]
    epsilons = [Target("epsilon", float(f"{digit}e-{n}")) for n in range(12) for digit in (3, 1)][1:]
    reached = epsilons[: epsilons.index(found.headline) + 1]
    assert len(reached) == (8 if step == 1 else 23)
    assert shown == reached[::-1][::step][::-1]


def test_an_accuracy_of_one_may_be_asked_for_and_none_above():
    assert targets_of(accuracies=[1.0]) == [Target("accuracy", 1.0)]
    with pytest.raises(InputError, match=r"--accuracy 1\.01: allowed: a number > 0 and <= 1"):
        targets_of(accuracies=[1.01])


def test_without_measurements_there_is_no_headline_and_the_report_says_so(tmp_path):
    write_grid(tmp_path, seeds=1, steps=(1,), stationarity_every=0)
    found = compare(tmp_path)
    assert found.headline is None
    assert found.targets == []
    assert "--stationarity-every" in found.findings[0]
    assert {each.verdict for each in found.claims} == {"undecided"}


def test_the_first_finding_is_the_factor_beside_its_prediction(tmp_path):
    write_seeds(tmp_path, {5: 0.05}, algo="maml", L=1.0)
    write_seeds(tmp_path, {5: 0.1})
    found = compare(tmp_path, EPSILON)
    maml, anil = (first_below(0.1, rate * 1.02, layers=2) for rate in (0.05, 0.1))
    factor = 600 * maml / (150 * anil)
    assert found.findings[0].startswith(
        f"MAML needed {factor:.3g} times the gradient entries of ANIL convex (N = 5) to reach ε = 0.1 (95 % interval "
    )
    assert f"predicted {500 / 140 * 1.1**5:.3g} times" in found.findings[0]
    assert found.factors[0].gradient.measured.value == pytest.approx(factor)  # one direction, in words and in tables


def test_few_seeds_are_shown_and_marked(tmp_path):
    write_seeds(tmp_path, {5: 0.05}, seeds=3, algo="maml")
    write_seeds(tmp_path, {5: 0.1}, seeds=3)
    found = compare(tmp_path, EPSILON)
    assert "3 seeds, fewer than the 5 a claim needs" in found.findings[0]
    assert any("fewer than 5 seeds" in line for line in found.warnings)
    assert {each.verdict for each in found.claims} == {"undecided"}


def test_maml_is_compared_on_the_blocks_of_each_anil(tmp_path):
    write_seeds(tmp_path, {5: 0.05}, algo="maml")
    write_seeds(tmp_path, {5: 0.1}, geometry="convex")
    found = compare(tmp_path, EPSILON)
    maml = found.results[0]
    assert list(maml.blocks) == ["anil convex"]
    own, block = maml.costs[EPSILON].iterations.value, maml.blocks["anil convex"][EPSILON].iterations.value
    assert own == first_below(0.1, 0.05 * 1.02, layers=3)
    assert block == first_below(0.1, 0.05 * 1.02, layers=2)
    assert own > block
    (row,) = found.factors
    assert row.gradient.measured.value == pytest.approx(
        600 * block / (150 * found.results[1].costs[EPSILON].iterations.value)
    )


def test_maml_of_another_model_or_n_is_no_partner(tmp_path):
    write_seeds(tmp_path, {3: 0.05}, algo="maml")
    write_seeds(tmp_path, {5: 0.05}, algo="maml", model_options={"filters": 16})
    write_seeds(tmp_path, {5: 0.1})
    assert compare(tmp_path, EPSILON).factors == []


def test_the_partner_is_the_maml_with_the_same_settings(tmp_path):
    for rate in (0.1, 0.01):
        write_seeds(tmp_path, {5: 0.05}, algo="maml", inner_lr=rate)
        write_seeds(tmp_path, {5: 0.1}, inner_lr=rate)
    rows = compare(tmp_path, EPSILON).factors
    assert [(row.anil.same("inner_lr"), row.maml.same("inner_lr")) for row in rows] == [(0.01, 0.01), (0.1, 0.1)]
    assert [row.differing for row in rows] == [(), ()]


@pytest.mark.parametrize(
    ("rates", "verdict"),
    [
        ({1: 0.02, 3: 0.05, 10: 0.055}, "held"),
        ({1: 0.1, 3: 0.05, 10: 0.02}, "refuted"),
        ({1: 0.05, 3: 0.1, 10: 0.02}, "refuted"),
        ({1: 0.05, 3: 0.05, 10: 0.05}, "undecided"),
    ],
)
def test_convex_k_falls_and_saturates(tmp_path, rates, verdict):
    write_seeds(tmp_path, rates, iterations=200)
    found = claim(compare(tmp_path, EPSILON), "K(ε = 0.1) falls with N")
    assert found.verdict == verdict
    assert "5 shared seeds" in found.interval_text


@pytest.mark.parametrize(
    ("rates", "verdict"), [({1: 0.02, 3: 0.1, 10: 0.1}, "held"), ({1: 0.1, 3: 0.1, 10: 0.1}, "refuted")]
)
def test_convex_cost_falls_then_rises(tmp_path, rates, verdict):
    write_seeds(tmp_path, rates, iterations=200)
    found = claim(compare(tmp_path, EPSILON), "gradient entries to ε", "fall, then rise")
    assert found.verdict == verdict
    assert f"at equal K they would rise {(10 * 10 + 100) / (1 * 10 + 100):.3g} times" in found.detail


@pytest.mark.parametrize(
    ("rates", "verdict"),
    [
        ({1: 0.1, 3: 0.05, 10: 0.03}, "held"),
        ({1: 0.02, 3: 0.5, 10: 0.5}, "refuted"),
        ({1: 0.02, 3: 0.1, 10: 0.01}, "refuted"),
    ],
)
def test_nonconvex_cost_rises(tmp_path, rates, verdict):
    write_seeds(tmp_path, rates, iterations=400, geometry="nonconvex")
    assert claim(compare(tmp_path, EPSILON), "nonconvex", "seconds to ε").verdict == verdict


def test_misses_within_fewer_iterations_prove_nothing(tmp_path):
    write_seeds(tmp_path, {1: 0.1}, iterations=200, geometry="nonconvex")
    write_seeds(tmp_path, {10: 0.1}, iterations=10, geometry="nonconvex")
    runs, _ = read_runs([tmp_path])
    for run in runs:
        run.config["iterations"] = 200  # as one series
    found = claim(compare_runs(runs, [EPSILON]), "nonconvex", "seconds to ε")
    assert found.verdict == "undecided"
    assert "to ∞" in found.interval_text


@pytest.mark.parametrize(("diverged", "verdict"), [(5, "held"), (0, "refuted"), (3, "undecided")])
def test_nonconvex_divergence_at_thirty_steps(tmp_path, diverged, verdict):
    write_seeds(tmp_path, {1: 0.1}, geometry="nonconvex")
    for seed in range(5):
        how = {"status": "diverged", "done": 7} if seed < diverged else {}
        write_run(tmp_path, geometry="nonconvex", inner_steps=30, seed=seed, **how)
    found = compare(tmp_path, EPSILON)
    assert claim(found, "diverges at N = 30").verdict == verdict
    assert any(f"{diverged} of 5 runs diverged" in line for line in found.warnings) == (diverged > 0)


def test_divergence_with_another_step_size_is_no_evidence(tmp_path):
    write_seeds(tmp_path, {1: 0.1}, geometry="nonconvex")
    for seed in range(5):
        write_run(tmp_path, geometry="nonconvex", inner_steps=30, inner_lr=0.5, seed=seed, status="diverged", done=7)
    found = claim(compare(tmp_path, EPSILON), "diverges at N = 30")
    assert found.verdict == "undecided"
    assert "missing" in found.detail


@pytest.mark.parametrize(
    ("rate", "L", "verdict"), [(0.02, 1.0, "held"), (0.1, 1.0, "refuted"), (0.02, None, "undecided")]
)
def test_anil_needs_fewer_entries_by_the_predicted_factor(tmp_path, rate, L, verdict):
    write_seeds(tmp_path, {5: rate}, algo="maml", L=L, iterations=200)
    write_seeds(tmp_path, {5: 0.1}, iterations=200)
    found = claim(compare(tmp_path, EPSILON), "ANIL convex", "fewer gradient")
    assert found.verdict == verdict
    assert ("L was not measured" in found.detail) == (L is None)


def test_a_factor_of_each_kind_of_entries_stands_beside_its_own_prediction(tmp_path):
    write_seeds(tmp_path, {3: 0.02}, seeds=4, algo="maml", iterations=200)
    write_seeds(tmp_path, {5: 0.02}, algo="maml", iterations=200, L=1.0)
    write_seeds(tmp_path, {3: 0.1, 5: 0.1}, iterations=200)
    found = compare(tmp_path, EPSILON)
    for kind, each in (("gradient", 600 / 150), ("second-order", 50_000 / 5000)):
        text = claim(found, "ANIL convex", f"fewer {kind}")
        for row in found.factors:
            factor = row.gradient if kind == "gradient" else row.second_order
            assert f"N = {row.inner_steps}, to ε = 0.1: {interval_text(factor.measured)}" in text.interval_text
            assert f"{shown(factor.predicted)} (N = {row.inner_steps})" in text.detail
        maml, anil = (first_below(0.1, rate * 1.02, layers=2) for rate in (0.02, 0.1))
        assert f"N = 5, to ε = 0.1: {shown(each * maml / anil)} " in text.interval_text
        assert "L was not measured" in text.detail  # at N = 3
        assert text.interval_text.endswith("; 4 shared seeds, fewer than the 5 a claim needs")  # at N = 3


def test_missing_runs_are_named(tmp_path):
    write_run(tmp_path)
    found = compare(tmp_path, EPSILON)
    missing = "missing: ANIL convex runs at 3 or more N that differ in nothing else"
    assert claim(found, "ANIL convex: K falls").detail == missing
    assert "missing: ANIL nonconvex and MAML runs" in claim(found, "nonconvex", "fewer gradient").detail


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"packages": {"torch": "2.14.0"}}, "torch: 2.14.0, 2.15.0"),
        ({"cpu": {"model": "Other", "threads": 1}}, "CPU: Other, Some CPU"),
        ({"cpu": {"model": "Some CPU", "threads": 8}}, "threads: 1, 8"),
        ({"gpu": {"name": "H200"}}, "GPU: H200, none"),
    ],
)
def test_machines_are_not_mixed_unless_told(tmp_path, change, named):
    write_run(tmp_path, seed=0)
    write_run(tmp_path, seed=1, environment=change)
    with pytest.raises(InputError, match=f"{named}.*--mix") as error:
        compare(tmp_path)
    assert "\n" not in str(error.value)
    assert any(named in line for line in compare(tmp_path, mix=True).warnings)


def test_an_unreadable_environment_is_a_warning(tmp_path):
    write_run(tmp_path, seed=0)
    (write_run(tmp_path, seed=1) / "environment.json").write_text('{"cpu": [')
    assert any("environment.json of 1 run(s)" in line for line in compare(tmp_path).warnings)


def test_whatever_weakens_the_comparison_is_said(tmp_path):
    dirty = {"git": {"commit": "f" * 40, "dirty": True}}
    for seed in range(5):
        write_run(tmp_path, seed=seed, seconds=0.01 * (1 + seed), environment=dirty if seed == 4 else {})
    write_run(tmp_path, seed=0, name="zzz")
    write_run(tmp_path, algo="maml", meta_batch=8)
    write_run(tmp_path, algo="maml", inner_steps=1, status="out_of_memory", done=2)
    torn = write_run(tmp_path, inner_steps=1) / "stationarity.jsonl"
    torn.write_text(torn.read_text()[:-200])
    (tmp_path / "empty").mkdir()
    warnings = "\n".join(compare(tmp_path, EPSILON).warnings)
    for words in (
        "fewer than 5 seeds",
        "MAML (N = 1): 1 of 1 runs ran out of memory",
        "meta_batch differs between groups (4, 8)",
        "ANIL convex (N = 5) and MAML (N = 5) differ in meta_batch",
        "do not have the same seeds",
        "does not reach the last meta-iteration",
        "measured every 5",
        "2 runs of seed 0",
        "ANIL convex (N = 5): 67%",
        "1 of 9 runs come from a checkout with uncommitted changes",
        "runs come from 2 commits",
        "1 line left out",
        "empty: empty folder",
    ):
        assert words in warnings, words


def test_counts_that_are_not_the_formulas_are_said(tmp_path):
    folder = write_run(tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    summary["counts_per_task"]["gradient_entries"] = 151
    (folder / "summary.json").write_text(json.dumps(summary))
    assert any("151 gradient entries a task were counted" in line for line in compare(tmp_path).warnings)


def test_a_clean_comparison_has_no_warnings(tmp_path):
    write_seeds(tmp_path, {5: 0.05}, stationarity_every=1)
    assert compare(tmp_path, EPSILON).warnings == []


def test_accuracy_is_that_of_the_completed_runs(tmp_path):
    for seed in range(4):
        write_run(tmp_path, seed=seed, accuracy=0.1 * (seed + 1))
    write_run(tmp_path, seed=4, status="diverged", done=3)
    (result,) = compare(tmp_path).results
    assert result.accuracy.value == pytest.approx(0.25)
    assert (result.accuracy.seeds, result.diverged) == (4, 1)


@pytest.mark.parametrize("iterations", [2, 100])
def test_seconds_per_iteration_leave_the_warm_up_out(tmp_path, iterations):
    folder = write_run(tmp_path, seconds=0.01, iterations=iterations)
    path = folder / "summary.json"
    summary = json.loads(path.read_text())
    summary["seconds"] |= {"train": 7 + (iterations - 1) * 0.01, "first_iteration": 7.0}
    path.write_text(json.dumps(summary))
    (result,) = compare(tmp_path).results
    assert result.seconds["train"] == pytest.approx(0.01)
    assert result.seconds["second_order"] == pytest.approx(0.003)


def test_the_order_of_runs_changes_nothing(tmp_path):
    write_grid(tmp_path, seeds=2, steps=(1, 5))
    runs, _ = read_runs([tmp_path])
    first, second = compare_runs(runs), compare_runs(reversed(runs))
    assert (first.findings, first.warnings, first.claims) == (second.findings, second.warnings, second.claims)
    assert [row.gradient for row in first.factors] == [row.gradient for row in second.factors]


def test_several_problems_have_headlines_of_their_own(tmp_path):
    write_seeds(tmp_path, {5: 0.1}, benchmark="fc100")
    write_seeds(tmp_path, {5: 0.01}, benchmark="quadratic")
    found = compare(tmp_path)
    assert found.problems == ["fc100", "quadratic"]
    headlines = [found.headlines[problem]["epsilon"].target.value for problem in found.problems]
    assert headlines[0] < headlines[1]
    assert found.headline.value == headlines[0]
    assert found.findings[0].startswith("fc100: ")


def test_the_page_of_a_run_with_hostile_names_has_printable_lines(tmp_path):
    for seed in range(2):
        write_run(tmp_path, seed=seed, benchmark="<b>\n\x1b[0m\u202e", name=f"r{seed}")
    found = compare(tmp_path)
    assert all(line.isprintable() for line in [*found.findings, *found.warnings, *found.problems])


@search(25)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "algo": st.sampled_from(["maml", "fomaml", "anil", "imaml"]),
                "inner_steps": st.sampled_from([0, 1, 5, 30]),
                "seed": st.integers(0, 2),
                "iterations": st.sampled_from([1, 7, 20]),
                "stationarity_every": st.sampled_from([0, 3]),
                "rate": st.sampled_from([-1.0, 0.0, 0.1, 30.0]),
                "status": st.sampled_from(["completed", "diverged", "out_of_memory"]),
                "inner_lr": st.sampled_from([0.1, 0.01]),
                "L": st.sampled_from([None, 0.0, 1e200]),
            }
        ),
        min_size=1,
        max_size=8,
    )
)
def test_no_mixture_of_runs_leads_to_a_traceback(tmp_path, runs):
    from harness.report.tables.build import tables_of, to_csv, to_json, to_latex, to_markdown

    folder = tmp_path / "runs"
    shutil.rmtree(folder, ignore_errors=True)
    for index, run in enumerate(runs):
        done = run["iterations"] if run["status"] == "completed" else run["iterations"] - 1
        write_run(folder, name=str(index), done=done, **run)
    tables = tables_of(compare(folder))
    assert to_markdown(tables)
    assert to_latex(tables)
    assert json.loads(to_json(tables))
    assert [to_csv(table) for table in tables]


def test_trends_are_asked_at_a_target_that_every_n_reaches(tmp_path):
    write_seeds(tmp_path, {1: 0.02, 3: 0.05, 10: 0.055}, iterations=200)
    found = claim(compare(tmp_path), "K(ε", "falls with N")
    reached = float(found.sentence.split("ε = ")[1].split(")")[0])
    slowest = 2 * math.exp(-0.02 * 195)  # of every seed, before the end, where one low value does not count
    assert slowest <= reached < 1.1 * slowest
    assert found.verdict == "held"


@pytest.mark.parametrize(("apart", "warned"), [(False, 0), (True, 1)])
def test_methods_that_did_not_take_turns_are_named_as_their_seconds_do_not_compare(apart, warned, tmp_path):
    for which, algo in enumerate(("anil", "maml")):
        for seed in range(5):
            minute = 5 * which + seed if apart else 2 * seed + which
            began = {"sittings": [{"started": f"2026-01-01T00:{minute:02}:00+00:00", "load_average": 1.0}]}
            write_run(tmp_path, algo=algo, seed=seed, environment=began)
    lines = [line for line in compare_runs(read_runs([tmp_path])[0]).warnings if "made at different times" in line]
    assert len(lines) == warned
    assert all("the seconds of ANIL convex (N = 5) and MAML (N = 5) do not compare" in line for line in lines)


def test_a_stricter_level_decides_claims_and_nothing_else(tmp_path):
    """What is looked at repeatedly takes wider intervals; tables and targets stay as they are."""
    for seed in range(5):
        write_run(tmp_path, algo="maml", inner_steps=5, seed=seed, rate=0.05, L=0.1, geometry="nonconvex")
        write_run(tmp_path, inner_steps=5, seed=seed, rate=0.06 * (1 + 0.4 * seed))
    runs = read_runs([tmp_path])[0]
    usual, strict = (compare_runs(runs, [EPSILON], level=level) for level in (0.95, 0.999))
    assert claim(usual, "ANIL convex", "fewer gradient").verdict == "held"
    assert claim(strict, "ANIL convex", "fewer gradient").verdict == "undecided"
    assert [tables.rows for tables in tables_of(usual) if tables.name == "factors"] == [
        tables.rows for tables in tables_of(strict) if tables.name == "factors"
    ]
