"""``harness theory --advise``: steps that descend, the N that is least, and a warning where a loop overshoots."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch

from harness.cli import main
from harness.experiment.setup import set_up
from harness.problem.meta_gradient import exact
from harness.problem.tasks import draw
from harness.settings.config import RunConfig
from harness.settings.resolve import resolve
from harness.theory.advice import STEPS, contracting, curvature_along
from harness.theory.estimate import estimate


def settings(mu=0.5, L=1.0, **more):
    fixed = {"algo": "anil", "geometry": "convex", "benchmark": "quadratic", "meta_batch": 2, "device": "cpu"}
    options = {"benchmark_options": {"mu": mu, "L": L, "dim_w": 3, "dim_phi": 2}}
    return RunConfig(**fixed, **options, algo_options={"l2": 0.0}, **more)


@pytest.fixture(scope="module")
def advice():
    return estimate(settings(inner_lr=2.5), advice=True)["advice"]


def problem(config):
    resolved = resolve(config.model_copy(update={"dtype": "float64"}))
    setup = set_up(resolved)
    batch = draw(resolved.benchmark, setup.config, "train", 0, config.meta_batch, setup.device, setup.w.dtype)
    return setup, batch


def test_alpha_is_one_over_the_curvature_that_the_tasks_state(advice):
    found = advice["geometries"]["convex"]
    assert found["measured"]["inner_lr"] == pytest.approx(1.0, rel=1e-6)
    assert found["theorem"]["inner_lr"] == pytest.approx(0.5, rel=1e-6)  # mu/L^2
    assert found["alpha_L"] == pytest.approx(2.5, rel=1e-6)


def test_gradient_descent_with_the_advised_steps_lowers_L_meta_at_every_iteration(advice):
    """The promise of the descent lemma; ten times as long a step breaks it."""
    chosen = advice["geometries"]["convex"]["measured"]
    setup, batch = problem(settings())

    def losses(factor):
        w, phi, seen = setup.w, setup.phi, []
        for _ in range(20):
            oracle = setup.evaluator.oracle(w, phi, batch)
            gradient = exact(oracle, chosen["inner_steps"], chosen["inner_lr"])
            seen.append(float(oracle.outcome.loss.mean()))
            w = w - factor * chosen["outer_lr_w"] * gradient.w
            phi = phi - factor * chosen["outer_lr_phi"] * gradient.phi
        return seen

    descending = losses(1.0)
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(descending))
    assert descending[-1] < 0.9 * descending[0]
    growing = losses(10.0)
    assert not growing[-1] < growing[0]


def test_smoothness_is_that_of_the_hessian_of_L_meta_by_autograd(advice):
    """The witness: N steps on the tasks' own matrices, differentiated twice by torch."""
    setup, batch = problem(settings())
    n_w = setup.w.numel()
    for probe in advice["geometries"]["convex"]["probes"]:

        def L_meta(z, N=probe["inner_steps"]):
            total = 0.0
            for task in range(batch.tasks):
                parts = [
                    getattr(batch, name)[task].double() for name in ("support_x", "support_y", "query_x", "query_y")
                ]
                x, y, query_x, query_y = parts
                a, b = x[:, -n_w:], x[:, :-n_w]
                w, phi = z[:n_w], z[n_w:]
                for _ in range(N):
                    residual = b @ phi + a @ w - y.flatten()
                    w = w - 2 / len(x) * a.T @ residual
                residual = query_x[:, :-n_w] @ phi + query_x[:, -n_w:] @ w - query_y.flatten()
                total = total + residual.square().mean() / batch.tasks
            return total

        z = torch.cat([setup.w, setup.phi])
        assert float(L_meta(z)) == pytest.approx(probe["loss"], rel=1e-9)
        H = torch.autograd.functional.hessian(L_meta, z)
        for part, key in ((slice(0, n_w), "smoothness_w"), (slice(n_w, None), "smoothness_phi")):
            assert probe[key] == pytest.approx(float(torch.linalg.matrix_norm(H[part, part], 2)), rel=1e-4)


def test_the_chosen_N_has_the_least_seconds_by_its_own_row(advice):
    for found in advice["geometries"].values():
        rows = found["probes"]
        assert [row["inner_steps"] for row in rows] == list(STEPS)
        by_hand = [4 * row["loss"] * max(row["smoothness_w"], row["smoothness_phi"]) * row["seconds"] for row in rows]
        assert rows[by_hand.index(min(by_hand))]["inner_steps"] == found["measured"]["inner_steps"]


def test_curvature_is_followed_along_the_inner_loop():
    """On a quadratic it is L everywhere, and a contracting step is found from it."""
    setup, batch = problem(settings(L=4.0, mu=1.0))
    oracle = setup.evaluator.oracle(setup.w, setup.phi, batch)
    assert curvature_along(oracle, 3, 0.1) == pytest.approx([4.0] * 4, rel=1e-6)
    assert contracting(oracle, 3) == pytest.approx((0.25, 4.0), rel=1e-6)


def test_a_loop_that_overshoots_is_told_and_one_that_does_not_is_not(capsys):
    given = ["theory", "--advise", "--benchmark", "quadratic", "--meta-batch", "1"]
    given += ["--set", "benchmark_options={mu: 0.5, L: 1.0, dim_w: 3, dim_phi: 2}"]
    assert main([*given, "--inner-lr", "2.5"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "overshoots: αL reaches 2.5" in said
    assert "N =" in said
    assert main([*given, "--inner-lr", "0.5", "--json"]) == 0
    captured = capsys.readouterr()
    assert "overshoots" not in captured.err.split("nonconvex")[0]
    document = json.loads(captured.out)["advice"]
    assert document["geometry"] in document["geometries"]
    assert all(math.isfinite(row["seconds"]) for row in document["geometries"]["convex"]["probes"])
