"""Trends of cost over N, tried on costs whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from harness.report.findings.line import Line
from harness.report.findings.rows import Row, ratio
from harness.report.findings.trends import SAME, falls_then_rises, rises, saturates
from harness.report.tables.cells import interval_text

STEPS = (1, 2, 3, 5, 10)


def line(*of_steps, steps=STEPS):
    """Five seeds at each N."""
    rows = tuple(Row.known({seed: float(value) for seed, value in enumerate(each)}) for each in of_steps)
    return Line(tuple(map(float, steps)), rows, ())


def alike(trial, spread=0.12):
    """Costs that differ between N by chance alone."""
    random = np.random.default_rng(trial)
    return line(*np.exp(random.normal(3, spread, (len(STEPS), 5))))


@pytest.mark.parametrize("test", [falls_then_rises, rises, saturates])
def test_costs_that_are_alike_decide_a_trend_in_one_of_twenty(test):
    found = [test(alike(trial))[0] for trial in range(200)]
    assert found.count("held") <= 10
    if test is not saturates:  # which costs that never fall do refute
        assert found.count("refuted") <= 10


def test_the_cheapest_of_several_needs_more_than_looking_cheap():
    """Both ends lie above the cheapest of three by 95 % intervals, and not by those that three together ask for."""
    random = np.random.default_rng(0)
    rows = [np.exp(random.normal(3 + (0.12 if n in (0, 4) else 0), 0.12, 5)) for n in range(5)]
    best = min(rows[1:4], key=np.median)
    alone = line(rows[0], best, rows[4], steps=(1, 3, 10))
    for each, looks, decided in ((line(*rows), 3, "undecided"), (alone, 1, "held")):
        found, text = falls_then_rises(each)
        assert found == decided
        wide = ratio(*line(rows[0], best).rows, 1 - 0.05 / looks)[0]
        assert f"cost at N = 1 over N = 3: {interval_text(wide)}; " in text


@pytest.mark.parametrize(("last", "verdict"), [(100 / SAME, "held"), (100 / SAME - 1, "refuted")])
def test_the_same_is_up_to_a_quarter(last, verdict):
    falling = line([400] * 5, [200] * 5, [150] * 5, [100] * 5, [last] * 5)
    found, text = saturates(falling)
    assert found == verdict
    assert "cost at N = 1 over cost at N = 10: " in text
    assert "; cost at N = 5 over cost at N = 10: " in text


@pytest.mark.parametrize("short", [0, 1, -1])
@pytest.mark.parametrize("test", [falls_then_rises, saturates])
def test_the_fewest_seeds_of_all_that_decides_are_named(test, short):
    each = [[300.0] * 5, [100.0] * 5, [100.0] * 5]
    each[short] = each[short][:3]
    found, text = test(line(*each, steps=(1, 3, 10)))
    assert found == "undecided"
    assert text.endswith("; 3 shared seeds, fewer than the 5 a claim needs")
