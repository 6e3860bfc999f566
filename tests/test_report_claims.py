"""The list of claims: each is asked of the runs that it is about, and of no others."""

from __future__ import annotations

import math

import pytest
from fabricated import write_run
from test_report_comparison import EPSILON, claim, compare, write_seeds

from harness.report.findings.claims import READERS, STATISTICS
from harness.report.findings.entries import entries, listed
from harness.report.tables.cells import shown

#: alpha = mu / L^2, SGD, beta_w = mu^2 (1-xi)^(-N/2), beta_phi = mu^3 or so
THEOREM_1 = {"outer_optimizer": "sgd", "inner_lr": 0.5, "algo_options": {"l2": 0.5}, "outer_lr_phi": 0.25, "L": 1.0}


def as_theorem_1_has_it(folder, rates, **settings):
    for steps, rate in rates.items():
        beta = 0.25 * 0.75 ** (-steps / 2)
        write_seeds(folder, {steps: rate}, outer_lr_w=beta, iterations=200, **THEOREM_1, **settings)


def test_the_list_is_whole():
    assert len({entry.name for entry in listed()}) == len(listed())
    for entry in entries():
        assert entry.read in READERS
        assert entry.statistic in STATISTICS
        assert entry.sentence.format(K="K", target="t", kind="k", what="w", geometry="g")
        assert entry.where
        assert entry.says


def test_every_entry_is_asked_of_any_runs(tmp_path):
    write_run(tmp_path)
    found = compare(tmp_path, EPSILON).claims
    assert {each.verdict for each in found} == {"undecided"}
    sections = list(dict.fromkeys(each.section for each in found))
    assert sections == list(dict.fromkeys(entry.section for entry in listed()))
    assert all(each.remedy is not None for each in found)


@pytest.mark.parametrize(("last", "verdict"), [(0.1, "held"), (2.0, "refuted")])
def test_smoothness_in_w_falls_with_n_where_alpha_is_the_propositions(tmp_path, last, verdict):
    for steps, secant in {1: 1.0, 10: last}.items():
        as_theorem_1_has_it(tmp_path, {steps: 0.05}, secants=(secant, 1.0))
    found = claim(compare(tmp_path, EPSILON), "smoother in w")
    assert found.verdict == verdict
    assert "Proposition 2" in found.conditions


def test_propositions_are_not_asked_of_another_alpha(tmp_path):
    for steps, secant in {1: 1.0, 10: 0.1}.items():
        write_seeds(tmp_path, {steps: 0.05}, secants=(secant, 1.0), L=1.0)
    found = claim(compare(tmp_path, EPSILON), "smoother in w")
    assert found.verdict == "undecided"
    assert "step size α of the theorem" in found.detail


@pytest.mark.parametrize(("power", "verdict"), [(0, "refuted"), (1, "held"), (2, "refuted")])
def test_linear_growth_is_told_from_none_and_from_more(tmp_path, power, verdict):
    for steps in (1, 3, 10):
        secants = (float(steps**power), 1.0)
        write_seeds(tmp_path, {steps: 0.05}, geometry="nonconvex", inner_lr=0.5 / steps, L=1.0, secants=secants)
    found = claim(compare(tmp_path, EPSILON), "smoothness constant in w")
    assert found.verdict == verdict
    assert ("(constant)" in found.interval_text) == (power == 0)


def test_a_theorems_claim_and_what_practice_shows_are_two(tmp_path):
    as_theorem_1_has_it(tmp_path / "theorem", {1: 0.02, 3: 0.05, 10: 0.05})
    write_seeds(tmp_path / "practice", {1: 0.05, 3: 0.05, 10: 0.02}, iterations=200)
    found = compare(tmp_path, EPSILON)
    assert claim(found, "Theorem 1's steps: K(ε").verdict == "held"
    assert claim(found, "ANIL convex: K(ε = 0.1) falls").verdict == "refuted"
    assert claim(found, "Theorem 1's steps: the mean squared norm falls with K").verdict == "held"
    assert claim(found, "ANIL convex", "grow at most like ε^-2").verdict == "held"


def test_the_error_is_compared_between_batches(tmp_path):
    for tasks, rate in {2: 0.01, 8: 0.02, 32: 0.05}.items():
        write_seeds(tmp_path, {3: rate}, outer_optimizer="sgd", meta_batch=tasks)
    found = claim(compare(tmp_path, EPSILON), "ANIL convex, SGD", "falls with B")
    assert found.verdict == "held"
    assert "squared norm at B = 2 over B = 32" in found.interval_text


@pytest.mark.parametrize(
    ("rates", "fastest", "not_first"),
    [({1: 0.02, 3: 0.1, 10: 0.02}, "refuted", "held"), ({1: 0.1, 3: 0.05, 10: 0.02}, "held", "refuted")],
)
def test_whether_one_inner_step_is_fastest(tmp_path, rates, fastest, not_first):
    write_seeds(tmp_path, rates, iterations=400, geometry="nonconvex")
    found = compare(tmp_path, EPSILON)
    assert claim(found, "N = 1 is fastest in time to ε").verdict == fastest
    assert claim(found, "K(ε", "is not least at N = 1").verdict == not_first


def test_seven_steps_are_compared_with_ten(tmp_path):
    write_seeds(tmp_path, {1: 0.02, 7: 0.05, 10: 0.05}, iterations=200)
    assert claim(compare(tmp_path, EPSILON), "K(ε", "saturated at N = 7").verdict == "held"


def test_the_geometries_trends_are_compared(tmp_path):
    write_seeds(tmp_path, {1: 0.02, 10: 0.05}, iterations=400)
    write_seeds(tmp_path, {1: 0.05, 10: 0.02}, iterations=400, geometry="nonconvex")
    found = claim(compare(tmp_path, EPSILON), "K to its ε rises more with a nonconvex")
    assert found.verdict == "held"
    assert found.interval_text.startswith("change from N = 1 to N = 10, of one over the other: ")


@pytest.mark.parametrize(("anil", "verdict"), [(0.5, "held"), (0.46, "refuted")])
def test_accuracies_are_alike_within_two_points(tmp_path, anil, verdict):
    for seed in range(5):
        write_run(tmp_path, algo="maml", geometry="nonconvex", seed=seed, accuracy=0.5 + 0.001 * seed, seconds=0.05)
        write_run(tmp_path, seed=seed, accuracy=anil, seconds=0.01)
    found = compare(tmp_path, EPSILON)
    assert claim(found, "ANIL convex is as accurate as MAML").verdict == verdict
    assert claim(found, "ANIL convex takes fewer seconds an iteration").verdict == "held"


def test_at_its_best_n_each_is_compared_with_the_others_best(tmp_path):
    write_seeds(tmp_path, {1: 0.05, 5: 0.02}, algo="maml", iterations=400)
    write_seeds(tmp_path, {1: 0.1, 5: 0.1}, iterations=400)
    assert claim(compare(tmp_path, EPSILON), "MAML at its best N", "gradient entries", "ANIL convex").verdict == "held"


def test_a_step_size_that_falls_with_n_is_compared_with_one_that_does_not(tmp_path):
    for steps in (3, 30):
        write_seeds(tmp_path, {steps: 0.02}, geometry="nonconvex", iterations=400)
    for steps in (5, 30):
        write_seeds(tmp_path, {steps: 0.1}, geometry="nonconvex", inner_lr=0.3 / steps, iterations=400)
    found = claim(compare(tmp_path, EPSILON), "α ~ 1/N takes fewer iterations to ε")
    assert found.verdict == "held"
    assert found.interval_text.startswith("K at α = 0.1 over α = 0.01: ")


def test_the_squared_norm_of_each_block_is_its_own(tmp_path):
    as_theorem_1_has_it(tmp_path, {1: 0.02, 3: 0.05, 10: 0.05})
    found = compare(tmp_path, EPSILON)
    in_w, in_phi = claim(found, "squared norm in w falls"), claim(found, "squared norm in φ saturates")
    assert (in_w.verdict, in_phi.verdict) == ("held", "held")
    average = sum(math.exp(-0.02 * 1.02 * k) for k in range(0, 201, 5)) / 41  # of the middle seed
    assert f"medians: {shown(average)} (1)" in in_w.detail
    assert f"medians: {shown(2 * average)} (1)" in in_phi.detail  # of two layers


@pytest.mark.parametrize(("every", "verdict"), [(5, "held"), (20, "undecided")])
def test_ties_of_a_coarse_grid_are_not_the_same(tmp_path, every, verdict):
    write_seeds(tmp_path, {1: 0.01, 7: 0.05, 10: 0.052}, iterations=400, stationarity_every=every)
    found = claim(compare(tmp_path, EPSILON), "K(ε", "saturated at N = 7")
    assert found.verdict == verdict
    if verdict == "undecided":
        assert found.remedy.why.startswith("measured every 20 iterations")
        assert {("stationarity_every", 5)} == {change for each in found.remedy.wanted for change in each.changes}
