"""The theory: bounds and tables, constants recovered where they are known, fits that recover or refuse."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from harness.cli import main
from harness.errors import InputError
from harness.experiment.setup import set_up
from harness.problem.curvature import curvature, inner_constants, largest_eigenvalue
from harness.problem.lanczos import lanczos
from harness.problem.meta_gradient import exact
from harness.problem.oracle import Counts, Inner, Oracle, Outcome
from harness.problem.partition import Network
from harness.problem.tasks import draw
from harness.proof.problems import small_problems
from harness.report.tables.latex import to_latex
from harness.report.tables.paper import theory_tables
from harness.settings.config import RunConfig
from harness.settings.resolve import resolve
from harness.settings.suites import plan
from harness.theory import smoothness as smoothness_module
from harness.theory.bounds import (
    TABLE_1,
    TABLE_2,
    THEOREMS,
    Formula,
    evaluations,
    predicted_factor,
    theorem_1_complexity,
    theorem_1_rate,
    theorem_2_complexity,
    theorem_2_rate,
    xi,
)
from harness.theory.conditions import Steps, conditions, factor_condition
from harness.theory.estimate import estimate
from harness.theory.fits import fit_convex, fit_decay, fit_linear
from harness.theory.formulas import TABLE_1_NOTES
from harness.theory.lipschitz import Point, sampled_lipschitz
from harness.theory.propositions import proposition_2, proposition_3
from harness.theory.smoothness import smoothness

L2 = 1e-3  # ANIL's default lambda: part of the inner objective, so part of its curvature


def quadratic(algo="anil", tasks=3, options=None, **settings):
    """A run on quadratics that is ready to start, and its first tasks."""
    config = RunConfig(
        algo=algo,
        benchmark="quadratic",
        benchmark_options=options or {},
        dtype="float64",
        device="cpu",
        meta_batch=tasks,
        **settings,
    )
    resolved = resolve(config)
    setup = set_up(resolved)
    return setup, draw(resolved.benchmark, setup.config, "train", 0, tasks, setup.device, torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- Tables and theorems ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner_steps", [0, 1, 4])
@pytest.mark.parametrize("algo", ["maml", "fomaml", "anil"])
def test_predicted_entries_are_those_that_are_executed(algo, inner_steps):
    setup, batch = quadratic(algo, inner_steps=inner_steps)
    counts = Counts()
    setup.evaluator.meta_gradient(setup.w, setup.phi, batch, counts)
    network = setup.problem.network
    expected = evaluations(algo, network.n_w, network.n_phi, inner_steps)
    assert (counts.gradient_entries, counts.second_order_entries) == (
        expected.gradient * batch.tasks,
        expected.second_order * batch.tasks,
    )


def test_predicted_factors_are_the_quotients_of_table_2():
    n_w, n_phi, N, kappa_L = 10, 90, 5, 0.2
    convex = predicted_factor("convex", n_w, n_phi, N, kappa_L)
    assert convex.gradient == pytest.approx(500 / 140 * 1.2**5)
    assert convex.second_order == pytest.approx(10 * 1.2**5)
    nonconvex = predicted_factor("nonconvex", n_w, n_phi, N, kappa_L)
    assert (nonconvex.gradient, nonconvex.second_order) == (pytest.approx(500 / 140), 10)


def test_factors_at_the_edges_are_chosen_on_purpose():
    without_steps = predicted_factor("convex", 10, 90, 0, 0.2)
    assert without_steps.gradient == 1
    assert math.isnan(without_steps.second_order)
    assert predicted_factor("convex", 0, 90, 5, 0.2).second_order == math.inf
    assert predicted_factor("convex", 10, 90, 10_000, 5.0).gradient == math.inf
    assert predicted_factor("nonconvex", 10, 90, 10_000, math.inf).second_order == 10


@pytest.mark.parametrize(
    "arguments",
    [
        ("round", 1, 1, 1, 0.1),
        ("convex", -1, 1, 1, 0.1),
        ("convex", 0, 0, 1, 0.1),
        ("convex", 1, 1, -1, 0.1),
        ("convex", 1, 1, 1, -0.1),
        ("convex", 1, 1, 1, math.nan),
    ],
)
def test_impossible_sizes_are_refused(arguments):
    with pytest.raises(InputError, match="allowed"):
        predicted_factor(*arguments)


def test_unknown_algorithms_have_no_predicted_entries():
    with pytest.raises(InputError, match="did you mean 'maml'"):
        evaluations("mamll", 1, 1, 1)


def test_every_formula_has_text_and_balanced_ascii_latex():
    formulas = [
        value for row in (*TABLE_1, *TABLE_2, *THEOREMS) for value in vars(row).values() if isinstance(value, Formula)
    ]
    assert len(formulas) == 3 * len(TABLE_1) + 2 * len(TABLE_2) + len(THEOREMS)
    for formula in formulas:
        assert str(formula) == formula.text
        assert formula.text.count("(") == formula.text.count(")")
        assert formula.latex.isascii()
        assert formula.latex.count("{") == formula.latex.count("}")
        assert formula.latex.count(r"\bigl") == formula.latex.count(r"\bigr")


def test_theorem_1_decays_in_w_and_saturates_in_phi():
    mu, L = 0.5, 1.0
    rates = [theorem_1_rate(N, 100, 10, mu, L) for N in (4, 6, 400)]
    assert rates[1].w / rates[0].w == pytest.approx(1 - xi(mu, L))
    assert rates[2].phi == pytest.approx(mu**-3 / 100 + mu**-2 / 10)
    assert rates[0].phi > rates[1].phi > rates[2].phi
    forever = theorem_1_rate(4, 1e300, 1, mu, L)
    assert (forever.w, forever.phi) == (pytest.approx(0.75**2 / mu), pytest.approx(0.75**6 / mu + mu**-2))


def test_theorem_1_complexity_grows_linearly_once_saturated():
    few, many = (theorem_1_complexity(N, 0.1, 0.5, 1.0) for N in (500, 1000))
    assert many.gradient_w == pytest.approx(2 * few.gradient_w)
    assert many.gradient_phi == pytest.approx(few.gradient_phi) == pytest.approx(0.5**-5 / 0.01)
    assert many.second_order == many.gradient_w


def test_theorem_2_grows_with_the_square_of_N():
    few, many = theorem_2_complexity(5, 0.1), theorem_2_complexity(10, 0.1)
    assert (many.gradient_w / few.gradient_w, many.gradient_phi / few.gradient_phi) == (4, 2)
    assert theorem_2_rate(10, 100, 10**9).w == pytest.approx(0.1)


def test_theorem_2_is_printed_as_the_paper_has_it_and_what_its_complexity_needs_is_said():
    rates = [theorem_2_rate(N, 10**12, 10).phi for N in (5, 10)]
    assert rates[1] == pytest.approx(2 * rates[0]) == pytest.approx(1)
    printed = {str(row.rate) for row in TABLE_1} | {str(row.order) for row in THEOREMS}
    assert "O(N/K + N/B)" in printed
    assert not [text for text in printed if "1/B" in text]
    assert any("they need 1/B" in note for note in TABLE_1_NOTES)
    N, epsilon = 7, 0.1
    K, B = N / epsilon, 1 / epsilon  # with the 1/B of that note
    found = theorem_2_complexity(N, epsilon)
    assert (found.gradient_w, found.gradient_phi) == (pytest.approx(N * K * B), pytest.approx(K * B))


def test_the_theorems_come_with_their_step_sizes():
    steps = {row.theorem: str(row.order) for row in THEOREMS if "step sizes" in row.quantity}
    assert steps == {
        "Theorem 1": "α = μ/L², β_w = poly μ² (1-μ²/L²)^(-N/2), β_φ = poly μ³",
        "Theorem 2": "α < O(1/N), β_w = β_φ = poly/N",
    }


def test_with_alpha_of_1_over_N_the_nonconvex_bounds_do_not_grow_with_N():
    L, M, rho, tau = 1.0, 1.0, 1.0, 1.0
    at = {N: proposition_3(N, 0.1 / N, L, M=M, rho=rho, tau=tau) for N in (1, 10, 100, 1000)}
    assert [round(at[N].w_w, 3) for N in (1, 10, 100)] == [1.310, 1.335, 1.337]
    for N in (10, 100, 1000):
        one = proposition_3(N, 1 / N, L, M=M, rho=rho, tau=tau)
        assert one.w_w <= (L + M * rho) * math.exp(2 * L)
        ten = proposition_3(10, 1 / 10, L, M=M, rho=rho, tau=tau)
        assert one.w_phi <= 1.5 * ten.w_phi
        assert one.phi_phi <= 1.5 * ten.phi_phi


# --- Conditions of the theorems --------------------------------------------------------------------------------------

MU, LARGEST = 0.5, 1.0
THEOREM_1 = {N: Steps(N, MU / LARGEST**2, 0.25 * 0.75 ** (-N / 2), 0.2) for N in (1, 5, 10)}


def judged(*steps, algorithm="anil", geometry="convex", optimizer="sgd", L=LARGEST, mu=MU):
    return conditions(algorithm, geometry, optimizer, steps, L=L, mu=mu)


def test_theorem_1_is_about_sgd_with_its_own_step_sizes():
    found = judged(*THEOREM_1.values())
    assert (found.theorem, found.holds, found.effect) == (1, True, "")
    assert (found.alpha, found.alpha_ratio) == (0.5, pytest.approx(1))
    assert (found.xi, found.condition_number) == (0.25, 2)
    assert judged(THEOREM_1[5]).holds


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"inner_lr": 1.0}, "alpha is 2 times mu/L^2 = 0.5"),
        ({"inner_lr": 0.1}, "alpha is 0.2 times mu/L^2 = 0.5"),
        ({"outer_lr_w": 0.01}, "beta_w does not grow with N like (1-xi)^(-N/2)"),
        ({"outer_lr_phi": 0.01}, "beta_phi is not the same for every N"),
    ],
)
def test_whatever_theorem_1_does_not_have_is_named(changes, reason):
    found = judged(THEOREM_1[1], dataclasses.replace(THEOREM_1[10], **changes))
    assert not found.holds
    assert reason in found.sentence


def test_adam_is_not_the_sgd_of_algorithm_1():
    assert judged(THEOREM_1[1], optimizer="adam").sentence == (
        "Theorem 1's conditions do not hold: Adam instead of SGD"
    )
    assert "Adam" in judged(Steps(1, 0.1, 0.1, 0.1), geometry="nonconvex", optimizer="adam").sentence


def test_where_xi_is_tiny_theorem_1_predicts_no_effect_of_N():
    found = judged(Steps(10, 0.1, 1e-3, 1e-3), optimizer="adam", L=6.11, mu=1e-3)
    assert found.alpha_ratio == pytest.approx(0.1 * 6.11**2 / 1e-3)
    assert "alpha is 3,733 times mu/L^2 = 2.68e-05" in found.sentence
    assert "predicts no effect of N" in found.effect


@pytest.mark.parametrize(("L", "mu"), [(1.0, -0.1), (1.0, 0.0), (math.nan, 0.1), (0.1, 0.5), (1.0, math.nan)])
def test_theorem_1_does_not_hold_without_strong_convexity(L, mu):
    found = judged(THEOREM_1[1], L=L, mu=mu)
    assert (found.theorem, found.holds) == (1, False)
    assert "needs 0 < mu <= L" in found.sentence


def test_theorem_2_asks_for_steps_of_order_1_over_N():
    own = [Steps(N, 0.3 / N, 0.1 / N, 0.1 / N) for N in (1, 3, 30)]
    held = judged(*own, geometry="nonconvex", L=2.0, mu=math.nan)
    assert (held.theorem, held.holds) == (2, True)
    assert held.sentence.startswith("Theorem 2's optimizer and step sizes; ")
    constant = [dataclasses.replace(each, inner_lr=0.3, outer_lr_w=0.1) for each in own]
    found = judged(*constant, geometry="nonconvex", L=2.0, mu=-1.0)
    assert "alpha is 18 times 1/(N L) = 0.0167 at N = 30; beta_w does not fall with N like 1/N" in found.sentence
    assert "beta_phi" not in found.sentence
    assert not judged(*own, geometry="nonconvex", L=math.nan).holds


def test_no_theorem_is_about_maml_or_another_geometry():
    assert judged(THEOREM_1[1], algorithm="maml", geometry="nonconvex").theorem is None
    assert judged(THEOREM_1[1], geometry="round").theorem is None
    with pytest.raises(InputError, match="allowed"):
        judged()


def test_the_nonconvex_factor_is_for_a_kappa_of_at_most_1_over_N():
    assert factor_condition("nonconvex", 10, 0.1) == factor_condition("convex", 10, 9.0) == ""
    assert "κ ≤ 1/N = 0.1" in factor_condition("nonconvex", 10, 0.4)


def test_a_suite_has_algorithm_1_with_the_steps_of_theorem_1():
    runs = [run.config for run in plan("theorem1-quadratic").runs]
    assert {run.inner_steps for run in runs} == {1, 2, 3, 5, 7, 10, 20}
    assert len({run.seed for run in runs}) == 5
    assert all(run.iterations / run.stationarity_every == 20 for run in runs)
    (options,) = {(run.benchmark_options["mu"], run.benchmark_options["L"]) for run in runs}
    steps = {Steps(run.inner_steps, run.inner_lr, run.outer_lr_w, run.outer_lr_phi) for run in runs}
    (optimizer,) = {run.outer_optimizer for run in runs}
    assert judged(*steps, optimizer=optimizer, mu=options[0], L=options[1]).holds


@pytest.mark.parametrize(("mu", "L"), [(0.0, 1.0), (2.0, 1.0), (-0.1, 1.0), (math.nan, 1.0), (0.1, math.inf)])
def test_theorem_1_refuses_what_is_not_strongly_convex(mu, L):
    with pytest.raises(InputError, match="allowed"):
        theorem_1_rate(5, 100, 10, mu, L)


def test_tiny_constants_overflow_to_infinity():
    assert theorem_1_complexity(5, 0.1, 1e-100, 1.0).gradient_w == math.inf
    assert theorem_2_complexity(5, 1e-300).gradient_w == math.inf
    assert proposition_3(10_000, 1.0, 1.0, M=1, rho=1, tau=1).w_w == math.inf


@pytest.mark.parametrize("N", [1, 2, 4])
@pytest.mark.parametrize(("proposition", "mu"), [(proposition_2, 0.5), (proposition_3, -0.5)])
def test_propositions_bound_a_meta_loss_of_known_constants(proposition, mu, N):
    alpha, M = 0.3, 1000.0
    L, third = abs(mu) + 2, 2**0.5 * 4 / 27**0.5  # of L_S = (mu/2) w^2 + log cosh(w - phi), and L_D = M w

    def meta_loss(z):
        w, phi = z
        for _ in range(N):
            w = w - alpha * (mu * w + torch.tanh(w - phi))
        return M * w

    points = torch.randn(200, 2, dtype=torch.float64, generator=generator())
    measured = torch.func.vmap(torch.func.hessian(meta_loss))(points).abs().amax(0)
    known = {"alpha": alpha, "L": L} | ({"mu": mu} if proposition is proposition_2 else {})
    bound = proposition(N, **known, M=M, rho=third, tau=third)
    without = proposition(N, **known, M=M, rho=0, tau=0)
    assert without.w_w < measured[0, 0] <= bound.w_w
    assert without.w_phi < measured[0, 1] <= bound.w_phi
    assert without.phi_phi < measured[1, 1] <= bound.phi_phi


def test_proposition_2_for_two_steps_by_hand():
    alpha, mu, L, M, rho, tau = 0.25, 0.4, 2.0, 3.0, 5.0, 7.0
    found = proposition_2(2, alpha, mu, L, M=M, rho=rho, tau=tau)
    q, d1 = 0.9, 0.5  # 1 - alpha mu, and how far w_1 moves with phi
    d2 = d1 + 0.5 * q
    assert found.w_w == pytest.approx(L * q**4 + M * alpha * rho * q * (1 + q))
    assert found.w_phi == pytest.approx(q**2 * L * (1 + d2) + M * alpha * rho * q * (1 + 1 + d1))
    first = q * (tau * M + L**2 * (1 + d2)) + L * M * alpha * rho * (1 + d1)
    second = tau * M * (1 + d1) + L**2 * (1 + d2)
    assert found.phi_phi == pytest.approx(L * (1 + d2) + alpha * (first + second))


# --- Lanczos ---------------------------------------------------------------------------------------------------------


def of_matrix(matrices, **settings):
    start = torch.randn(matrices.shape[:2], dtype=matrices.dtype, generator=generator(1))
    options = {"steps": 64, "tolerance": 1e-8, "generator": generator()} | settings
    return lanczos(lambda u: (matrices @ u[..., None])[..., 0], start, **options)


def symmetric(*sizes):
    matrix = torch.randn(*sizes, sizes[-1], dtype=torch.float64, generator=generator(2))
    return matrix + matrix.mT


def test_lanczos_finds_both_ends_of_every_task():
    matrices = symmetric(4, 50)
    found, true = of_matrix(matrices), torch.linalg.eigvalsh(matrices)
    assert found.converged
    torch.testing.assert_close(found.largest, true[:, -1])
    torch.testing.assert_close(found.smallest, true[:, 0])


def test_lanczos_goes_on_where_the_krylov_space_is_exhausted():
    few_values = torch.diag_embed(torch.tensor([[2.0] * 9 + [-1.0], [3.0] * 10, [0.0] * 10, [1.0] * 5 + [7.0] * 5]))
    found = of_matrix(few_values.double())
    torch.testing.assert_close(found.largest, torch.tensor([2.0, 3.0, 0.0, 7.0]).double())
    torch.testing.assert_close(found.smallest, torch.tensor([-1.0, 3.0, 0.0, 1.0]).double())


def test_lanczos_leaves_an_eigenvector_that_it_happens_to_start_from():
    matrix = torch.diag_embed(torch.tensor([[5.0, 1.0, 2.0, -4.0]]).double())
    start = torch.tensor([[0.0, 0.0, 1.0, 0.0]]).double()
    found = lanczos(lambda u: u @ matrix[0], start, steps=4, tolerance=1e-8, generator=generator())
    assert (float(found.largest), float(found.smallest)) == (pytest.approx(5), pytest.approx(-4))


def test_lanczos_says_when_it_has_not_converged_and_how_far_off_it_is():
    matrices = torch.diag_embed(torch.linspace(1, 2, 200, dtype=torch.float64)[None])
    found = of_matrix(matrices, steps=6)
    assert not found.converged
    assert 2 - found.largest <= found.largest_error
    assert found.largest_error > 1e-3
    assert found.largest <= 2


def spectrum(many, cluster, isolated, top, spread=0.0):
    """``many`` eigenvalues at ``cluster`` and a little above, one below them, and some up to ``top``."""
    near = cluster + spread * torch.rand(many, dtype=torch.float64, generator=generator(3))
    far = torch.linspace(1, top, 20, dtype=torch.float64) if spread else torch.tensor([top]).double()
    return torch.cat([near, torch.tensor([isolated]).double(), far])


CLUSTERS = [
    spectrum(5000, 0.1, 0.05, 50),
    spectrum(2000, 0.011, 0.01, 50),
    spectrum(2000, 0.011, 0.01, 50, 1e-5),
    spectrum(1000, 0.1, 0.05, 50, 0.01),
]


@pytest.mark.slow
@pytest.mark.parametrize("eigenvalues", CLUSTERS)
@pytest.mark.parametrize(("steps", "dtype"), [(64, "float64"), (24, "float32")])
def test_mu_is_never_called_certain_where_a_smaller_eigenvalue_hides_beside_a_cluster(eigenvalues, steps, dtype):
    eigenvalues = eigenvalues.to(getattr(torch, dtype))
    for seed in range(200):
        start = torch.randn(1, len(eigenvalues), dtype=torch.float64, generator=generator(seed)).to(eigenvalues)
        found = lanczos(lambda u: u * eigenvalues, start, steps=steps, tolerance=1e-3, generator=generator(seed))
        true = eigenvalues.double().min()
        assert found.smallest >= true - 1e-5
        assert found.smallest - found.smallest_error <= true + 1e-9, seed
        assert found.largest + found.largest_error >= eigenvalues.max() - 1e-9
        mu = inner_constants([found]).mu
        assert not mu.converged or mu.value == pytest.approx(float(true), rel=0.01), seed


def test_an_eigenvalue_beside_a_cluster_is_found_and_then_called_certain():
    found = of_matrix(torch.diag_embed(CLUSTERS[3][None, -200:]), tolerance=1e-3)
    assert found.converged
    assert float(found.smallest) == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize("steps", [2, 5, 12])
def test_the_ends_lie_within_their_errors_before_anything_has_converged(steps):
    matrices = symmetric(100, 60)
    found, true = of_matrix(matrices, steps=steps, tolerance=0), torch.linalg.eigvalsh(matrices)
    for end, error, actual in (
        (found.largest, found.largest_error, true[:, -1] - found.largest),
        (-found.smallest, found.smallest_error, found.smallest - true[:, 0]),
    ):
        assert (actual >= -1e-12).all()
        assert (actual <= error).all()
        assert error.isfinite().all(), end
    assert (found.norm <= true.abs().amax(1)).all()
    assert (true.abs().amax(1) <= found.norm + found.norm_error).all()


def test_the_norm_is_that_of_the_end_of_larger_magnitude():
    matrices = torch.diag_embed(torch.linspace(-20, 1, 300, dtype=torch.float64)[None])
    found = of_matrix(matrices, steps=40, tolerance=1e-3, both=False)
    assert float(found.norm) == pytest.approx(20, rel=1e-3)


def test_lanczos_keeps_a_task_that_is_not_finite_to_itself():
    matrices = symmetric(2, 6)
    matrices[0, 3, 3] = math.nan
    found = of_matrix(matrices)
    assert found.largest[0].isnan()
    torch.testing.assert_close(found.largest[1], torch.linalg.eigvalsh(matrices[1])[-1])
    assert not found.converged


# --- Constants -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"dim_w": 90, "mu": 0.02, "L": 7.0}, {"dim_w": 1, "mu": 2.0, "L": 2.0}])
def test_curvature_of_quadratics_is_recovered(options):
    setup, batch = quadratic(options=options)
    oracle = setup.evaluator.oracle(setup.w, setup.phi, batch)
    found = inner_constants([curvature(oracle, oracle.initial(), generator=generator())])
    mu, L = options.get("mu", 0.1) + L2, options.get("L", 1.0) + L2
    assert found.L.value == pytest.approx(L, rel=0.01)
    assert found.mu.value == pytest.approx(mu, rel=0.01)
    assert found.xi == pytest.approx((mu / L) ** 2, rel=0.01)
    assert found.L.converged
    assert found.mu.converged


def test_the_cheap_estimate_is_within_a_percent_and_leaves_the_counts_alone():
    setup, batch = quadratic(options={"dim_w": 200, "L": 3.0})
    counts = Counts()
    oracle = setup.evaluator.oracle(setup.w, setup.phi, batch, counts)
    found = largest_eigenvalue(oracle, oracle.initial(), generator=generator())
    assert found.shape == (batch.tasks,)
    torch.testing.assert_close(found, torch.full_like(found, 3.0 + L2), rtol=0.01, atol=0)
    assert counts == Counts()
    oracle.inner_gradient(oracle.initial())
    assert counts.gradient_entries


@pytest.mark.parametrize("problem", small_problems(0), ids=lambda problem: problem.name)
@pytest.mark.parametrize("strategy", ["unrolled", "recursion", "checkpointed", "linearised"])
def test_eigenvalues_agree_with_a_dense_hessian(problem, strategy):
    from algorithms.anil import ANIL
    from harness.engines.engine import Problem
    from harness.engines.native import Native
    from harness.errors import NotSupported

    network = Network(problem.module, "last:1")
    try:
        engine = Native(Problem(ANIL("convex"), network, Inner(problem.loss, 3, 0.1, L2)), strategy)
    except NotSupported:
        pytest.skip(f"no {strategy} for {problem.name}")
    oracle = engine.oracle(*network.initial(), problem.batch)
    w = oracle.initial()
    units = torch.eye(network.n_w, dtype=w.dtype)
    dense = torch.stack([oracle.hessian_product(w, unit.expand_as(w)) for unit in units], 2)
    true = torch.linalg.eigvalsh(dense)
    found = curvature(oracle, w, generator=generator(), steps=network.n_w, tolerance=1e-6)
    torch.testing.assert_close(found.largest, true[:, -1])
    torch.testing.assert_close(found.smallest, true[:, 0])


def test_an_inner_objective_that_is_not_convex_has_no_xi():
    setup, batch = quadratic()
    oracle = setup.evaluator.oracle(setup.w, setup.phi, batch)
    found = of_matrix(torch.diag_embed(torch.tensor([[-3.0, 1.0, 2.0]]).double()))
    constants = inner_constants([curvature(oracle, oracle.initial(), generator=generator()), found])
    assert constants.xi is None
    assert (constants.L.value, constants.mu.value) == (pytest.approx(3.0), pytest.approx(-3.0))


class Saddle(Oracle):
    """One task whose inner Hessian has eigenvalues from -20 to 1."""

    def __init__(self):
        super().__init__()
        self.n_w, self.n_phi, self.tasks = 40, 0, 1
        self.diagonal = torch.linspace(-20, 1, 40, dtype=torch.float64)[None]

    def evaluate(self, w):
        return Outcome(w[:, 0], w[:, 0])

    def _initial(self):
        return torch.zeros_like(self.diagonal)

    def _inner_gradient(self, w, linearise):
        return self.diagonal * w

    def _outer_gradient(self, w):
        return w, None

    def _second_order_products(self, w, u, mixed):
        return self.diagonal * u, None

    def _phi_gradient(self, g):
        return g[0, :0]


def test_L_is_the_norm_where_negative_curvature_dominates():
    oracle = Saddle()
    found = largest_eigenvalue(oracle, oracle.initial(), generator=generator(), iterations=20)
    assert float(found) == pytest.approx(20, rel=0.01)
    constants = inner_constants([curvature(oracle, oracle.initial(), generator=generator())])
    assert (constants.L.value, constants.mu.value) == (pytest.approx(20), pytest.approx(-20))


def test_lambda_bounds_mu_from_below_where_the_loss_is_known_to_be_convex():
    vague = of_matrix(torch.diag_embed(torch.linspace(0.1, 50, 200, dtype=torch.float64)[None]), steps=24)
    alone, known = inner_constants([vague]).mu, inner_constants([vague], floor=0.099).mu
    assert alone.error > known.error == pytest.approx(alone.value - 0.099)
    assert inner_constants([vague]).xi is None
    assert inner_constants([vague], floor=0.099).xi
    assert inner_constants([vague], floor=100.0).mu == alone  # refuted by what was seen


class Known(Oracle):
    """One task: L_S = rho w^3 / 6 + tau w phi^2 / 2 and L_D = 3 w + 4 phi, so that M = 5."""

    rho, tau = 0.7, 1.9

    def __init__(self, w, phi):
        super().__init__()
        self.w, self.phi = w, phi
        self.n_w, self.n_phi, self.tasks = 1, 1, 1

    def evaluate(self, w):
        return Outcome(w[:, 0], w[:, 0])

    def _initial(self):
        return self.w[None]

    def _inner_gradient(self, w, linearise):
        return self.rho * w**2 / 2 + self.tau * self.phi**2 / 2

    def _outer_gradient(self, w):
        return torch.full_like(w, 3.0), torch.full_like(w, 4.0)

    def _second_order_products(self, w, u, mixed):
        return self.rho * w * u, self.tau * self.phi * u

    def _phi_gradient(self, g):
        return g[0]


def test_sampled_constants_reach_the_known_ones_and_never_pass_them():
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    along_w = sampled_lipschitz(Known, [(Point(zero, one), Point(4 * one, one))], generator=generator())
    assert (along_w.M, along_w.rho, along_w.tau) == (pytest.approx(5), pytest.approx(Known.rho), 0)
    along_phi = sampled_lipschitz(Known, [(Point(one, zero), Point(one, 3 * one))], generator=generator())
    assert (along_phi.rho, along_phi.tau) == (0, pytest.approx(Known.tau))
    start = Point(zero, one)
    both = sampled_lipschitz(Known, [(start, start.moved(0.5, generator()))], generator=generator())
    assert 0 < both.rho < Known.rho
    assert 0 < both.tau < Known.tau


def test_a_pair_of_equal_points_is_refused():
    point = Point(torch.zeros(1), torch.zeros(1))
    with pytest.raises(InputError, match="distinct"):
        sampled_lipschitz(Known, [(point, point)], generator=generator())


# --- Smoothness of L_meta --------------------------------------------------------------------------------------------


def meta_gradient(setup, batch, N):
    return lambda w, phi: exact(setup.evaluator.oracle(w, phi, batch), N, setup.config.inner_lr)


def hessian_of_meta_loss(setup, batch, N):
    """By autograd through the inner loop on the tasks' own matrices, without any of the project's oracles."""
    n_phi, alpha = setup.phi.numel(), setup.config.inner_lr

    def loss(z):
        phi, w = z[:n_phi], z[n_phi:]
        total = z.new_zeros(())
        for support_x, support_y, query_x, query_y in zip(*vars(batch).values(), strict=True):
            adapted, rows = w, len(support_x)
            for _ in range(N):
                residual = support_x @ torch.cat([phi, adapted]) - support_y[:, 0]
                adapted = adapted - alpha * (2 / rows * support_x[:, n_phi:].T @ residual + L2 * adapted)
            total = total + (query_x @ torch.cat([phi, adapted]) - query_y[:, 0]).square().mean()
        return total / batch.tasks

    return torch.autograd.functional.hessian(loss, torch.cat([setup.phi, setup.w]))


@pytest.mark.parametrize("formed", [64, 0])
def test_smoothness_is_the_norm_of_each_block_of_the_hessian(formed, monkeypatch):
    monkeypatch.setattr(smoothness_module, "FORMED", formed)
    setup, batch = quadratic(tasks=2, options={"dim_w": 4, "dim_phi": 3}, inner_lr=0.5)
    found = smoothness(meta_gradient(setup, batch, 2), setup.w, setup.phi, generator=generator())
    dense = hessian_of_meta_loss(setup, batch, 2)
    phi, w = slice(0, 3), slice(3, 7)
    for name, rows, columns in (
        ("w_w", w, w),
        ("w_phi", w, phi),
        ("phi_w", phi, w),
        ("phi_phi", phi, phi),
        ("w", w, slice(None)),
        ("phi", phi, slice(None)),
    ):
        assert getattr(found, name) == pytest.approx(float(torch.linalg.matrix_norm(dense[rows, columns], 2)), rel=1e-5)
    assert found.converged


def test_the_decay_of_proposition_2_is_recovered():
    alpha, mu = 0.9, 0.1 + L2
    setup, batch = quadratic(tasks=1, options={"dim_w": 3, "dim_phi": 2}, inner_lr=alpha)
    inner_steps = (30, 40, 50)
    found = [smoothness(meta_gradient(setup, batch, N), setup.w, setup.phi, generator=generator()) for N in inner_steps]
    for name, rate in (("w", 1 - alpha * mu), ("w_phi", 1 - alpha * mu), ("w_w", (1 - alpha * mu) ** 2)):
        fit = fit_decay(inner_steps, [getattr(one, name) for one in found])
        assert fit.holds, fit.reason
        assert fit.parameters["rate"][0] == pytest.approx(rate, rel=0.01)
    assert found[-1].phi_phi > found[0].phi_phi  # along phi there is no such decay


def test_quadratics_are_as_smooth_as_propositions_2_and_3_promise():
    _, batch = quadratic(tasks=2, options={"dim_w": 4, "dim_phi": 3})
    both = torch.cat([batch.support_x, batch.query_x])
    L = float(torch.linalg.eigvalsh(2 / 4 * both.mT @ both).max()) + L2
    setup, _ = quadratic(tasks=2, options={"dim_w": 4, "dim_phi": 3}, inner_lr=0.9 / L)
    phi, w = slice(0, 3), slice(3, 7)
    for N in (0, 1, 3, 8):
        dense = hessian_of_meta_loss(setup, batch, N)
        convex = proposition_2(N, 0.9 / L, 0.1 + L2, L, M=0, rho=0, tau=0)
        nonconvex = proposition_3(N, 0.9 / L, L, M=0, rho=0, tau=0)
        for name, rows, columns in (("w_w", w, w), ("w_phi", w, phi), ("phi_phi", phi, phi)):
            measured = float(torch.linalg.matrix_norm(dense[rows, columns], 2))
            assert measured <= getattr(convex, name) <= getattr(nonconvex, name)
        assert convex.w_w == pytest.approx(L * (1 - 0.9 / L * (0.1 + L2)) ** (2 * N))


# --- Fits ------------------------------------------------------------------------------------------------------------

STEPS = [1, 2, 3, 5, 7, 10]


def test_a_planted_saturating_curve_is_recovered():
    noise = np.random.default_rng(0).normal(0, 2, len(STEPS))
    fit = fit_convex(STEPS, [400 * 0.6 ** (N / 2) + 90 + e for N, e in zip(STEPS, noise, strict=True)])
    assert fit.holds, fit.reason
    for name, true in (("a", 400), ("xi", 0.4), ("c", 90)):
        value, low, high = fit.parameters[name]
        assert low < true < high
        assert value == pytest.approx(true, rel=0.1)
    assert fit.predict(4) == pytest.approx(400 * 0.36 + 90, rel=0.05)
    assert fit.r_squared > 0.99


def test_intervals_cover_the_planted_parameter_about_95_times_in_100():
    random = np.random.default_rng(1)
    N = STEPS * 3
    covered = 0
    for _ in range(100):
        fit = fit_convex(N, [400 * 0.6 ** (n / 2) + 90 + random.normal(0, 10) for n in N])
        covered += fit.parameters["xi"][1] < 0.4 < fit.parameters["xi"][2]
    assert 88 <= covered <= 100


def test_a_planted_proportional_curve_is_recovered_and_not_taken_for_a_saturating_one():
    K = [31 * N + e for N, e in zip(STEPS, np.random.default_rng(0).normal(0, 3, len(STEPS)), strict=True)]
    fit = fit_linear(STEPS, K)
    assert fit.holds, fit.reason
    value, low, high = fit.parameters["a"]
    assert low < 31 < high
    assert value == pytest.approx(31, rel=0.05)
    convex = fit_convex(STEPS, K)
    assert not convex.holds
    assert "K rises with N" in convex.reason


@pytest.mark.parametrize("N", [STEPS[:4], STEPS, STEPS * 3])
def test_noise_around_a_constant_is_refused(N):
    random = np.random.default_rng(2)
    trials = [100 + 10 * random.normal(size=len(N)) for _ in range(40)]
    assert sum(fit_convex(N, K).holds for K in trials) <= 4
    assert sum(fit_decay(N, K).holds for K in trials) <= 4
    assert not any(fit_linear(N, K).holds for K in trials)


@pytest.mark.parametrize("fit", [fit_convex, fit_linear, fit_decay])
def test_flat_data_and_too_few_points_are_refused_with_the_reason(fit):
    assert fit(STEPS, [70] * 6).reason == "K does not change with N"
    few = fit([1, 1, 1], [5, 6, 7])
    assert not few.holds
    assert "different N" in few.reason
    assert math.isnan(few.predict(3))
    assert not fit([], []).holds


def test_a_cost_that_grows_less_than_proportionally_is_not_proportional():
    fit = fit_linear(STEPS, [100 + 5 * N for N in STEPS])
    assert not fit.holds
    assert "R²" in fit.reason


def test_targets_that_were_never_reached_are_left_out_and_named():
    fit = fit_linear([*STEPS, 20, 30], [10 * N for N in STEPS] + [math.inf, math.nan])
    assert fit.holds
    assert "N = 20 (infinite), N = 30 (not a number)" in fit.reason
    assert fit.parameters["a"][0] == pytest.approx(10)
    few = fit_convex([1, 1, 3, 10], [300, 301, 200, 100])
    assert (few.holds, few.reason) == (False, "3 different N, at least 4 are needed")
    nothing = fit_convex(STEPS, [math.inf] * 6)
    assert not nothing.holds
    assert "N = 10 (infinite)" in nothing.reason


def test_a_curve_that_has_not_begun_to_saturate_does_not_hold():
    assert not fit_convex(STEPS, [100 - 3 * N for N in STEPS]).holds


def test_a_drop_at_the_first_N_alone_does_not_determine_a_curve():
    fit = fit_convex(STEPS, [500, 100, 101, 99, 100, 100])
    assert not fit.holds
    assert "the interval of a contains 0" in fit.reason


def test_unequal_lengths_are_refused():
    with pytest.raises(InputError, match="allowed"):
        fit_linear([1, 2], [1])


def test_growth_is_not_a_decay():
    fit = fit_decay(STEPS, [4.9 * 1.7**N for N in STEPS])
    assert not fit.holds
    assert "it rises with N" in fit.reason


# --- harness theory --------------------------------------------------------------------------------------------------

SMALL = RunConfig(algo="anil", benchmark="quadratic", meta_batch=2, device="cpu")


def test_every_constant_of_quadratic_is_within_a_percent():
    document = estimate(SMALL)
    constants = document["constants"]
    mu, L = 0.1 + L2, 1 + L2
    assert constants["L"]["value"] == pytest.approx(L, rel=0.01)
    assert constants["mu"]["value"] == pytest.approx(mu, rel=0.01)
    assert constants["xi"] == pytest.approx((mu / L) ** 2, rel=0.01)
    _, batch = quadratic(tasks=2)
    joint = float(torch.linalg.eigvalsh(2 / 10 * batch.support_x.mT @ batch.support_x).max())
    assert constants["kappa_L"] == pytest.approx(0.1 * joint, rel=0.01)
    assert constants["rho"] == pytest.approx(0, abs=1e-9)
    assert constants["tau"] == pytest.approx(0, abs=1e-9)
    row = next(row for row in document["predictions"] if (row["geometry"], row["inner_steps"]) == ("convex", 5))
    assert (row["n_w"], row["n_phi"]) == (10, 8)
    assert row["factor"]["second_order"] == pytest.approx(1.8 * (1 + 0.1 * joint) ** 5, rel=0.05)
    assert row["anil_entries"] == {"gradient": 68, "second_order": 900}


def test_M_is_at_least_the_gradient_norm_at_the_start_and_the_end_of_the_inner_loop():
    setup, batch = quadratic(tasks=2)
    norms = []
    for task in range(2):
        oracle = setup.evaluator.oracle(setup.w, setup.phi, batch.chunk(task, task + 1))
        for w in (oracle.initial(), setup.problem.algorithm.adapt(oracle, 5, 0.1)):
            x, y = batch.query_x[task], batch.query_y[task]
            residual = x @ torch.cat([setup.phi, w[0]])[:, None] - y
            norms.append(float((2 / len(x) * x.T @ residual).norm()))
    found = estimate(SMALL)["constants"]["M"]
    assert max(norms) <= found * (1 + 1e-9)
    assert found <= 2 * max(norms)


def test_float64_unless_another_type_is_asked_for():
    assert estimate(SMALL)["dtype"] == "float64"
    asked = estimate(SMALL.model_copy(update={"dtype": "float32"}))
    assert asked["dtype"] == "float32"
    assert asked["constants"]["L"]["value"] == pytest.approx(1 + L2, rel=0.01)


def test_a_diverging_inner_loop_gives_no_numbers_instead_of_wrong_ones():
    document = estimate(SMALL.model_copy(update={"inner_lr": 1e38}))
    json.dumps(document, allow_nan=False)
    assert document["constants"]["M"] is None
    assert document["constants"]["rho"] is None


def test_maml_takes_its_own_hessian_for_kappa_L():
    document = estimate(SMALL.model_copy(update={"algo": "maml"}))
    assert document["constants"]["kappa_L"] == pytest.approx(0.1 * document["constants"]["L"]["value"])
    assert {row["geometry"] for row in document["predictions"]} == {"convex", "nonconvex"}


def test_the_command_prints_one_json_document_and_tables_beside_it(capsys):
    command = ["theory", "--benchmark", "quadratic", "--meta-batch", "1", "--inner-lr", "0.9", "--smoothness", "--json"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["constants"]["L"]["value"] == pytest.approx(1 + L2, rel=0.01)
    assert [row["inner_steps"] for row in document["smoothness"]["rows"]] == [1, 3, 5, 10]
    assert document["smoothness"]["decay"]["predicted_rate"] == pytest.approx(1 - 0.9 * (0.1 + L2), rel=0.01)
    for part in ("Table 1", "Table 2", "Theorem 2", "(1+κL)^N", "kappa_L", "Smoothness", "Proposition 2: rate 1-αμ"):
        assert part in err


def test_the_bounds_of_the_propositions_stand_beside_the_smoothness_that_they_bound():
    for geometry, proposition in (("convex", 2), ("nonconvex", 3)):
        config = SMALL.model_copy(update={"geometry": geometry})
        found = estimate(config, smooth=True)["smoothness"]
        assert found["proposition"] == proposition
        assert (found["decay"]["predicted_rate"] is None) == (proposition == 3)
        for row in found["rows"]:
            for block in ("w_w", "w_phi", "phi_phi"):
                assert row[block] <= row["bound"][block]


def test_smoothness_that_no_proposition_lets_decay_is_not_said_to_decay(capsys):
    command = ["theory", "--benchmark", "quadratic", "--geometry", "nonconvex", "--meta-batch", "1", "--smoothness"]
    assert main([*command, "--inner-lr", "2.5"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Proposition 3 promises no decay" in out
    assert "it rises with N" in out
    assert "Proposition 2: rate" not in out


def test_the_theorems_steps_stand_beside_the_runs(capsys):
    assert main(["theory", "--benchmark", "quadratic", "--meta-batch", "1", "--inner-lr", "0.4", "--json"]) == 0
    out, err = capsys.readouterr()
    steps = json.loads(out)["steps"]
    mu, L = 0.1 + L2, 1 + L2
    assert steps["conditions"]["alpha"] == pytest.approx(mu / L**2, rel=1e-6)
    assert steps["over_poly"]["outer_lr_w"] == pytest.approx(mu**2 * (1 - (mu / L) ** 2) ** -2.5, rel=1e-6)
    assert steps["over_poly"]["outer_lr_phi"] == pytest.approx(mu**3, rel=1e-6)
    assert steps["run"] == {"outer_optimizer": "adam", "outer_lr_w": 1e-3, "outer_lr_phi": 1e-3}
    said = " ".join(err.split())
    assert "Adam instead of SGD; alpha is 3.97 times mu/L^2 = 0.101" in said
    assert "Condition number L/mu = 9.91: where it is large the paper takes a small N, such as 2" in said


def test_a_kappa_above_1_over_N_is_said_where_the_nonconvex_factor_is_printed(capsys):
    assert main(["theory", "--benchmark", "quadratic", "--meta-batch", "1", "--inner-lr", "0.3"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "This factor is for κ ≤ 1/N, and MAML's κ = alpha = 0.3 is larger at N = 5, 10." in out


def test_lambda_bounds_mu_only_where_w_is_a_linear_layer():
    assert estimate(SMALL)["constants"]["mu_at_least"] == L2
    curved = {"algo": "anil", "benchmark": "sinusoid", "adapt": "all", "meta_batch": 1, "device": "cpu"}
    assert estimate(RunConfig(**curved))["constants"]["mu_at_least"] is None


def test_the_tables_of_a_report_say_how_the_paper_is_to_be_read():
    first, second = theory_tables()
    assert any("need 1/B" in note for note in first.notes)
    assert any("κ ≤ 1/N" in note for note in second.notes)
    assert "U+" not in to_latex([first, second])  # a sign that LaTeX has no name for here


def test_bad_input_is_one_line_and_status_2(capsys):
    assert main(["theory", "--benchmark", "quadratc"]) == 2
    assert "did you mean 'quadratic'" in capsys.readouterr().err
