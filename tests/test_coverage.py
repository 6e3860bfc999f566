"""How often intervals hold the truth, and how often nothing is taken for something, where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.report.findings.statistics import bootstrap, generator, mean, paired_difference, paired_ratio

pytestmark = pytest.mark.slow
_TRIALS, _RATIOS = 8_000, 2_000


def _binomial(random, size):
    """Accuracy on 600 tasks of 25 answers each, of networks that differ a little: what a run measures."""
    return random.binomial(600 * 25, random.beta(60, 40, size)) / (600 * 25)


#: how to draw values, their mean and their median
DISTRIBUTIONS = {
    "normal": (lambda random, size: random.normal(0, 1, size), 0, 0),
    "skewed (lognormal)": (lambda random, size: random.lognormal(0, 0.25, size), math.exp(0.25**2 / 2), 1),
    "heavy tails (t3)": (lambda random, size: random.standard_t(3, size), 0, 0),
    "accuracy near the middle": (_binomial, 0.6, None),
    "accuracy near 1": (lambda random, size: random.beta(95, 5, size), 0.95, None),
}


def seeded(values):
    return dict(enumerate(values))


def assert_at_most_one_of_twenty(found):
    """Up to three standard errors of a share of 5 %."""
    assert np.mean(found) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(found))


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_mean_of_five_or_ten_seeds_is_in_its_interval_as_often_as_it_says(name, seeds):
    draw, truth, _ = DISTRIBUTIONS[name]
    values = draw(np.random.default_rng(0), (_TRIALS, seeds))
    found = [mean([row]) for row in values]
    assert 0.93 <= np.mean([each.low <= truth <= each.high for each in found]) <= 0.975


def test_three_seeds_have_a_wide_interval_that_is_right():
    values = np.random.default_rng(0).normal(size=(_TRIALS, 3))
    found = [mean([row]) for row in values]
    assert 0.94 <= np.mean([each.low <= 0 <= each.high for each in found]) <= 0.96


def test_the_mean_over_problems_is_in_its_interval_as_often_as_it_says():
    random = np.random.default_rng(0)
    found = [mean([random.normal(0.4, 0.01, 5), random.normal(0.8, 0.05, 5)]) for _ in range(_TRIALS)]
    assert 0.93 <= np.mean([each.low <= 0.6 <= each.high for each in found]) <= 0.975


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize("name", [name for name, (_, _, middle) in DISTRIBUTIONS.items() if middle is not None])
def test_the_median_is_in_its_interval_as_often_as_it_says(name, seeds):
    draw, _, truth = DISTRIBUTIONS[name]
    found = [bootstrap([row], generator()) for row in draw(np.random.default_rng(0), (_RATIOS, seeds))]
    assert 0.93 <= np.mean([each.low <= truth <= each.high for each in found]) <= 0.975


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_equal_accuracies_differ_beyond_noise_in_at_most_one_of_twenty(name, seeds):
    draw, _, _ = DISTRIBUTIONS[name]
    pairs = draw(np.random.default_rng(7), (_TRIALS, 2, seeds))
    found = [paired_difference(seeded(first), seeded(second)) for first, second in pairs]
    assert_at_most_one_of_twenty([each.excludes(0) for each in found])


def _costs(random, size):
    """Costs of seeds that differ, of which runs share a part."""
    return np.exp(random.normal(0, 0.3, (*size[:-2], 1, size[-1])) + random.normal(0, 0.1, size))


def _iterations(random, size):
    """K on a grid of measurements, a fifth of the seeds not there within the budget."""
    found = np.ceil(np.exp(random.normal(math.log(70), 0.5, size)) / 20) * 20
    return np.where(found > 100, math.inf, found)


COSTS = {"costs": _costs, "unpaired costs": lambda random, size: random.lognormal(0, 0.5, size), "K": _iterations}


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize("name", COSTS)
def test_equal_costs_differ_beyond_noise_in_at_most_one_of_twenty(name, seeds):
    pairs = COSTS[name](np.random.default_rng(2), (_RATIOS, 2, seeds))
    found = [paired_ratio(seeded(first), seeded(second), generator()) for first, second in pairs]
    assert_at_most_one_of_twenty([each.excludes(1) for each in found])


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize("name", COSTS)
def test_any_of_four_equal_costs_differs_in_at_most_one_of_twenty_at_the_level_for_four(name, seeds):
    sets = COSTS[name](np.random.default_rng(3), (_RATIOS // 2, 5, seeds))
    found = [
        any(paired_ratio(seeded(other), seeded(first), generator(), 0.9875).excludes(1) for other in others)
        for first, *others in sets
    ]
    assert_at_most_one_of_twenty(found)


@pytest.mark.parametrize("seeds", [5, 10])
def test_the_ratio_of_medians_is_in_its_interval_at_least_as_often_as_it_says(seeds):
    random = np.random.default_rng(4)
    pairs = random.lognormal(0, 0.5, (_RATIOS, 2, seeds)) * np.array([[2.0], [1.0]])
    found = [paired_ratio(seeded(above), seeded(below), generator()) for above, below in pairs]
    assert np.mean([each.low <= 2 <= each.high for each in found]) >= 0.94
