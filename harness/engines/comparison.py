"""How far oracles and engines are off from what the module itself says, and whether its examples may pass together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harness.engines.engine import Engine, Problem
from harness.engines.native import Native
from harness.measure.memory import is_out_of_memory
from harness.problem.meta_loss import adapts_plainly
from harness.problem.own_forward import OwnForward
from harness.problem.partition import Network
from harness.problem.tasks import TaskBatch

#: entries of the widest activation of the examples that pass a body by autograd at once
CACHE = 2**20
#: what is smaller is compared as if it were so large: rounding errors of nothing
_SCALE = 1e-6


def cut_error(network: Network, own: OwnForward, batch: TaskBatch) -> float:
    """Error of the predictions of body and tail."""
    w, phi = network.initial()
    errors = []
    with torch.no_grad():
        for task in range(batch.tasks):
            for x, expected in ((batch.support_x[task], own.support), (batch.query_x[task], own.query)):
                h = network.features(phi, x)
                for at, of in zip((w, own.w_1[task]), expected, strict=True):
                    given = h.clone()
                    errors.append(off(network.predict(at, network.tail_phi(phi), h), of[task]))
                    if not torch.equal(h, given):
                        raise ValueError("the adapted part changes the features in place")
    return max(errors)


def oracle_error(native: Native, own: OwnForward, batch: TaskBatch) -> float:
    """Error of everything that an algorithm may ask ``native``'s oracle for."""
    oracle = native.oracle(*native.problem.network.initial(), batch)
    w_0 = oracle.initial()
    before = oracle.evaluate(w_0.detach())
    w_1 = w_0 - own.inner_lr * oracle.inner_gradient(w_0, linearise=True)
    v, g = oracle.outer_gradient(w_1)
    assert oracle.outcome is not None
    pairs = [(w_1, own.w_1), (before.loss, own.losses[0]), (oracle.outcome.loss, own.losses[1])]
    pairs += [(oracle.evaluate(w_1.detach()).loss, own.losses[1])]
    expected = own.first_order
    if own.exact is not None:
        pairs.append((v.mean(0), expected[0]))
        hessian_v, mixed_v = oracle.second_order_products(w_0, v)
        v, g, expected = v - own.inner_lr * hessian_v, g - own.inner_lr * mixed_v, own.exact
    pairs += [(v.mean(0), expected[0]), (oracle.phi_gradient(g), expected[1])]
    return max(off(found, of) for found, of in pairs)


def engine_error(engine: Engine, own: OwnForward, batch: TaskBatch) -> float:
    """Error of the meta-gradient that ``engine`` computes; 0 where nobody knows what the algorithm's would be."""
    algorithm, network = engine.problem.algorithm, engine.problem.network
    expected = own.first_order if algorithm.derivative == "first_order" else own.exact
    if algorithm.derivative is None or expected is None or not adapts_plainly(algorithm):
        return 0.0
    w, phi = network.initial()
    if isinstance(engine, Native):  # whose gradient is the algorithm's rule on its oracle
        oracle = engine.oracle(w, phi, batch)
        gradient = algorithm.meta_gradient(oracle, engine.problem.inner.inner_steps, engine.problem.inner.inner_lr)
        outcome = oracle.outcome
        assert outcome is not None
    else:
        try:
            gradient, outcome = engine.meta_gradient(w, phi, batch)
        finally:
            network.module.zero_grad(set_to_none=True)
    pairs = [(gradient.w, expected[0]), (gradient.phi, expected[1]), (outcome.loss, own.losses[1])]
    return max(off(found, of) for found, of in pairs)


def off(found: Tensor, expected: Tensor) -> float:
    """Relative error; none where the module's own forward has no finite number to compare with."""
    if not bool(expected.isfinite().all()):
        return 0.0
    error = float((found.detach() - expected).norm() / expected.norm().clamp_min(_SCALE))
    return error if error == error else float("inf")


def passing_together(
    problem: Problem, network: Network, own: OwnForward, batch: TaskBatch, tolerance: float
) -> Network:
    """``network``, with examples of several tasks passing its body at once where that was seen to change nothing.

    As many as a processor's cache holds of their widest activation: with more, what is won in calls is lost in memory.
    """
    native = Native(problem, "recursion")
    if network.body is None or (native.stack is not None and native.stack.body is not None):
        return network
    parts = batch.support_x[0], batch.query_x[0]
    entries: list[int] = []
    _, phi = network.initial()
    with torch.no_grad():
        try:
            apart = torch.cat([network.features(phi, x) for x in parts])
            with _outputs_of(network.body, lambda y: entries.append(y.numel())):
                at_once = network.features(phi, torch.cat(parts))
        except Exception as failure:  # a layer that takes one number of examples only
            if is_out_of_memory(failure):
                raise
            return network
    examples = CACHE * len(apart) // max([at_once.numel(), *entries])
    error = off(at_once, apart) if at_once.shape == apart.shape else float("inf")
    if error > tolerance or examples < 2 * max(map(len, parts)):
        return network
    together = network.cut_by(network.cut, together=examples)
    error = oracle_error(Native(dataclasses.replace(problem, network=together), "recursion"), own, batch)
    return together if error <= tolerance else network


@contextmanager
def _outputs_of(module: nn.Module, look: Callable[[Tensor], None]) -> Iterator[None]:
    """Shows ``look`` the output of every layer that is called inside."""

    def seen(layer: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            look(output)

    handles = [layer.register_forward_hook(seen) for layer in module.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
