"""Reports on Definition 1: no number that noise, chance, a miss or a target met before training has made."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from courses import measured_run
from fabricated import write_run
from test_report_comparison import EPSILON, claim, compare, write_seeds

from harness.experiment.unbiased import smoothed
from harness.report.findings.comparison import compare_runs
from harness.report.findings.costs import Target, cost_to
from harness.report.findings.targets import reached_by_all
from harness.report.reading.runs import read_runs
from harness.report.tables.build import tables_of


def rewrite(folder, change, name="stationarity.jsonl"):
    """Every line of a run's file through ``change``."""
    path = folder / name
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        change(line)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def only(folder):
    ((run,), _) = read_runs([folder])
    return run


def test_k_is_that_of_the_unbiased_norms_on_every_block(tmp_path):
    folder = write_run(tmp_path, algo="maml")

    def noisy(line):
        line["squared_norms"] = {name: norm + 10 for name, norm in line["squared_norms"].items()}
        line["grad_w_squared_norm"] += 30

    before = {w: cost_to(only(tmp_path), EPSILON, w) for w in (None, ("head.weight",))}
    rewrite(folder, noisy)
    assert {w: cost_to(only(tmp_path), EPSILON, w) for w in before} == before
    assert before[None].iterations == 35


def test_one_low_value_in_a_noisy_course_is_no_k():
    values = np.array([[4.0, 3.0, 2.0, -0.1, 2.0, 1.5, 0.2, 0.1, 0.3, -0.5]]).T
    assert smoothed(values)[:, 0].tolist() == [4.0, 3.0, 2.0, 2.0, 1.5, 1.5, 0.2, 0.2, 0.1, 0.3]


def test_a_falling_course_keeps_its_values_but_for_the_last():
    values = np.array([[5.0, 4.0, 2.0, 1.0, 0.5]]).T
    assert smoothed(values)[:, 0].tolist() == [5.0, 4.0, 2.0, 1.0, 1.0]


@pytest.mark.parametrize(("error", "rate"), [(0.04, 0.1), (0.2, 0.1), (0.04, 0.03)])
def test_no_epsilon_below_two_standard_errors_is_chosen(tmp_path, error, rate):
    write_seeds(tmp_path, dict.fromkeys((1, 3, 10), rate), error=error, geometry="nonconvex")
    found = compare(tmp_path)
    assert found.headline.value >= 4 * error
    k = claim(found, "K(ε", "rises")
    assert float(k.sentence.split("ε = ")[1].split(")")[0]) >= 4 * error
    table = next(each for each in tables_of(found) if each.name == "table2")
    for shown in column(table, "error of Definition 1 at K"):
        assert shown == pytest.approx(2 * error)  # w has two layers


def column(table, name):
    return [row[table.columns.index(name)] for row in table.rows]


def test_an_epsilon_given_below_two_standard_errors_decides_nothing(tmp_path):
    write_seeds(tmp_path, {1: 0.1, 10: 0.02}, error=0.3, geometry="nonconvex", iterations=400)
    found = claim(compare(tmp_path, EPSILON), "K(ε", "rises")
    assert found.verdict == "undecided"
    assert "below 2 standard errors" in found.detail


def test_runs_of_older_versions_are_read_and_marked(tmp_path):
    write_seeds(tmp_path, {1: 0.1, 10: 0.02}, error=None, geometry="nonconvex", iterations=400)
    found = compare(tmp_path)
    assert found.headline is None  # how much of it is noise is not known
    assert any("measured by an older version, with the noise of the sampled tasks" in line for line in found.warnings)
    given = compare(tmp_path, EPSILON)
    assert all(result.costs[EPSILON].median.iterations < 400 for result in given.results)
    assert claim(given, "K(ε", "rises").verdict == "undecided"


def test_a_target_is_one_that_every_seed_of_every_member_reaches(tmp_path):
    for steps in (1, 10):
        for seed in range(5):  # two of five seeds of N = 10 stay far above the others
            slow = steps == 10 and seed > 2
            write_run(tmp_path, geometry="nonconvex", inner_steps=steps, seed=seed, rate=0.02 if slow else 0.1)
    found = claim(compare(tmp_path), "K(ε", "rises")
    target = Target("epsilon", float(found.sentence.split("ε = ")[1].split(")")[0]))
    assert all(cost_to(run, target).iterations < math.inf for run in read_runs([tmp_path])[0])
    assert "∞" not in found.interval_text


def test_a_target_of_runs_that_were_not_all_measured_is_none(tmp_path):
    measured, other = only(write_run(tmp_path / "a")), only(write_run(tmp_path / "b", stationarity_every=0))
    for kind in ("epsilon", "loss", "fall"):
        assert reached_by_all(kind, [([measured], None)]) is not None
        assert reached_by_all(kind, [([measured], None), ([other], None)]) is None


def test_a_loss_of_nothing_is_no_target(tmp_path):
    write_seeds(tmp_path, {1: 0.1})
    for path in tmp_path.iterdir():
        rewrite(path, lambda line: line.update(loss=0.0) if line["iteration"] > 50 else None)
    assert compare(tmp_path).headlines["fc100"]["loss"].target is None


def test_where_one_n_was_not_measured_to_its_end_the_factor_is_taken_at_what_it_met(tmp_path):
    write_seeds(tmp_path, {1: 0.1, 5: 0.1}, algo="maml")
    write_seeds(tmp_path, {1: 0.1, 5: 0.1})
    for path in tmp_path.glob("anil-*_N5_*/stationarity.jsonl"):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:6]))
    found = compare(tmp_path)
    short = next(row for row in found.factors if row.inner_steps == 5)
    assert short.target.value > found.headline.value
    assert math.isfinite(short.gradient.measured.value)


def test_a_maml_of_which_one_run_lacks_a_norm_is_no_partner(tmp_path):
    write_seeds(tmp_path, {5: 0.05}, algo="maml")
    write_seeds(tmp_path, {5: 0.1})

    def drop(line):
        del line["squared_norms"]["head.weight"], line["unbiased"]["products"]["head.weight"]

    rewrite(next(tmp_path.glob("maml-*_s3-*")), drop)
    assert compare(tmp_path, EPSILON).factors == []


def test_kappa_l_is_taken_where_the_curvature_was_largest(tmp_path):
    write_seeds(tmp_path, {5: 0.05}, algo="maml", L=1.0)
    write_seeds(tmp_path, {5: 0.1})
    for path in tmp_path.glob("maml-*"):
        rewrite(path, lambda line: line.update(L=3.0) if line["iteration"] == 50 else None)
    (row,) = compare(tmp_path, EPSILON).factors
    assert row.kappa_L == pytest.approx(0.1 * 3)


def test_a_method_reaches_what_it_reaches_on_every_block(tmp_path):
    """MAML's larger norm is that of the head on convex ANIL's blocks, and half as much again on nonconvex ANIL's."""
    for seed in range(5):
        folder = write_run(tmp_path, algo="maml", seed=seed, rate=0.05, iterations=55)
        part = {"block1.weight": 0.0, "block2.weight": 0.5, "head.weight": 1.0}

        def scale(line, part=part):
            products = line["unbiased"]["products"]
            products.update({name: [part[name] * value for value in each] for name, each in products.items()})

        rewrite(folder, scale)
    for geometry in ("convex", "nonconvex"):
        write_seeds(tmp_path, {5: 0.1}, geometry=geometry, iterations=55)
    found = compare(tmp_path, EPSILON)
    reached = {name: costs[EPSILON].reached for name, costs in found.results[0].blocks.items()}
    assert reached == {"anil convex": 5, "anil nonconvex": 0}
    assert "no target is reached by every method" in found.headlines["fc100"]["epsilon"].reason


@pytest.mark.parametrize("rates", [{1: 0.02, 3: 0.09, 5: 0.09, 7: 0.03, 10: 0.025}])
def test_k_that_rises_again_does_not_saturate(tmp_path, rates):
    """K = 150, 35, 35, 100, 120."""
    write_seeds(tmp_path, rates, iterations=300)
    found = claim(compare(tmp_path, EPSILON), "K(ε = 0.1) falls with N")
    assert found.verdict == "refuted"
    assert "again at N = 7, 10" in found.interval_text


def test_k_that_still_halves_at_the_end_does_not_saturate(tmp_path):
    write_seeds(tmp_path, {1: 0.02, 3: 0.04, 10: 0.08}, iterations=300)
    assert claim(compare(tmp_path, EPSILON), "K(ε = 0.1) falls with N").verdict == "refuted"


def test_a_loss_that_chance_meets_is_no_target(tmp_path):
    runs = []
    for steps in (1, 3, 10):
        for seed in range(5):
            folder = write_run(tmp_path, inner_steps=steps, seed=seed)
            # what every N comes to is above ln 5 = 1.609
            rewrite(folder, lambda line: line.update(loss=line["loss"] + 0.65))
            runs.append(only(folder))
    assert reached_by_all("loss", [(runs, None)]) is None
    assert reached_by_all("fall", [(runs, None)]) == Target("fall", 0.59)  # of 0.6 (1 - exp(-10))
    gone = write_run(tmp_path, inner_steps=10, seed=5, status="diverged", done=1)
    rewrite(gone, lambda line: line.update(loss=2.25, accuracy=None))
    rewrite(gone, lambda line: line.update(accuracy=None), "metrics.jsonl")
    assert compare(tmp_path).headlines["fc100"]["loss"].target is None
    given = compare(tmp_path, Target("loss", 1.7))
    assert "chance meets it" in given.headlines["fc100"]["loss"].reason


def test_what_one_n_meets_before_training_is_no_target(tmp_path):
    for steps in (1, 3, 10):
        for seed in range(5):
            folder = write_run(tmp_path, inner_steps=steps, seed=seed)
            if steps == 10:
                rewrite(folder, lambda line: line.update(loss=line["loss"] - 0.61))
    found = compare(tmp_path)
    assert found.headlines["fc100"]["loss"].target.value < 0.99  # where N = 10 begins
    assert (
        "before training: 1.60 (N = 1), 1.60 (N = 3), 0.990 (N = 10)" in claim(found, "K(loss", "falls with N").detail
    )
    # each its own start taken off, all fall alike
    assert "1 (1 to 1)" in claim(found, "K to a loss", "falls with N").interval_text


def test_mamls_miss_is_a_bound_and_no_infinite_factor(tmp_path):
    """MAML 3.3 times slower than ANIL, N = 10, kappa L = 5: the prediction is 3e8, and nothing shows it."""
    write_seeds(tmp_path, {10: 0.03}, algo="maml", L=50.0)
    write_seeds(tmp_path, {10: 0.1})
    found = compare(tmp_path, Target("epsilon", 0.03))
    (row,) = found.factors
    spent = 1100 / 200 * 100 / row.anil_cost.median.iterations
    assert row.gradient.is_ == "at least"
    assert row.gradient.measured.value == pytest.approx(spent)
    assert row.gradient.measured.high == math.inf
    assert row.gradient.predicted > 1e8
    assert claim(found, "ANIL convex", "fewer gradient").verdict == "undecided"
    assert "MAML did not get there" in found.findings[0]


def test_a_method_at_chance_is_no_winner(tmp_path):
    """Its gradients are small because it learns nothing: it meets epsilon first."""
    write_seeds(tmp_path, {1: 0.05, 5: 0.05}, algo="maml", iterations=200)
    write_seeds(tmp_path, {1: 0.5, 5: 0.1}, iterations=200)
    for path in tmp_path.glob("anil-convex_*_N1_*"):
        seed = int(path.name.split("_s")[1][0])
        rewrite(path, lambda line, seed=seed: line.update(accuracy=0.2 + 0.01 * (-1) ** seed, loss=1.61))
    found = compare(tmp_path, EPSILON)
    assert "times the gradient entries of ANIL convex (N = 5) to reach" in found.findings[0]
    assert "There ANIL had loss 1.03 and accuracy 58.1%" in found.findings[0]
    assert not any("fastest N: ANIL convex (N = 1)" in line for line in found.findings)
    at_one = next(row for row in found.factors if row.inner_steps == 1)
    assert "learnt nothing" in at_one.doubt
    assert claim(found, "ANIL convex", "fewer gradient").verdict == "undecided"


@pytest.mark.parametrize(("learnt", "doubt"), [(True, ""), (False, "ANIL had learnt nothing when it met it")])
def test_regression_has_learnt_where_its_loss_is_below_its_start(tmp_path, learnt, doubt):
    for algo in ("maml", "anil"):  # ε is met at the first measurement after the start
        write_seeds(tmp_path, {5: 1.0}, algo=algo, ways=1)
    for path in tmp_path.glob("anil-*"):
        if not learnt:
            rewrite(path, lambda line: line.update(loss=1.6))
    (row,) = compare(tmp_path, EPSILON).factors
    assert row.doubt == doubt


def test_what_maml_met_before_training_is_not_called_a_miss(tmp_path):
    write_seeds(tmp_path, {5: 0.05}, algo="maml")
    write_seeds(tmp_path, {5: 0.1})
    found = compare(tmp_path, Target("epsilon", 5.0))
    text = " ".join(found.findings)
    assert "did not" not in text
    assert "met it before any training" in text


def test_a_given_accuracy_leaves_epsilon_to_the_data(tmp_path):
    write_seeds(tmp_path, {5: 0.05}, algo="maml")
    write_seeds(tmp_path, {5: 0.1})
    found = compare(tmp_path, Target("accuracy", 0.4))
    assert found.headline == compare(tmp_path).headline
    assert not any("is not known" in line for line in found.findings)
    table = next(each for each in tables_of(found) if each.name == "table2")
    assert all(math.isfinite(value) for value in column(table, "K(ε)"))
    assert {"loss at K", "accuracy at K", "measured every"} <= set(table.columns)


@pytest.mark.slow
def test_where_all_n_converge_alike_noise_decides_nothing():
    """|grad L_meta|^2 falls alike for every N; tr(Sigma)/T grows from 0.05 to 1 as measured: at most 5 % false."""
    steps = {1: 0.05, 3: 0.1, 5: 0.2, 10: 0.4, 30: 1.0}
    trials, wrong = 150, 0
    for trial in range(trials):
        random = np.random.default_rng(trial)
        runs = []
        for inner_steps, noise in steps.items():
            for seed in range(5):
                rate = 0.05 * np.exp(0.15 * random.standard_normal())
                truth = np.exp(-rate * np.arange(0, 101, 5)) + 0.01
                settings = {"geometry": "nonconvex", "inner_steps": inner_steps, "seed": seed}
                runs.append(measured_run(truth, noise, random, **settings))
        wrong += claim(compare_runs(runs), "K(ε", "rises").verdict != "undecided"
    assert wrong <= 0.05 * trials


def test_a_verdict_says_whether_its_theorem_is_about_these_runs(tmp_path):
    write_seeds(tmp_path, {1: 0.02, 10: 0.055}, iterations=200, L=6.0)
    write_seeds(tmp_path, {3: 0.05}, iterations=200, L=2.0)
    found = claim(compare(tmp_path, EPSILON), "K(ε = 0.1) falls with N")
    assert "Theorem 1's conditions do not hold: Adam instead of SGD; alpha is 3,600 times mu/L^2" in found.conditions
    assert "predicts no effect of N to be seen" in found.conditions
    table = next(each for each in tables_of(compare(tmp_path)) if each.name == "claims")
    assert any(found.conditions in row for row in table.rows)


def test_runs_with_the_theorems_own_steps_are_one_series(tmp_path):
    own = {"outer_optimizer": "sgd", "inner_lr": 0.5, "algo_options": {"l2": 0.5}, "outer_lr_phi": 0.25, "L": 1.0}
    for steps, rate in {1: 0.02, 3: 0.05, 10: 0.055}.items():
        write_seeds(tmp_path, {steps: rate}, iterations=200, outer_lr_w=0.25 * 0.75 ** (-steps / 2), **own)
    found = claim(compare(tmp_path, EPSILON), "K(ε = 0.1) falls with N")
    assert found.verdict == "held"
    assert "α = 0.5, β_w differs between N" in found.detail
    assert "Theorem 1's optimizer and step sizes" in found.conditions


def test_the_nonconvex_factor_says_where_mamls_step_is_too_large_for_it(tmp_path):
    write_seeds(tmp_path, {20: 0.05}, algo="maml", L=1.0)
    write_seeds(tmp_path, {20: 0.1}, geometry="nonconvex")
    found = claim(compare(tmp_path, EPSILON), "nonconvex", "fewer gradient")
    assert found.conditions == "The nonconvex factor sets κ ≤ 1/N = 0.05, and MAML's κ is 0.1 (N = 20)."
    assert found.verdict == "undecided"
    assert found.remedy.why.startswith("the factor is not about these runs")


def test_a_factor_is_at_an_epsilon_that_both_can_carry(tmp_path):
    write_seeds(tmp_path, {1: 0.1, 5: 0.05}, algo="maml", error=0.001)
    write_seeds(tmp_path, {1: 0.1}, error=0.001)
    write_seeds(tmp_path, {5: 0.1}, error=0.03)
    found = compare(tmp_path)
    one, five = sorted(found.factors, key=lambda row: row.inner_steps)
    assert one.target == found.headline
    assert five.target.value >= 2 * 0.06 > found.headline.value  # two layers in phi
    assert not five.doubt


def test_errors_that_no_number_holds_leave_no_target(tmp_path):
    write_seeds(tmp_path, {1: 0.1, 10: 0.1}, error=1e200, geometry="nonconvex")
    assert compare(tmp_path).headline is None


def test_every_pair_of_one_n_counts(tmp_path):
    """Two step sizes at one N: the one that refutes is not hidden by the other."""
    for alpha, rate in ((0.1, 0.5), (0.5, 0.02)):
        write_seeds(tmp_path, {5: rate}, algo="maml", L=0.1, inner_lr=alpha, iterations=200)
        write_seeds(tmp_path, {5: 0.1}, inner_lr=alpha, iterations=200)
    found = compare(tmp_path, EPSILON)
    each = [row.gradient.measured.high < row.gradient.predicted for row in found.factors]
    assert sorted(each) == [False, True]
    assert claim(found, "ANIL convex", "fewer gradient").verdict == "refuted"
