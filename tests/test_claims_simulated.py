"""Statistics of claims where the truth is known: false verdicts in one of twenty at most, and power."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.report.findings import pairs, trends
from harness.report.findings.claims import STATISTICS
from harness.report.findings.line import Least, Line
from harness.report.findings.rows import Row

pytestmark = pytest.mark.slow
STEPS = (1.0, 2.0, 3.0, 5.0, 10.0)
TRIALS, SPREAD, SHARED = 250, 0.15, 0.3


def rows(random, means, seeds, spread=SPREAD):
    """Lognormal with these medians: a part that all N of a seed share, and one of each run."""
    noise = random.normal(0, SHARED, (1, seeds)) + random.normal(0, spread, (len(means), seeds))
    return tuple(Row.known(dict(enumerate(each))) for each in np.asarray(means)[:, None] * np.exp(noise))


def line(random, means, seeds=5, against=None, **more):
    """``means`` at :data:`STEPS`, and those of what it is compared with, which share the seeds' part."""
    every = rows(random, [*means, *(against or [])], seeds)
    points = STEPS[: len(means)] if len(means) > 1 else (10.0,)
    return Line(points, every[: len(means)], (), against=every[len(means) :], **more)


def shares(statistic, make, level=0.95, **options):
    """How often it was held and how often refuted."""
    found = [statistic(make(np.random.default_rng(trial)), level, **options)[0] for trial in range(TRIALS)]
    return found.count("held") / TRIALS, found.count("refuted") / TRIALS


def at_most(share, allowed):
    """Up to three standard errors of the share that is allowed."""
    return share <= allowed + 3 * math.sqrt(allowed * (1 - allowed) / TRIALS)


def power(exponent):
    return [10 * n**exponent for n in STEPS]


FLAT = [10.0] * 5
TWICE = (Least(2.0),) * 5
#: statistic, its options, the truth on the margin and which verdict is false there
NULLS = {
    "falls: nothing falls": ("falls", {}, {"means": FLAT}, "held"),
    "falls: by a quarter": ("falls", {}, {"means": [12.5, 12, 11, 10.5, 10]}, "refuted"),
    "rises: nothing rises": ("rises", {}, {"means": FLAT}, "either"),
    "settles: a quarter more": ("settles", {}, {"means": [20, 16, 14, 12.5, 10]}, "held"),
    "settles: it does": ("settles", {}, {"means": [20, 16, 14, 10, 10]}, "refuted"),
    "saturates: still falling": ("saturates", {}, {"means": [40, 30, 20, 12.5, 10]}, "held"),
    "saturates: never falls": ("saturates", {}, {"means": FLAT}, "held"),
    "saturates: it does": ("saturates", {}, {"means": [20, 14, 11, 10, 10]}, "refuted"),
    "a valley: none": ("falls_then_rises", {}, {"means": FLAT}, "either"),
    "linear growth: as N^0.75": ("grows_like", {}, {"means": power(0.75)}, "held"),
    "linear growth: as N^1.25": ("grows_like", {}, {"means": power(1.25)}, "held"),
    "linear growth: it is": ("grows_like", {}, {"means": power(1)}, "refuted"),
    "at most squared: just so": ("grows_at_most_like", {"power": 2}, {"means": power(2)}, "either"),
    "cheapest: a tie": ("cheapest", {"at": 1}, {"means": FLAT}, "either"),
    "not cheapest: a tie": ("not_cheapest", {"at": 1}, {"means": FLAT}, "either"),
    "a factor of 2: just so": ("at_least_as_many_times", {}, {"means": FLAT, "against": [20.0] * 5}, "either"),
    "best N: alike": ("more_at_best", {}, {"means": FLAT, "against": FLAT}, "either"),
    "rises more: alike": ("rises_more", {}, {"means": power(0.5), "against": power(0.5)}, "either"),
}


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize("name", NULLS)
def test_a_false_verdict_is_one_of_twenty(name, seeds):
    statistic, options, truth, false = NULLS[name]
    more = {"least": TWICE, "names": ("",) * 5} if statistic == "at_least_as_many_times" else {}
    held, refuted = shares(STATISTICS[statistic], lambda random: line(random, seeds=seeds, **truth, **more), **options)
    assert at_most({"held": held, "refuted": refuted, "either": held + refuted}[false], 0.05)


#: what is as planned: a truth that five seeds show in nine of ten
POWER = {
    "falls": ("falls", {}, {"means": [20, 15, 12, 10, 10]}, "held"),
    "does not fall": ("falls", {}, {"means": power(0.3)}, "refuted"),
    "settles": ("settles", {}, {"means": [20, 15, 12, 10, 30]}, "refuted"),
    "constant, not linear": ("grows_like", {}, {"means": FLAT}, "refuted"),
    "linear": ("grows_like", {}, {"means": power(1)}, "held"),
    "at most squared": ("grows_at_most_like", {"power": 2}, {"means": power(1)}, "held"),
    "cheapest": ("cheapest", {"at": 1}, {"means": [5, 10, 10, 10, 10]}, "held"),
    "not cheapest": ("not_cheapest", {"at": 1}, {"means": [20, 10, 10, 10, 10]}, "held"),
    "best N": ("more_at_best", {}, {"means": [20, 15, 5, 15, 20], "against": [30, 30, 20, 20, 40]}, "held"),
    "rises more": ("rises_more", {}, {"means": power(-0.1), "against": power(0.5)}, "held"),
}


@pytest.mark.parametrize("name", POWER)
def test_what_is_so_is_found_in_nine_of_ten(name):
    statistic, options, truth, right = POWER[name]
    held, refuted = shares(STATISTICS[statistic], lambda random: line(random, **truth), **options)
    assert {"held": held, "refuted": refuted}[right] >= 0.9


def accuracies(random, differences, seeds=5, spread=0.008):
    """Held-out accuracies of two methods that differ by these shares at each N."""
    means = [0.6 + each for each in (*differences, *[0] * len(differences))]
    values = (
        np.array(means)[:, None] + random.normal(0, 0.01, (1, seeds)) + random.normal(0, spread, (len(means), seeds))
    )
    every = tuple(Row.known(dict(enumerate(each))) for each in values)
    n = len(differences)
    return Line(STEPS[:n], every[:n], (), against=every[n:])


@pytest.mark.parametrize("seeds", [5, 10])
def test_accuracies_two_points_apart_at_one_n_are_held_alike_in_one_of_twenty(seeds):
    held, _ = shares(pairs.alike, lambda random: accuracies(random, [0, 0, 0.02], seeds))
    assert at_most(held, 0.05)


@pytest.mark.parametrize("seeds", [5, 10])
def test_accuracies_just_two_points_apart_everywhere_are_refuted_in_one_of_twenty(seeds):
    _, refuted = shares(pairs.alike, lambda random: accuracies(random, [0.02, -0.02, 0.02], seeds))
    assert at_most(refuted, 0.05)


def test_equal_accuracies_are_found_alike_and_five_points_are_not():
    assert shares(pairs.alike, lambda random: accuracies(random, [0, 0], 10, 0.005))[0] >= 0.9
    assert shares(pairs.alike, lambda random: accuracies(random, [0, 0.05]))[1] >= 0.9


@pytest.mark.parametrize("seeds", [5, 10, 20])
def test_a_share_of_one_half_diverges_in_at_most_one_of_twenty(seeds):
    def course(random):
        gone = (random.random(seeds) < 0.5).astype(float)
        return Line((1.0, 30.0), tuple(Row.known(dict(enumerate(each))) for each in (np.zeros(seeds), gone)), ())

    held, refuted = shares(trends.diverges, course)
    assert at_most(held, 0.05)
    assert at_most(refuted, 0.05)


def test_a_stricter_level_errs_as_much_less():
    held, refuted = shares(trends.rises, lambda random: line(random, FLAT, 10), level=0.99)
    assert at_most(held + refuted, 0.01)


def test_every_statistic_of_the_list_has_a_null_here():
    tried = {statistic for statistic, *_ in NULLS.values()} | {"alike", "diverges"}
    assert tried == set(STATISTICS)
