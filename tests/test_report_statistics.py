"""Statistics over seeds: medians with infinity, intervals that mean what they say, and profiles."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp, ttest_ind, ttest_rel
from search import search

from harness.report.findings.profiles import performance_profiles
from harness.report.findings.statistics import (
    bootstrap,
    generator,
    mean,
    mean_band,
    median,
    paired_difference,
    paired_ratio,
    relative_spread,
    share,
)
from harness.report.findings.verdicts import all_of, at_least, verdict

_COSTS = st.floats(0, 1e6) | st.just(math.inf)


def seeded(values):
    return dict(enumerate(values))


def test_the_median_counts_misses_as_infinity():
    assert median([3, math.inf, math.inf]) == math.inf
    assert median([3, 4, math.inf]) == 4
    assert median([3, math.inf]) == math.inf


def test_a_mean_has_the_interval_of_students_t():
    values = [4.2, 5.1, 4.8, 5.6, 4.9]
    found, expected = mean([values]), ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.value, found.seeds, found.enough) == (pytest.approx(4.92), 5, True)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert mean([[7.0] * 5]).excludes(6.9)
    assert math.isnan(mean([[3.0]]).low)
    assert mean([[math.nan], []]) is None
    assert mean([[1.0, 2.0, math.inf, math.nan]]).seeds == 2


def test_a_mean_over_problems_has_welchs_interval():
    first, second = [1.0, 2.0, 4.0, 3.0], [10.0, 30.0, 20.0, 15.0, 40.0]
    difference = ttest_ind(second, first, equal_var=False).confidence_interval(0.95)
    found = mean([first, second])
    assert found.value == pytest.approx((2.5 + 23) / 2)
    assert found.high - found.low == pytest.approx((difference.high - difference.low) / 2)
    assert found.seeds == 4


def test_the_interval_of_a_share_ends_where_shares_do():
    most, least = mean([[1.0, 1, 1, 1, 0.7]]).within(0, 1), mean([[0.0, 0, 0, 0, 0.3]]).within(0, 1)
    assert (most.high, least.low) == (1, 0)
    assert 0 < most.low < 0.94 == pytest.approx(most.value)
    assert 1 > least.high > 0.06 == pytest.approx(least.value)


def test_a_band_has_students_interval_at_every_point():
    values = np.random.default_rng(0).normal(size=(4, 6))
    expected = ttest_1samp(values, 0, axis=1).confidence_interval(0.95)
    for found, right in zip(mean_band(values), (values.mean(1), expected.low, expected.high), strict=True):
        assert found == pytest.approx(right)


def test_counts_beyond_64_bits_are_divided_as_any_other():
    assert paired_ratio(seeded([4 * 10**20] * 5), seeded([10**20] * 5), generator()).value == 4


def test_a_difference_on_five_seeds_is_students_t_of_the_differences():
    first, second = [0.52, 0.49, 0.55, 0.50, 0.55], [0.50, 0.51, 0.52, 0.53, 0.54]
    found = paired_difference(seeded(first), seeded(second))
    expected = ttest_rel(first, second).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert paired_difference({0: 1.0}, {1: 1.0}).seeds == 0


def test_a_stricter_level_widens_every_kind_of_ratio():
    fast = seeded([1.0, 1.2, 0.9, 1.1, 1.3])
    for above in (seeded([3.0, 3.3, 2.9, 3.1, 3.6]), seeded([1.0, 2, 2, 2, math.inf])):
        one, many = paired_ratio(above, fast, generator()), paired_ratio(above, fast, generator(), 0.9975)
        assert many.low < one.low
        assert many.high >= one.high


def test_with_a_miss_the_ends_of_a_ratio_are_those_of_the_medians():
    found = paired_ratio(seeded([1.0, 2, 2, 2, math.inf]), seeded([1.0] * 5), generator())
    assert (found.low, found.high) == (1, math.inf)


def test_two_seeds_have_the_wide_interval_of_two():
    found = paired_ratio(seeded([2.0, 3.0]), seeded([1.0, 1.0]), generator())
    expected = ttest_1samp(np.log([2.0, 3.0]), 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((math.exp(expected.low), math.exp(expected.high)))


@pytest.mark.parametrize(("level", "apart"), [(0.975, False), (0.99, True)])
def test_with_a_miss_seeds_are_drawn_apart_beyond_what_pairs_can_say(level, apart):
    fast = [10.0**seed for seed in range(7)]  # seven pairs that point one way do in 1 of 64 by chance
    slow = [2 * cost for cost in fast[:-1]] + [math.inf]
    assert (paired_ratio(seeded(slow), seeded(fast), generator(), level).low < 2) == apart


def test_five_costs_that_are_all_a_little_lower_are_not_beyond_noise():
    lower = seeded([0.99, 0.97, 0.98, 0.5, 0.999])  # one of 16 times all five point one way by chance
    assert not paired_ratio(lower, seeded([1.0] * 5), generator()).excludes(1)


def test_the_same_values_give_the_same_interval():
    values = np.random.default_rng(1).normal(size=7)
    assert bootstrap([values], generator()) == bootstrap([values], generator())


def test_strata_are_drawn_within_themselves():
    found = bootstrap([[0.0] * 5, [1.0] * 5], generator(), lambda values: values.mean(axis=-1))
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)
    mixed = bootstrap([[0.0] * 5 + [1.0] * 5], generator(), lambda values: values.mean(axis=-1))
    assert mixed.low < 0.5 < mixed.high


def test_fewer_than_five_seeds_are_not_enough_and_one_has_no_interval():
    assert bootstrap([[1, 2, 3, 4, 5]], generator()).enough
    assert not bootstrap([[1, 2, 3, 4]], generator()).enough
    one = bootstrap([[3.0]], generator())
    assert one.value == 3
    assert math.isnan(one.low)
    assert math.isnan(one.high)


def test_what_was_not_measured_is_left_out_of_an_interval():
    assert bootstrap([[math.nan, 2, 4]], generator()).seeds == 2
    assert bootstrap([[math.nan], []], generator()) is None


def test_pairing_takes_out_what_seeds_have_in_common():
    hard = np.array([1.0, 10, 100, 1000, 10000])
    slow, fast = seeded(2 * hard), seeded(hard)
    ratio = paired_ratio(slow, fast, generator())
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2, 2, 2))
    difference = paired_difference(seeded(hard + 1), fast)
    assert difference.low == pytest.approx(1)
    assert difference.high == pytest.approx(1)


def test_only_shared_seeds_are_paired():
    found = paired_ratio({0: 2, 1: 4, 7: 100}, {1: 2, 0: 1, 9: 5}, generator())
    assert (found.value, found.seeds) == (2, 2)
    assert paired_ratio({0: 1}, {1: 1}, generator()).seeds == 0


def test_a_ratio_with_a_side_that_never_got_there_is_infinite_or_zero():
    never, there = seeded([math.inf] * 5), seeded([2.0] * 5)
    assert paired_ratio(never, there, generator()).value == math.inf
    assert paired_ratio(there, never, generator()).value == 0
    both = paired_ratio(never, never, generator())
    assert math.isnan(both.value)
    assert (both.low, both.high) == (0, math.inf)


@search(100)
@given(st.lists(_COSTS, min_size=2, max_size=7), st.lists(_COSTS, min_size=2, max_size=7))
def test_no_end_of_an_interval_over_two_seeds_is_nan(first, second):
    for found in (
        bootstrap([first], generator()),
        paired_ratio(seeded(first), seeded(second), generator()),
    ):
        assert not math.isnan(found.low)
        assert found.low <= found.high
        if not math.isnan(found.value):
            assert found.low <= found.value <= found.high


def test_a_share_where_all_agree_still_has_a_width():
    assert share(5, 5).low == pytest.approx(0.566, abs=1e-3)
    assert share(0, 5).high == pytest.approx(0.434, abs=1e-3)


def test_the_spread_is_the_interquartile_range_over_the_median():
    assert relative_spread([1, 2, 3, 4, 5]) == pytest.approx(2 / 3)
    assert math.isnan(relative_spread([1]))


def test_verdicts_need_five_seeds_and_an_interval_on_one_side():
    above, below, around = ([2.0] * 5, [0.5] * 5, [0.5, 0.5, 1, 2, 2])
    found = [verdict(bootstrap([values], generator()), 1) for values in (above, below, around, above[:4])]
    assert found == ["held", "refuted", "undecided", "undecided"]
    assert at_least(bootstrap([[1.0] * 5], generator()), 1.0) == "held"
    assert all_of(["held", "undecided"]) == "undecided"
    assert all_of(["held", "refuted", "undecided"]) == "refuted"
    assert all_of(["held", "held"]) == "held"


def test_profiles_count_problems_that_nobody_solves_for_nobody():
    profiles = performance_profiles(
        {"a": {"maml": 10, "anil": 5}, "b": {"maml": 4, "anil": math.inf}, "c": {"maml": math.inf}}
    )
    assert [profiles["maml"].at(ratio) for ratio in (0.5, 1, 1.9, 2, 100)] == pytest.approx(
        [0, 1 / 3, 1 / 3, 2 / 3, 2 / 3]
    )
    assert profiles["anil"].at(1) == pytest.approx(1 / 3)
    assert performance_profiles({"a": {"maml": 1, "anil": 0}})["maml"].at(1e9) == 0
    assert performance_profiles({}) == {}
