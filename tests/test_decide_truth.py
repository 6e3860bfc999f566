"""Looks and plans where the truth is known: how often what is not there is found, and what a plan's word is worth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.decide.power import POWER, chance, seeds_needed
from harness.report.findings import pairs, trends
from harness.report.findings.line import Line
from harness.report.findings.looks import LEVEL_OF_LOOKS, LOOKS
from harness.report.findings.rows import Row
from harness.report.findings.statistics import mean

pytestmark = pytest.mark.slow


def row(values):
    return Row.known(dict(enumerate(values)))


def falls(line, level):
    """K at the first N over K at the last is not 1."""
    return trends.falls(line, level, margin=1.0)[0]


def rises(line, level):
    return trends.rises(line, level)[0]


def alike(line, level):
    return pairs.alike(line, level)[0]


def diverges(line, level):
    return trends.diverges(line, level)[0]


def of(values, test):
    """A line of ``values`` ``[rows, seeds]``, or, for accuracies, of its first row against its second."""
    rows = tuple(map(row, values))
    if test is alike:
        return Line((5.0,), rows[:1], (), against=rows[1:])
    return Line(tuple(range(1, len(rows) + 1)), rows, ())


def _costs(random, points, seeds):
    """Costs of seeds that differ, of which runs share a part."""
    return np.exp(random.normal(0, 0.3, (1, seeds)) + random.normal(0, 0.15, (points, seeds)))


def _skewed(random, points, seeds):
    """Costs whose logarithms are skewed, mildly: those of one point by a gamma of shape 16, skewness 0.5."""
    return np.exp(random.normal(0, 0.3, (1, seeds)) + 0.6 * random.gamma(16, 1 / 16, (points, seeds)))


NULLS = {
    "costs, normal": (falls, lambda random, seeds: _costs(random, 2, seeds)),
    "costs, skewed": (falls, lambda random, seeds: _skewed(random, 2, seeds)),
    "costs at four N": (rises, lambda random, seeds: _costs(random, 4, seeds)),
    "accuracies 2 points apart": (alike, lambda random, seeds: random.normal([[0.62], [0.6]], 0.02, (2, seeds))),
    "accuracies, skewed": (
        alike,
        lambda random, seeds: np.stack(
            [np.full(seeds, 0.6), 0.58 - 0.02 * (random.lognormal(0, 0.25, seeds) / math.exp(1 / 32) - 1)]
        ),
    ),
    "half of the seeds diverge": (
        diverges,
        lambda random, seeds: np.stack([np.zeros(seeds), random.integers(2, size=seeds)]),
    ),
}


@pytest.mark.parametrize("name", NULLS)
def test_four_looks_together_give_a_false_verdict_in_at_most_one_of_twenty(name):
    test, draw = NULLS[name]
    random, trials = np.random.default_rng(5), 1000
    false = 0
    for _ in range(trials):
        values = draw(random, LOOKS[-1])
        false += any(test(of(values[:, :seeds], test), LEVEL_OF_LOOKS) != "undecided" for seeds in LOOKS)
    assert false / trials <= 0.05


@pytest.mark.parametrize(
    ("level", "skew", "least", "most"),
    [(0.95, False, 0.13, 0.17), (LEVEL_OF_LOOKS, False, 0.028, 0.042), (LEVEL_OF_LOOKS, True, 0.035, 0.05)],
)
def test_four_looks_at_95_percent_err_in_15_percent_and_by_the_rule_in_3_or_skewed_in_5(level, skew, least, most):
    random = np.random.default_rng(6)
    size = (10_000, LOOKS[-1])
    values = random.lognormal(0, 0.25, size) - math.exp(0.25**2 / 2) if skew else random.normal(size=size)
    false = [any(mean([row[:seeds]], level).excludes(0) for seeds in LOOKS) for row in values]
    assert least <= np.mean(false) <= most


TRUTHS = {
    "costs, large effect": (falls, lambda random, seeds: _costs(random, 2, seeds) * [[1.45], [1]]),
    "costs, small effect": (falls, lambda random, seeds: _costs(random, 2, seeds) * [[1.22], [1]]),
    "costs, skewed": (falls, lambda random, seeds: _skewed(random, 2, seeds) * [[1.25], [1]]),
    "accuracies alike": (alike, lambda random, seeds: random.normal([[0.6], [0.6]], 0.012, (2, seeds))),
    "accuracies 5 points apart": (alike, lambda random, seeds: random.normal([[0.65], [0.6]], 0.02, (2, seeds))),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_as_many_seeds_as_planned_decide_with_90_percent_power(name):
    """The plan is made of 400 seeds, which know the truth; the power is that on seeds drawn from it anew."""
    test, draw = TRUTHS[name]
    random, trials = np.random.default_rng(7), 400
    seeds = seeds_needed((of(draw(random, 400), test), test), sure=0.5)
    assert LOOKS[0] < seeds < 2 * LOOKS[-1]
    power = np.mean([test(of(draw(random, seeds), test), LEVEL_OF_LOOKS) != "undecided" for _ in range(trials)])
    # three standard errors of this power, and of the hundred trials at both ends that the plan lies between
    assert abs(power - POWER) <= 3 * math.sqrt(POWER * (1 - POWER) * (1 / trials + 1 / 100))


def test_plans_of_five_seeds_keep_their_word_on_average_which_they_did_not_without_the_wider_spread():
    test, draw = TRUTHS["accuracies 5 points apart"]
    random = np.random.default_rng(8)
    powers = {0.5: [], 0.8: []}
    for _ in range(60):
        pilot = of(draw(random, 5), test), test
        for sure, found in powers.items():
            seeds = seeds_needed(pilot, sure) or LOOKS[-1]
            found += [test(of(draw(random, seeds), test), LEVEL_OF_LOOKS) != "undecided" for _ in range(10)]
    assert np.mean(powers[0.8]) > 0.85 > np.mean(powers[0.5])


def test_the_predicted_chance_is_how_often_the_next_look_decides():
    """Over truths drawn flat, which is what it takes them for: of chances near a half about half come true."""
    random = np.random.default_rng(9)
    predicted, decided = [], []
    for _ in range(300):
        values = random.normal([[0.6 + random.uniform(-0.06, 0.06)], [0.6]], 0.02, (2, 10))
        first = of(values[:, :5], alike)
        predicted.append(chance((first, alike), 10))
        decided.append(alike(of(values, alike), LEVEL_OF_LOOKS) != "undecided")
    assert abs(np.mean(predicted) - np.mean(decided)) < 0.08
    assert np.mean(np.array(decided)[np.array(predicted) > 0.8]) > 0.75
    assert np.mean(np.array(decided)[np.array(predicted) < 0.2]) < 0.25
