"""Before the first iteration: every route must compute what the module's own forward computes, in float64."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.engines.engine import Engine, Problem
from harness.engines.native import Native
from harness.errors import InputError, NotSupported
from harness.measure.memory import first_sentence, is_out_of_memory, return_freed_memory
from harness.problem.behaviour import check_behaviour
from harness.problem.losses import Loss
from harness.problem.meta_loss import adapts_plainly
from harness.problem.objective import check_loss
from harness.problem.own_forward import OwnForward, own_forward
from harness.problem.partition import Network
from harness.problem.tasks import TaskBatch

log = logging.getLogger("harness")

#: largest relative error in float64, and where a model takes nothing but float32
TOLERANCE, COARSE = 1e-9, 1e-3
#: what is smaller is compared as if it were so large: rounding errors of nothing
_SCALE = 1e-6


@dataclass(frozen=True)
class Seen:
    """Of a model that was examined: how its network is cut, and why its layers are not written out, if they are not."""

    cut: str
    distrust: str
    error: float | None

    def route(self, problem: Problem, engine: type[Engine], strategy: str) -> Route:
        """That of ``problem``, whose model, partition and engine are those of the one that was examined."""
        network = problem.network.cut_by(self.cut)
        problem = dataclasses.replace(problem, network=network, distrust=self.distrust)
        return Route(problem, engine(problem, strategy), Native(problem, "recursion"), self.error)


@dataclass(frozen=True)
class Route:
    """How the meta-gradients of a model are computed, seen to agree with its own forward."""

    problem: Problem
    engine: Engine
    #: what held-out tasks and Definition 1 are evaluated with, whatever engine trains
    evaluator: Native
    #: the largest relative error that was seen; None where memory was too little to look
    error: float | None

    @property
    def seen(self) -> Seen:
        """What another problem of the same model may take from this one."""
        return Seen(self.problem.network.cut, self.problem.distrust, self.error)

    @property
    def words(self) -> dict[str, Any]:
        """What the summary says about it."""
        by_autograd = self.evaluator.stack is None
        return {
            "layers": "autograd" if by_autograd else "written out",
            "why": self.evaluator.why if by_autograd else None,
            "shared_body": self.problem.network.body is not None,
            "relative_error": self.error,
        }


def examined(
    problem: Problem, engine: type[Engine], strategy: str, batch: TaskBatch, outputs: int, second_order: bool, name: str
) -> Route:
    """The model called ``name``, checked before anything is trained: its behaviour, then every route's agreement.

    On the first tasks of ``batch``, in its type and in float64 (float32 where the model takes nothing else).
    ``second_order``: Hessians will be needed. Raises :class:`InputError`, one line, for what cannot be trained.
    """
    module, dtype = problem.network.module, problem.network.initial()[0].dtype
    if Native(problem).stack is None and strategy != "vmapped":
        batch = batch.chunk(0, 1)  # autograd, a task at a time, has no way in which tasks could meet
    network, distrust, error = problem.network, "", None
    try:
        with _blamed(name, batch):
            predictions = [check_behaviour(module, x, outputs) for x in (batch.support_x[0], batch.query_x[0])]
        for prediction, target in zip(predictions, (batch.support_y[0], batch.query_y[0]), strict=True):
            check_loss(Loss.of(problem.inner.loss), prediction, target, second_order)
        with _blamed(name, batch):
            try:
                with in_float64(module, dtype):
                    network, distrust, error = agreed(problem, engine, strategy, _double(batch), second_order)
            except (RuntimeError, TypeError) as only_float32:
                if is_out_of_memory(only_float32) or dtype == torch.float64:
                    raise
                network, distrust, error = agreed(problem, engine, strategy, batch, second_order)
    except Exception as shortage:
        if not is_out_of_memory(shortage):
            raise
        log.warning("the model was not compared with its own forward: %s", first_sentence(shortage))
    return_freed_memory()  # what is freed here would be used again by the run, and nobody would see it
    problem = dataclasses.replace(problem, network=network, distrust=distrust)
    return Route(problem, engine(problem, strategy), Native(problem, "recursion"), error)


@contextmanager
def _blamed(name: str, batch: TaskBatch) -> Iterator[None]:
    """One line that begins with the model's name for whatever its code raises."""
    try:
        yield
    except NotSupported:
        raise
    except InputError as error:
        raise InputError(f"model {name!r} {error}") from error
    except Exception as error:
        if is_out_of_memory(error):
            raise
        shape, reason = list(batch.support_x.shape[1:]), first_sentence(error)
        raise InputError(f"model {name!r} fails on examples of shape {shape}: {reason}") from error


def _double(batch: TaskBatch) -> TaskBatch:
    parts = (part.double() if part.is_floating_point() else part for part in vars(batch).values())
    return TaskBatch(*parts)


def agreed(
    problem: Problem, engine: type[Engine], strategy: str, batch: TaskBatch, second_order: bool
) -> tuple[Network, str, float]:
    """The fastest route on which the oracles and ``engine`` agree with the module's own forward on ``batch``: the cut
    of the network, why its layers are not to be written out (empty where they may be), and the largest error.

    Every cut in turn, with written-out layers and without; at last none. Losses, predictions,
    and one inner step's gradients of every kind are compared (see :mod:`harness.problem.own_forward`), at separate
    batch statistics, the only ones that a module knows by itself. Raises :class:`InputError` where no route agrees.
    """
    network, inner = problem.network, dataclasses.replace(problem.inner, inner_steps=1, norm_statistics="separate")
    own = own_forward(network, inner, batch, second_order)
    inner = dataclasses.replace(inner, inner_lr=own.inner_lr)
    tolerance = TOLERANCE if own.query[0].dtype == torch.float64 else COARSE
    distrust, why = "", ""
    elsewhere = not issubclass(engine, Native) or strategy == "vmapped"  # not by the oracles that are looked at here
    for at in network.cuts():
        for _ in range(2):  # with layers that are written out, and without
            tried = Problem(problem.algorithm, at, inner, distrust)
            evaluator = Native(tried, "recursion")
            written_out = evaluator.stack is not None
            try:
                error = oracle_error(evaluator, own, batch)
                if not written_out:  # which do not use the module
                    error = max(error, cut_error(at, own, batch))
                if not elsewhere:
                    error = max(error, engine_error(engine(tried, strategy), own, batch))
                why = f"relative error {error:.1g}"
            except NotSupported:
                raise
            except Exception as failure:  # whatever a layer raises that is called in another way than its module does
                if is_out_of_memory(failure):
                    raise
                error, why = float("inf"), first_sentence(failure)
            if error <= tolerance:
                if elsewhere:
                    error = max(error, _by_others(engine, tried, strategy, own, batch, tolerance))
                return at, distrust, error
            if not written_out:
                break
            distrust = f"written out, the layers give another result than the model's own forward ({why})"
    raise InputError(
        f"as a function of its parameters it gives another result than when it is called ({why}); "
        f"allowed: models that use every parameter by its own name, not a copy kept by a hook, list or closure"
    )


def _by_others(
    engine: type[Engine], problem: Problem, strategy: str, own: OwnForward, batch: TaskBatch, tolerance: float
) -> float:
    """The error of what computes by code that is not this project's: a peer, or ``vmap``."""
    made = engine(problem, strategy)
    try:
        error = engine_error(made, own, batch)
        if isinstance(made, Native):
            error = max(error, oracle_error(made, own, batch))
        why = f"relative error {error:.1g}"
    except Exception as failure:
        if isinstance(failure, InputError) or is_out_of_memory(failure):
            raise
        error, why = float("inf"), first_sentence(failure)
    if error > tolerance:
        who, allowed = (
            (f"strategy {strategy!r}", "--strategy auto")
            if isinstance(made, Native)
            else (f"engine {engine.name}", "--engine native")
        )
        raise NotSupported(
            f"{who} does not give the meta-gradient of the model's own forward ({why}); allowed: {allowed}"
        )
    return error


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
                    errors.append(_off(network.predict(at, network.tail_phi(phi), h), of[task]))
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
    return max(_off(found, of) for found, of in pairs)


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
    return max(_off(found, of) for found, of in pairs)


def _off(found: Tensor, expected: Tensor) -> float:
    """Relative error; none where the module's own forward has no finite number to compare with."""
    if not bool(expected.isfinite().all()):
        return 0.0
    error = float((found.detach() - expected).norm() / expected.norm().clamp_min(_SCALE))
    return error if error == error else float("inf")


@contextmanager
def in_float64(module: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """The module in float64, and in ``dtype`` again afterwards: from float32 there and back nothing is lost."""
    module.double()
    try:
        yield
    finally:
        module.to(dtype)
