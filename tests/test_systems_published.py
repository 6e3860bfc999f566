"""The other systems beside published implementations of them, in float64 where those know it."""

from __future__ import annotations

import pytest
import torch
from test_systems import engine, features_of, gradient_of, made, smooth, vectors
from torch import nn

pytestmark = pytest.mark.peers


def cross_entropy(logits, labels):
    return nn.functional.cross_entropy(logits, labels)


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors])


def test_metasgd_is_learn2learns():
    learn2learn = pytest.importorskip("learn2learn")
    native, batch = engine(made("metasgd"), 3, smooth(), inner_lr=0.2), vectors(3)
    found, outcome = gradient_of(native, batch)
    learner = learn2learn.algorithms.MetaSGD(smooth(), lr=float(torch.tensor(0.2)))  # as alpha begins, in float32
    losses = []
    for x, y, query, query_y in zip(*vars(batch).values(), strict=True):
        clone = learner.clone()
        for _ in range(3):
            clone.adapt(cross_entropy(clone(x), y))
        losses.append(cross_entropy(clone(query), query_y))
    torch.stack(losses).mean().backward()
    assert torch.allclose(outcome.loss, torch.stack(losses).detach(), rtol=1e-10)
    assert torch.allclose(found.w, flat(part.grad for part in learner.module.parameters()), rtol=1e-9, atol=1e-13)
    assert torch.allclose(found.phi, flat(part.grad for part in learner.lrs), rtol=1e-9, atol=1e-13)


def test_mamlpps_learned_step_sizes_are_highers_overrides():
    higher = pytest.importorskip("higher")
    native, batch, module = engine(made("mamlpp"), 3, smooth(), inner_lr=0.2), vectors(2), smooth()
    found, _ = gradient_of(native, batch)
    tensors = list(module.parameters())
    alpha = torch.full((3, len(tensors)), float(torch.tensor(0.2)), dtype=torch.float64, requires_grad=True)
    optimizer, total = torch.optim.SGD([{"params": [part]} for part in tensors], lr=0.2), 0.0
    for x, y, query, query_y in zip(*vars(batch).values(), strict=True):
        with higher.innerloop_ctx(module, optimizer, copy_initial_weights=False) as (model, steps):
            for rates in alpha:
                steps.step(cross_entropy(model(x), y), override={"lr": list(rates)})
            total = total + cross_entropy(model(query), query_y) / batch.tasks
    total.backward()
    assert torch.allclose(found.w, flat(part.grad for part in tensors), rtol=1e-9, atol=1e-13)
    assert torch.allclose(found.phi, alpha.grad.flatten(), rtol=1e-9, atol=1e-13)


def test_imaml_is_torchopts_implicit_gradient():
    torchopt = pytest.importorskip("torchopt")
    strength, module, batch = 1.0, smooth(), vectors(2)
    algorithm = made("imaml", strength=strength, tolerance=1e-13, cg_steps=60, cg_tolerance=1e-13)
    native = engine(algorithm, 4000, module, inner_lr=0.3)
    found, _ = gradient_of(native, batch)
    names = [slot.name for slot in native.problem.network.w_slots]

    def proximal(w, start, x, y):
        loss = cross_entropy(torch.func.functional_call(module, dict(zip(names, w, strict=True)), (x,)), y)
        return loss + strength / 2 * sum((a - b).square().sum() for a, b in zip(w, start, strict=True))

    optimality = torch.func.grad(proximal)

    @torchopt.diff.implicit.custom_root(
        optimality, argnums=1, solve=torchopt.linear_solve.solve_normal_cg(maxiter=200, atol=0.0, rtol=1e-12)
    )
    def solved(w, start, x, y):
        for _ in range(4000):
            w = tuple(part - 0.3 * slope for part, slope in zip(w, optimality(w, start, x, y), strict=True))
        return w

    start = tuple(part.detach().clone().requires_grad_() for part in module.parameters())
    total = 0.0
    for x, y, query, query_y in zip(*vars(batch).values(), strict=True):
        w = solved(tuple(part.detach() for part in start), start, x, y)
        prediction = torch.func.functional_call(module, dict(zip(names, w, strict=True)), (query,))
        total = total + cross_entropy(prediction, query_y) / batch.tasks
    expected = flat(torch.autograd.grad(total, start))
    assert float((found.w - expected).norm() / expected.norm()) < 1e-6


def predictions(native, batch):
    """Of the query sets, ``[B, Q, out]``, by the module itself under the w that was found."""
    network = native.problem.network
    oracle = native.oracle(*network.initial(), batch)
    adapted = native.problem.algorithm.adapt(oracle, 0, 0.1)
    with torch.no_grad():
        return [network.predict(w, w[:0], h) for w, h in zip(adapted, oracle.query, strict=True)]


def test_protonet_is_learn2learns_classifier():
    learn2learn = pytest.importorskip("learn2learn")
    native, batch = engine(made("protonet"), module=smooth()), vectors()
    module = native.problem.network.module
    support, query = (features_of(module, x).detach() for x in (batch.support_x, batch.query_x))
    for task, found in enumerate(predictions(native, batch)):
        theirs = learn2learn.nn.PrototypicalClassifier(support[task], batch.support_y[task])(query[task])
        assert torch.allclose(found.log_softmax(-1), theirs.log_softmax(-1), rtol=1e-9)


def test_metaoptnets_svm_is_learn2learns_classifier():
    """Whose solver is qpth's, in float32; qpth asks for cvxpy and for numpy before 2."""
    pytest.importorskip("qpth.qp", exc_type=ImportError)
    learn2learn = pytest.importorskip("learn2learn")
    native, batch = engine(made("metaoptnet:svm"), module=smooth()), vectors()
    module = native.problem.network.module
    support, query = (features_of(module, x).detach().float() for x in (batch.support_x, batch.query_x))
    for task, found in enumerate(predictions(native, batch)):
        theirs = learn2learn.nn.SVClassifier(support[task], batch.support_y[task], ways=3, max_iters=30)(query[task])
        assert torch.allclose(found.float(), theirs, rtol=1e-3, atol=1e-5)
