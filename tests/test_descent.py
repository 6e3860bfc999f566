"""Whether a training curve came down: what the paper calls diverging, seen where every number is finite."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from fabricated import write_run
from scipy.stats import mannwhitneyu

from harness.report.findings.descent import _mann_whitney, descent
from harness.report.reading.runs import read_runs

CHANCE = math.log(5)


def ended(folder, losses, **settings):
    """The descent of a run of five ways whose training loss was ``losses``."""
    run = write_run(folder, iterations=len(losses), **settings)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line, loss in zip(lines, losses, strict=True):
        line["loss"] = loss
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ((found,), _) = read_runs([folder])
    return descent(found)


def curve(start, end, spread=0.1, length=100):
    noise = spread * np.random.default_rng(0).standard_normal(length)
    return [float(value) for value in np.linspace(start, end, length) + noise]


def test_a_curve_that_falls_below_chance_came_down(tmp_path):
    assert ended(tmp_path, curve(1.7, 1.0)) == "came down"


@pytest.mark.parametrize("start", [1.5, CHANCE, 3.0])
def test_a_curve_that_ends_above_chance_and_no_lower_than_it_began_did_not(tmp_path, start):
    assert ended(tmp_path, curve(start, max(2.5, start), 0.2)) == "did not come down"


def test_losses_that_explode_from_the_first_step_on_did_not_come_down(tmp_path):
    losses = np.exp(np.random.default_rng(1).uniform(0, 13, 300))
    assert ended(tmp_path, [float(loss) for loss in losses + 2]) == "did not come down"


@pytest.mark.parametrize(("start", "end"), [(50.0, 5.0), (1.4, 1.5), (1.5, 1.5)])
def test_in_between_nothing_is_said(tmp_path, start, end):
    assert ended(tmp_path, curve(start, end)) == "undecided"


@pytest.mark.parametrize(("length", "word"), [(19, "undecided"), (20, "came down")])
def test_twice_ten_iterations_are_the_fewest_that_say_anything(tmp_path, length, word):
    assert ended(tmp_path, curve(1.7, 0.5, length=length)) == word


def test_regression_is_held_against_its_own_start_alone(tmp_path):
    for name, end, word in (("up", 9.0, "did not come down"), ("down", 4.0, "came down"), ("flat", 5.0, "undecided")):
        assert ended(tmp_path / name, curve(5.0, end), ways=1, benchmark="sinusoid") == word


def test_a_number_that_is_not_finite_is_a_status_of_its_own(tmp_path):
    write_run(tmp_path, status="diverged", done=7)
    ((found,), _) = read_runs([tmp_path])
    assert descent(found) == "not finite"


def test_the_test_between_tenths_is_mann_and_whitneys():
    random = np.random.default_rng(2)
    a, b = random.normal(0.3, 1, 40), random.normal(0, 1, 40)
    expected = mannwhitneyu(a, b, alternative="two-sided", use_continuity=False, method="asymptotic").pvalue
    assert math.erfc(abs(_mann_whitney(a, b)) / 2**0.5) == pytest.approx(expected, rel=1e-9)
