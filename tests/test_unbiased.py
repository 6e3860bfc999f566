"""Definition 1 without the noise of the sampled tasks: against brute force, and simulations with a known truth."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from harness.experiment.unbiased import mean_and_error, pair_products


def test_it_is_the_mean_over_all_pairs_of_tasks_in_different_groups():
    sizes = [2, 3, 2, 1]
    gradients = torch.randn(sum(sizes), 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    group = [number for number, size in enumerate(sizes) for _ in range(size)]
    sums = torch.stack([gradients[[g == number for g in group]].sum(0) for number in range(len(sizes))])
    pairs = [
        float(gradients[i] @ gradients[j])
        for i, j in itertools.permutations(range(len(group)), 2)
        if group[i] != group[j]
    ]
    assert mean_and_error(pair_products(sums, sizes).tolist())[0] == pytest.approx(np.mean(pairs), rel=1e-12)


def test_groups_of_one_size_give_the_usual_formula():
    means = torch.randn(5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    whole = means.mean(0).square().sum()
    usual = (5 * whole - means.square().sum(1).mean()) / 4
    assert mean_and_error(pair_products(4 * means, [4] * 5).tolist())[0] == pytest.approx(float(usual), rel=1e-12)


def test_parts_of_the_parameters_add_up():
    sums = torch.randn(6, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    whole = pair_products(sums, [3] * 6)
    parts = pair_products(sums[:, :4], [3] * 6) + pair_products(sums[:, 4:], [3] * 6)
    assert torch.allclose(whole, parts, rtol=1e-12)


@pytest.mark.parametrize(("truth", "least", "most"), [(0.0, 1.0, 1.7), (1.0, 1.0, 1.7), (100.0, 0.85, 1.15)])
def test_simulated_tasks_of_a_known_gradient(truth, least, most):
    """16 groups of 2 tasks, 200 parameters of unequal noise, 2,000 trials: no bias, and the right standard error."""
    random = torch.Generator().manual_seed(3)
    scale = torch.linspace(0.1, 2, 200, dtype=torch.float64)
    gradient = torch.full((200,), (truth / 200) ** 0.5, dtype=torch.float64)
    noise = torch.randn(2000, 16, 2, 200, dtype=torch.float64, generator=random) * scale
    found = [mean_and_error(pair_products((gradient + each).sum(1), [2] * 16).tolist()) for each in noise]
    values, errors = np.array(found).T
    assert abs(values.mean() - truth) < 4 * values.std() / 2000**0.5
    assert least < (errors**2).mean() ** 0.5 / values.std() < most
    biased = float(scale.square().sum()) / 32
    assert biased > 100 * abs(values.mean() - truth)  # what the squared norm of the mean would add


def test_too_few_groups_have_no_value_or_no_error():
    assert np.isnan(mean_and_error([])).all()
    value, error = mean_and_error([1.0, 3.0])
    assert value == 2.0
    assert np.isnan(error)
    assert np.isnan(mean_and_error([float("inf"), float("-inf"), 1.0])).all()
