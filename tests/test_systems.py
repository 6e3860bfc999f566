"""The other systems that the paper names: counted by formula, and what their rules compute, by other means."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
import torch
from fabricated import write_run
from torch import nn

import harness
from algorithms.mamlpp import MAMLpp
from algorithms.protonet import ProtoNet
from algorithms.r2d2 import R2D2
from algorithms.svm import svm
from harness import RunConfig
from harness.engines.engine import Problem
from harness.engines.native import Native
from harness.errors import InputError, NotSupported
from harness.problem.algorithm import Algorithm, ClosedForm, Geometry
from harness.problem.meta_loss import disagreement
from harness.problem.models import build
from harness.problem.nets import cnn, mlp
from harness.problem.oracle import Counts, Inner
from harness.problem.partition import partitioned
from harness.problem.tasks import TaskBatch
from harness.report.findings.comparison import compare_runs
from harness.report.reading.runs import read_runs
from harness.report.tables.build import tables_of
from harness.settings.registry import algorithms

CPU = torch.device("cpu")


def images(tasks=2, ways=3, shots=2, queries=2, seed=0, shape=(1, 16, 16)) -> TaskBatch:
    generator = torch.Generator().manual_seed(seed)

    def draw(each):
        x = torch.randn(tasks, ways * each, *shape, generator=generator, dtype=torch.float64)
        return x, torch.arange(ways).repeat_interleave(each).expand(tasks, -1)

    return TaskBatch(*draw(shots), *draw(queries))


def engine(algorithm: Algorithm, steps=2, module=None, strategy="auto", adapt=None, inner_lr=0.1, loss="cross_entropy"):
    module = module or build(cnn, (1, 16, 16), 3, {"filters": 2}, seed=0, device=CPU, dtype=torch.float64)
    inner = Inner(loss, steps, inner_lr, algorithm.l2)
    network = partitioned(algorithm, module, adapt or algorithm.geometries[algorithm.geometry].adapt, inner)
    return Native(Problem(algorithm, network, inner), strategy)


def made(name: str, **options) -> Algorithm:
    name, _, geometry = name.partition(":")
    rule = algorithms().get(name)
    return rule(geometry or next(iter(rule.geometries)), rule.Options(**options))


def gradient_of(native: Native, batch: TaskBatch, counts=None):
    return native.meta_gradient(*native.problem.network.initial(), batch, counts)


# --- Counts (docs/counts.md) ----------------------------------------------------------------------------------------

N = 3
#: of one task: inner gradients, gradients of L_D, Hessian-vector products, solves, pseudo-gradients
FORMULAS = {
    "boil": (N, 1, N, 0, 0),
    "metasgd": (N, 1, N, 0, 0),
    "mamlpp": (N, 1, N, 0, 0),
    "reptile": (N, 0, 0, 0, 1),
    "minibatch_prox": (N, 0, 0, 0, 1),
    "imaml": (N + 1, 1, 1 + 4, 0, 0),
    "protonet": (0, 1, 0, 1, 0),
    "r2d2": (0, 1, 0, 1, 0),
    "metaoptnet:svm": (0, 1, 0, 1, 0),
    "metaoptnet:ridge": (0, 1, 0, 1, 0),
}
OPTIONS = {
    "imaml": {"strength": 50.0, "tolerance": 0.0, "cg_steps": 4, "cg_tolerance": 0.0},  # no negative curvature
    "minibatch_prox": {"tolerance": 0.0},
}


@pytest.mark.parametrize("strategy", ["auto", "unrolled"])
@pytest.mark.parametrize("name", FORMULAS)
def test_counts_are_those_of_the_formulas(name, strategy):
    native = engine(made(name, **OPTIONS.get(name, {})), N, strategy=strategy)
    counts, network, batch = Counts(), native.problem.network, images()
    gradient_of(native, batch, counts)
    inner, outer, products, solves, ways = (batch.tasks * number for number in FORMULAS[name])
    n_w, n_phi, shared = network.n_w, network.n_phi, network.n_phi - network.n_own
    mixed = products if shared else 0
    assert counts.as_dict() == {
        "gradient_entries": inner * n_w + outer * (n_w + n_phi),
        "second_order_entries": products * n_w**2 + mixed * n_w * shared,
        "hessian_vector_products": products,
        "mixed_products": mixed,
        "query_gradients": outer,
        "solves": solves,
        "pseudo_gradients": ways,
    }


def test_mamlpp_asks_for_l_d_at_every_step_and_for_no_second_order_terms_while_its_schedule_says_so():
    native, counts, batch = engine(made("mamlpp"), N), Counts(), images()
    with native.problem.algorithm.training(0):
        gradient_of(native, batch, counts)
    assert (counts.query_gradients, counts.hessian_vector_products) == (batch.tasks * N, 0)


def test_counts_do_not_depend_on_how_many_tasks_are_evaluated_together():
    """Where a task's inner loop ends is its own affair."""
    native, batch = engine(made("imaml", strength=1.0, tolerance=0.05), 60, smooth()), vectors(tasks=4)
    together, apart = Counts(), Counts()
    whole, _ = gradient_of(native, batch, together)
    parts = [gradient_of(native, batch.chunk(task, task + 1), apart)[0] for task in range(4)]
    assert together == apart
    assert together.gradient_entries < 4 * 61 * native.problem.network.n_w
    assert torch.allclose(whole.w, torch.stack([part.w for part in parts]).mean(0), rtol=1e-9, atol=1e-12)


# --- Reports --------------------------------------------------------------------------------------------------------


def test_a_report_has_every_count_and_says_whose_l_meta_is_another(tmp_path):
    for algo, counted in (("maml", {}), ("r2d2", {"solves": 1, "query_gradients": 1})):
        file = write_run(tmp_path, algo=algo, geometry="nonconvex") / "summary.json"
        summary = json.loads(file.read_text())
        summary["counts_per_task"] |= counted
        if algo == "maml":  # of a version that did not count them
            del summary["counts_per_task"]["solves"]
        file.write_text(json.dumps({**summary, "plain_inner_loop": algo == "maml"}))
    runs, _ = read_runs([tmp_path])
    comparison = compare_runs(runs)
    table = next(each for each in tables_of(comparison) if each.name == "work")
    rows = {row["group"]: row for row in (dict(zip(table.columns, row, strict=True)) for row in table.rows)}
    maml, r2d2 = rows["MAML (N = 5)"], rows["R2D2 (N = 5)"]
    assert (r2d2["solves"], r2d2["query gradients"], r2d2["L_meta is"]) == (1, 1, "of an inner problem of its own")
    assert (maml["solves"], maml["L_meta is"]) == (None, "L_D(w_N)")
    assert maml["gradient entries"] == 600
    assert [line for line in comparison.warnings if "L_meta is another function" in line and "R2D2" in line]


# --- What the rules compute -----------------------------------------------------------------------------------------


def smooth(seed=0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()


def vectors(tasks=2, seed=1) -> TaskBatch:
    return images(tasks, shape=(3,), seed=seed)


def off(native: Native, batch: TaskBatch) -> float:
    problem, inner = native.problem, native.problem.inner
    found, _ = gradient_of(native, batch)
    return disagreement(
        problem.algorithm,
        lambda w, phi: native.oracle(w, phi, batch),
        *problem.network.initial(),
        inner.inner_steps,
        inner.inner_lr,
        found,
    )


@pytest.mark.parametrize("adapt", ["all", "last:1"])
def test_imaml_is_the_gradient_of_l_meta_in_the_limit_of_its_tolerances(adapt):
    exactly = made("imaml", strength=1.0, tolerance=1e-13, cg_steps=60, cg_tolerance=1e-13)
    assert off(engine(exactly, 4000, smooth(), adapt=adapt, inner_lr=0.3), vectors()) < 1e-6
    roughly = made("imaml", strength=1.0, tolerance=1e-2, cg_steps=60, cg_tolerance=1e-2)
    assert 1e-6 < off(engine(roughly, 4000, smooth(), adapt=adapt, inner_lr=0.3), vectors()) < 0.1


@pytest.mark.parametrize("name", ["imaml", "minibatch_prox"])
def test_proximal_problems_have_a_closed_form_on_quadratics(name):
    """Squared loss of a linear layer: grad L_S = A w - b, so (A + lambda I) w* = b + lambda w_0."""
    strength, generator = 0.7, torch.Generator().manual_seed(0)
    x, query = torch.randn(2, 2, 6, 4, dtype=torch.float64, generator=generator)
    y, query_y = torch.randn(2, 2, 6, 1, dtype=torch.float64, generator=generator)
    options = {"cg_steps": 50, "cg_tolerance": 1e-14} if name == "imaml" else {}
    algorithm = made(name, strength=strength, tolerance=1e-14, **options)
    native = engine(algorithm, 3000, nn.Linear(4, 1, bias=False).double(), loss="mse", inner_lr=0.1)
    batch = TaskBatch(x, y, query, query_y)
    found, _ = gradient_of(native, batch)
    w_0, expected = native.problem.network.initial()[0], []
    for x, y, query, query_y in zip(*vars(batch).values(), strict=True):
        proximal = x.T @ x / 3 + strength * torch.eye(4, dtype=x.dtype)
        w = torch.linalg.solve(proximal, (x.T @ y)[:, 0] / 3 + strength * w_0)
        v = query.T @ (query @ w - query_y[:, 0]) / 3
        expected.append(strength * (torch.linalg.solve(proximal, v) if name == "imaml" else w_0 - w))
    assert torch.allclose(found.w, torch.stack(expected).mean(0), rtol=1e-9)


def test_minibatch_prox_is_the_gradient_of_the_proximal_minimum():
    """min over w of L_S(w) + (lambda/2) |w - w_0|^2, by central differences in w_0."""
    strength = 2.0
    algorithm = made("minibatch_prox", strength=strength, tolerance=1e-13)
    native, batch = engine(algorithm, 4000, smooth(), inner_lr=0.2), vectors(1)
    w, phi = native.problem.network.initial()
    swapped = TaskBatch(batch.support_x, batch.support_y, batch.support_x, batch.support_y)

    def minimum(at):
        oracle = native.oracle(at, phi, swapped)
        found = algorithm.adapt(oracle, 4000, 0.2)
        return float(oracle.evaluate(found).loss) + strength / 2 * float((found - at).square().sum())

    gradient, _ = gradient_of(native, batch)
    direction = torch.randn(len(w), dtype=w.dtype, generator=torch.Generator().manual_seed(0))
    slope = (minimum(w + 1e-5 * direction) - minimum(w - 1e-5 * direction)) / 2e-5
    assert float(gradient.w @ direction) == pytest.approx(slope, rel=1e-6)


def test_reptile_of_one_task_is_the_serial_algorithm_and_of_several_their_mean():
    native, batch, N, alpha = engine(made("reptile"), 3, smooth()), vectors(3), 3, 0.1
    found, outcome = gradient_of(native, batch)
    module, ways = native.problem.network.module, []
    for x, y in zip(batch.support_x, batch.support_y, strict=True):
        parameters = {name: value.detach().requires_grad_() for name, value in module.named_parameters()}
        w = dict(parameters)
        for _ in range(N):
            loss = nn.functional.cross_entropy(torch.func.functional_call(module, w, (x,)), y)
            gradients = torch.autograd.grad(loss, list(w.values()))
            w = {
                name: (value - alpha * g).detach().requires_grad_()
                for (name, value), g in zip(w.items(), gradients, strict=True)
            }
        ways.append(torch.cat([(parameters[name] - w[name]).detach().flatten() for name in w]))
    assert torch.allclose(found.w, torch.stack(ways).mean(0), rtol=1e-10)
    alone, _ = gradient_of(native, batch.chunk(0, 1))
    assert torch.allclose(alone.w, ways[0], rtol=1e-10)
    assert outcome.loss.isfinite().all()


@pytest.mark.parametrize("done", [0, 30, 99, 100])
def test_mamlpp_follows_the_weighted_sum_of_losses_at_its_steps(done):
    """By central differences of sum c_m L_D(w_m) in (w, phi), alpha in it, c of the schedule."""
    algorithm, steps = MAMLpp("nonconvex", MAMLpp.Options(first_order=0, multi_step=100)), 3
    native, batch = engine(algorithm, steps, smooth(), inner_lr=0.3), vectors()
    w, phi = native.problem.network.initial()
    early = max(0.0, 1 - done / 100) / steps
    weights = [early] * (steps - 1) + [1 - early * (steps - 1)]

    def meta_loss(w, phi):
        oracle, total = native.oracle(w, phi, batch), 0.0
        at = oracle.initial()
        for alpha, weight in zip(algorithm.rates(oracle, steps), weights, strict=True):
            at = at - alpha * oracle.inner_gradient(at)
            total += weight * float(oracle.evaluate(at).loss.mean())
        return total

    with algorithm.training(done):
        gradient, _ = gradient_of(native, batch)
    assert algorithm.iteration is None
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        by_w, by_phi = (torch.randn(len(part), dtype=part.dtype, generator=generator) for part in (w, phi))
        h = 1e-5
        slope = (meta_loss(w + h * by_w, phi + h * by_phi) - meta_loss(w - h * by_w, phi - h * by_phi)) / (2 * h)
        assert float(gradient.w @ by_w + gradient.phi @ by_phi) == pytest.approx(slope, rel=1e-6)


def features_of(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return torch.stack([nn.Sequential(*list(module)[:-1])(part) for part in x])


def test_protonet_predicts_by_distances_to_class_means():
    native, batch = engine(ProtoNet("prototypes"), module=smooth()), vectors()
    oracle = native.oracle(*native.problem.network.initial(), batch)
    outcome = oracle.evaluate(native.problem.algorithm.adapt(oracle, 0, 0.1))
    module = native.problem.network.module
    support, query = (features_of(module, x) for x in (batch.support_x, batch.query_x))
    means = torch.stack([support[batch.support_y == k].view(2, -1, 4).mean(1) for k in range(3)], 1)
    logits = -torch.cdist(query, means).square()
    expected = nn.functional.cross_entropy(logits.mT, batch.query_y, reduction="none").mean(1)
    assert torch.allclose(outcome.loss, expected.detach(), rtol=1e-10)


def test_r2d2_is_the_ridge_regression_of_the_normal_equations():
    native, batch = engine(R2D2("ridge", R2D2.Options(strength=0.3, scale=7.0)), module=smooth()), vectors()
    oracle = native.oracle(*native.problem.network.initial(), batch)
    w = native.problem.algorithm.adapt(oracle, 0, 0.1)
    h = features_of(native.problem.network.module, batch.support_x).detach()
    one_hot = nn.functional.one_hot(batch.support_y, 3).double()
    solution = torch.linalg.solve(h.mT @ h + 0.3 * torch.eye(4, dtype=h.dtype), h.mT @ one_hot)
    assert torch.allclose(w[:, :12], 7.0 * solution.mT.flatten(1), rtol=1e-6)  # 0.3 and 7 went through float32
    assert not w[:, 12:].any()


@pytest.mark.parametrize("slack", [0.1, 2.0])
@pytest.mark.parametrize("size", [0.1, 30.0])
def test_the_svm_satisfies_the_conditions_of_its_optimum(slack, size):
    """Karush, Kuhn and Tucker, which suffice, since the problem is convex."""
    generator = torch.Generator().manual_seed(0)
    h = size * torch.randn(3, 12, 5, dtype=torch.float64, generator=generator)
    y = nn.functional.one_hot(torch.arange(4).repeat_interleave(3), 4).double().expand(3, -1, -1)
    a = svm(h, y, slack)
    room = slack * y - a
    assert float(room.min()) >= 0
    assert float(a.sum(2).abs().max()) < 1e-12
    slope = y - (h @ h.mT + torch.eye(12, dtype=h.dtype)) @ a
    free = room > 1e-4 * slack
    shift = torch.where(free, slope, torch.nan).nanmean(2, keepdim=True)
    multipliers = slope - shift  # of a <= C Y: none negative, and none where there is room
    assert float(multipliers.min()) > -1e-5
    assert float((multipliers * room).abs().max()) < 1e-5


def test_the_svm_of_a_task_does_not_depend_on_the_others():
    h = torch.randn(3, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [0.01, 1.0, 50.0], dtype=torch.float64
    ).view(3, 1, 1)
    y = nn.functional.one_hot(torch.arange(3).repeat(2), 3).double().expand(3, -1, -1)
    apart = torch.cat([svm(h[[task]], y[[task]], 0.1) for task in range(3)])
    assert torch.allclose(svm(h, y, 0.1), apart, rtol=1e-9, atol=1e-13)


class StepByStep(ClosedForm):
    """The softmax classifier after some steps from w_0, by an inner solver that is not gradient descent."""

    name = "step_by_step"
    geometries = {"convex": Geometry("last:1", "the classifier, by steps of another solver")}
    solver = ""

    def head(self, features, targets, w, **own):
        x = nn.functional.pad(features, (0, 1), value=1.0)
        out = targets.shape[-1]
        at = torch.cat([w[:, :-out].unflatten(1, (out, -1)), w[:, -out:, None]], 2)  # [B, out, d + 1]
        order = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(3))
        first, second = torch.zeros_like(at), torch.zeros_like(at)
        for step in range(1, 4):
            rows = order[2 * step - 2 : 2 * step] if self.solver == "minibatches" else order
            h, y = x[:, rows], targets[:, rows]
            p = (h @ at.mT).softmax(-1)
            g = (p - y).mT @ h / len(rows)
            if self.solver == "adam":
                first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g.square()
                g = first / (1 - 0.9**step) / (second / (1 - 0.999**step) + 1e-12).sqrt()
            elif self.solver == "newton":  # of the loss with (1/2)|at|^2, whose Hessian is no smaller than I
                curvature = torch.diag_embed(p) - p[..., None] * p[..., None, :]
                hessian = torch.einsum("bnkl,bni,bnj->bkilj", curvature, h, h) / len(rows)
                size = at[0].numel()
                hessian = hessian.reshape(-1, size, size) + torch.eye(size).to(h)
                g = 2 * torch.linalg.solve(hessian, (g + at).flatten(1)).view_as(at)
            at = at - 0.5 * g
        return torch.cat([at[..., :-1].flatten(1), at[..., -1]], 1)


@pytest.mark.parametrize("solver", ["minibatches", "adam", "newton"])
def test_an_inner_solver_of_ones_own_goes_through_the_oracles_door_and_is_differentiated(solver):
    """SGD on minibatches of the support in a seeded order, Adam, Newton: exact, by central differences."""
    algorithm = StepByStep("convex")
    algorithm.solver = solver
    native, counts = engine(algorithm, module=smooth()), Counts()
    gradient_of(native, vectors(), counts)
    assert (counts.solves, counts.query_gradients, counts.hessian_vector_products) == (2, 2, 0)
    assert off(native, vectors()) < 1e-6


# --- Own parameters, and heads that are not there -------------------------------------------------------------------

SMALL = {"benchmark": "sinusoid", "meta_batch": 2, "eval_tasks": 4, "device": "cpu", "inner_lr": 0.01}


def test_own_parameters_are_trained_saved_resumed_and_measured(tmp_path):
    config = {**SMALL, "algo": "metasgd", "inner_steps": 2, "outer_lr_phi": 0.1, "checkpoint_every": 2}
    whole = harness.run(RunConfig(**config, iterations=4, stationarity_every=4), results=tmp_path / "a")
    state = harness.load_parameters(whole["run_dir"])
    alpha = state["own"]["alpha"]
    assert alpha.shape == (whole["n_w"],) == (whole["n_phi"],)
    assert float(alpha.std()) > 0.01
    assert "alpha" not in state["state_dict"]
    build(mlp, (1,), 1, {}, seed=0, device=CPU, dtype=torch.float32).load_state_dict(state["state_dict"])
    assert '"alpha"' in next((tmp_path / "a").rglob("stationarity.jsonl")).read_text()
    harness.run(RunConfig(**config, iterations=2, stationarity_every=4), results=tmp_path / "b")
    longer = harness.run(RunConfig(**config, iterations=4, stationarity_every=4), results=tmp_path / "b", resume=True)
    assert torch.equal(harness.load_parameters(longer["run_dir"])["phi"], state["phi"])


class Named(MAMLpp):
    name = "named"

    def parameters(self, w, inner):
        return {"0.weight": torch.zeros(1)}


def test_a_parameter_of_the_algorithms_own_has_a_name_of_its_own():
    with pytest.raises(InputError, match=r"'named' has a parameter '0\.weight' of its own, and so has the model"):
        engine(Named("nonconvex"), module=smooth())


class Doubled(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("module", "adapt"),
    [
        (nn.Sequential(nn.Linear(3, 3), nn.Tanh()), "all"),
        (Doubled(nn.Linear(3, 3)), "all"),
        (smooth(), "last:2"),
        (smooth(), "2.weight"),
        (nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3).requires_grad_(True)), "1.bias"),
    ],
)
def test_a_closed_form_is_refused_where_w_is_not_a_linear_layer_with_the_last_word(module, adapt):
    with pytest.raises(NotSupported, match=r"allowed: last:1 of a model that ends in nn\.Linear"):
        gradient_of(engine(R2D2("ridge"), module=module.double(), adapt=adapt), vectors())


def test_classes_are_asked_of_targets_that_are_numbers():
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    x, y = torch.randn(2, 5, 3, dtype=torch.float64), torch.randn(2, 5, 1, dtype=torch.float64)
    batch = TaskBatch(x, y, x, y)
    with pytest.raises(NotSupported, match="'protonet' is made for classes"):
        gradient_of(engine(ProtoNet("prototypes"), module=module, loss="mse"), batch)
    gradient, _ = gradient_of(engine(R2D2("ridge"), module=module, loss="mse"), batch)
    assert bool(gradient.phi.any())


def test_defaults_of_an_algorithm_stand_before_those_of_a_benchmark_and_behind_the_users(tmp_path):
    from harness.settings.resolve import resolve

    own = resolve(RunConfig(algo="reptile", benchmark="glyphs")).config
    assert (own.outer_optimizer, own.outer_lr_w, own.inner_lr) == ("sgd", 0.5, 0.4)
    assert resolve(RunConfig(algo="reptile", outer_lr_w=0.1)).config.outer_lr_w == 0.1


class Mistyped(ProtoNet):
    name, defaults = "mistyped", {"outer_lr": 1.0}


def test_a_default_that_is_no_setting_is_told():
    from harness.errors import HarnessError
    from harness.settings.resolve import resolve

    with pytest.raises(HarnessError, match="algorithm 'mistyped' has a default for 'outer_lr'"):
        resolve(RunConfig(), algorithm=Mistyped)


@pytest.mark.parametrize("file", sorted((Path(__file__).parents[1] / "algorithms").glob("*.py")), ids=lambda f: f.stem)
def test_an_algorithm_is_short_and_never_calls_autograd(file):
    text = file.read_text()
    assert len(text.splitlines()) < 60
    names = {node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)}
    assert not names & {"autograd", "backward", "func", "requires_grad_", "enable_grad", "jacrev", "vjp"}
