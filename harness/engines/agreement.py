"""Before the first iteration: every route must compute what the module's own forward computes, in float64."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from harness.engines.comparison import cut_error, engine_error, oracle_error, passing_together
from harness.engines.engine import Engine, Problem
from harness.engines.native import Native, vmap_pays
from harness.errors import InputError, NotSupported
from harness.measure.memory import first_sentence, is_out_of_memory, return_freed_memory
from harness.problem.behaviour import check_behaviour
from harness.problem.losses import Loss
from harness.problem.objective import check_loss
from harness.problem.own_forward import OwnForward, own_forward
from harness.problem.partition import Network
from harness.problem.tasks import TaskBatch

log = logging.getLogger("harness")

#: largest relative error in float64, and where a model takes nothing but float32
TOLERANCE, COARSE = 1e-9, 1e-3


@dataclass(frozen=True)
class Seen:
    """Of a model that was examined: how its network is cut, whether all examples may pass its body at once, and why its
    layers are not written out, if they are not.
    """

    cut: str
    together: int
    distrust: str
    strategy: str
    error: float | None

    def route(self, problem: Problem, engine: type[Engine]) -> Route:
        """That of ``problem``, whose model, partition and engine are those of the one that was examined."""
        network = problem.network.cut_by(self.cut, self.together)
        problem = dataclasses.replace(problem, network=network, distrust=self.distrust)
        return Route(problem, engine(problem, self.strategy), Native(problem, "recursion"), self.error)


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
        network = self.problem.network
        return Seen(network.cut, network.together, self.problem.distrust, self.engine.strategy, self.error)

    @property
    def words(self) -> dict[str, Any]:
        """What the summary says about it."""
        stack = self.evaluator.stack
        tail = "autograd" if stack is None else "written out"
        return {
            "layers": tail if stack is None or stack.body else "adapted ones written out",
            "why": self.evaluator.why or None,
            "shared_body": self.problem.network.body is not None,
            "relative_error": self.error,
        }


def examined(
    problem: Problem,
    engine: type[Engine],
    strategy: str,
    batch: TaskBatch,
    outputs: int,
    second_order: bool,
    name: str,
    tasks: int = 1,
) -> Route:
    """The model called ``name``, checked before anything is trained: its behaviour, then every route's agreement.

    On the first tasks of ``batch``, in its type and in float64 (float32 where the model takes nothing else).
    ``second_order``: Hessians will be needed. ``tasks``: of a meta-batch, which "auto" goes by.
    Raises :class:`InputError`, one line, for what cannot be trained.
    """
    module, dtype = problem.network.module, problem.network.initial()[0].dtype
    network, distrust, error = problem.network, "", None
    try:
        with _blamed(name, batch):
            predictions = [check_behaviour(module, x, outputs) for x in (batch.support_x[0], batch.query_x[0])]
        if Native(problem).stack is None and strategy != "vmapped" and not vmap_pays(problem, tasks):
            batch = batch.chunk(0, 1)  # autograd, a task at a time, has no way in which tasks could meet
        for prediction, target in zip(predictions, (batch.support_y[0], batch.query_y[0]), strict=True):
            check_loss(Loss.of(problem.inner.loss), prediction, target, second_order)
        with _blamed(name, batch):
            try:
                with in_float64(module, dtype):
                    found = agreed(problem, engine, strategy, batch.double(), second_order, tasks)
            except (RuntimeError, TypeError) as only_float32:
                if is_out_of_memory(only_float32) or dtype == torch.float64:
                    raise
                found = agreed(problem, engine, strategy, batch, second_order, tasks)
        network, distrust, error, strategy = found
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


def agreed(
    problem: Problem, engine: type[Engine], strategy: str, batch: TaskBatch, second_order: bool, tasks: int = 1
) -> tuple[Network, str, float, str]:
    """The fastest route on which the oracles and ``engine`` agree with the module's own forward on ``batch``: the cut
    of the network, why its layers are not to be written out (empty where they may be), the largest error, and the
    strategy, which is "auto" where nothing but the layers decides it.

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
            whole = evaluator.stack is not None and evaluator.stack.body is not None
            try:
                error = oracle_error(evaluator, own, batch)
                if not whole:  # what is written out does not use the module
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
                tried = dataclasses.replace(tried, network=passing_together(tried, at, own, batch, tolerance))
                return tried.network, distrust, error, _strategy(engine, tried, strategy, own, batch, tolerance, tasks)
            if not written_out:
                break
            distrust = f"written out, the layers give another result than the model's own forward ({why})"
    raise InputError(
        f"as a function of its parameters it gives another result than when it is called ({why}); "
        f"allowed: models that use every parameter by its own name, not a copy kept by a hook, list or closure"
    )


def _strategy(
    engine: type[Engine], problem: Problem, strategy: str, own: OwnForward, batch: TaskBatch, limit: float, tasks: int
) -> str:
    """``strategy``; for "auto" that of all tasks at once, where it is known to be faster and was seen to be right."""
    if strategy != "auto" or not issubclass(engine, Native) or Native(problem).stack is not None:
        return strategy
    if not vmap_pays(problem, tasks):
        return strategy
    made = engine(problem, "vmapped")
    try:
        error = max(engine_error(made, own, batch), oracle_error(made, own, batch))
    except Exception as failure:  # what vmap does not know
        if is_out_of_memory(failure):
            raise
        return strategy
    return "vmapped" if error <= limit else strategy


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


@contextmanager
def in_float64(module: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """The module in float64, and in ``dtype`` again afterwards: from float32 there and back nothing is lost."""
    module.double()
    try:
        yield
    finally:
        module.to(dtype)
