"""Everything of a run that lives on the device: model, partition, engine, checked before a file is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.engines.agreement import Route, Seen, examined
from harness.engines.engine import Engine, Problem, blamed
from harness.engines.native import Native
from harness.errors import InputError
from harness.experiment.key import run_key
from harness.experiment.start import digest, start_of
from harness.measure.precision import check_tf32
from harness.problem.benchmark import SPLITS, Benchmark
from harness.problem.convexity import not_convex
from harness.problem.meta_loss import adapts_plainly, not_the_gradient
from harness.problem.models import build, check_options, give_back, load_factory
from harness.problem.nets import ModelFactory
from harness.problem.objective import loaded
from harness.problem.oracle import Inner, Oracle
from harness.problem.partition import Network, partitioned
from harness.problem.tasks import TaskBatch, draw
from harness.settings.config import RunConfig
from harness.settings.resolve import Resolved
from harness.strangers.values import blame, origin

#: models, and rules that Definition 1 is measured by, are held to their witnesses on so many of the first tasks
CHECKED_TASKS = 2
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Setup:
    """A run that is ready to start. ``config`` is complete; ``w`` and ``phi`` are initialised, flat."""

    config: RunConfig
    route: Route
    w: Tensor
    phi: Tensor
    device: torch.device
    #: the key of this run, or of one that differs in its number of meta-iterations
    key_after: Callable[[int], str]
    #: see :func:`harness.experiment.start.start_of`
    start: dict[str, Any]
    #: what will not be known of this run, and why: ``definition_1`` where it was asked for; whether others see the
    #: same tasks, ``task_stream``; whether the inner loop is convex, ``convexity``
    unknown: dict[str, str]

    @property
    def problem(self) -> Problem:
        """What defines the meta-gradient except parameters and tasks."""
        return self.route.problem

    @property
    def engine(self) -> Engine:
        """What trains."""
        return self.route.engine

    @property
    def evaluator(self) -> Native:
        """What evaluates held-out tasks."""
        return self.route.evaluator


def complete(resolved: Resolved) -> tuple[Resolved, ModelFactory]:
    """``resolved`` with the device, all options of the model and the loss itself, and what builds that model.

    With them the key of a run given by names alone is known before anything is built.
    """
    origins, config = resolved.origins, resolved.config
    model = config.model or resolved.benchmark.model
    with blame("device", origins):
        device = pick_device(config.device)
    check_tf32(config.tf32, device, origin("tf32", origins))
    with blame("model", origins):
        factory = resolved.factory or load_factory(model)
    options = config.model_options
    if resolved.factory is None:
        with blame("model_options", origins):
            options = check_options(model, options)
    with blame("loss_options" if config.loss_options else "loss", origins):
        loss = loaded(resolved.loss)
    config = config.model_copy(update={"device": str(device), "model_options": _plain(options)})
    return dataclasses.replace(resolved, config=config, loss=loss), factory


def set_up(resolved: Resolved) -> Setup:
    """Build model, partition and engine on the device; raises :class:`InputError` for what does not fit."""
    resolved, factory = complete(resolved)
    benchmark, config = resolved.benchmark, resolved.config
    device, dtype = torch.device(config.device), DTYPES[config.dtype]
    shapes = (config, config.held_out, config.held_out)
    first_tasks = [draw(benchmark, *which, 0, 1, device, dtype) for which in zip(shapes, SPLITS, strict=True)]
    batch = draw(benchmark, config, "train", 0, min(CHECKED_TASKS, config.meta_batch), device, dtype)
    with blame("benchmark", resolved.origins):
        other_tasks = _stream(benchmark, config, batch)
    route = assemble(resolved, factory, batch.groups[0])
    try:
        return _set_up(resolved, factory, route, first_tasks, other_tasks)
    except BaseException:
        give_back(route.problem.network.module)
        raise


def _set_up(
    resolved: Resolved, factory: ModelFactory, route: Route, first_tasks: list[TaskBatch], other_tasks: str | None
) -> Setup:
    benchmark, config, network = resolved.benchmark, resolved.config, route.problem.network
    w, phi = network.initial()
    start = start_of(network, w, phi, first_tasks, resolved.loss)
    fingerprint = digest(start) if resolved.objects else ""

    def key_after(iterations: int) -> str:
        asked = dataclasses.replace(resolved, config=config.model_copy(update={"iterations": iterations}))
        return run_key(asked, factory, fingerprint)

    own_loop = config.stationarity_every and not adapts_plainly(resolved.algorithm)
    why = _not_the_gradient(config, route.evaluator, benchmark, w, phi) if own_loop else None
    convexity = ""
    if config.geometry == "convex" and network.n_w:
        x, generator = first_tasks[0].support_x[0], torch.Generator().manual_seed(0)
        convexity = not_convex(resolved.loss, network, w, phi, x, generator)
    found = {"definition_1": why, "task_stream": other_tasks, "convexity": convexity}
    unknown = {name: reason for name, reason in found.items() if reason}
    return Setup(config, route, w, phi, w.device, key_after, start, unknown)


def assemble(resolved: Resolved, factory: ModelFactory, batch: TaskBatch, seen: Seen | None = None) -> Route:
    """The model that ``resolved`` asks for, cut in w and phi, and its engine, held to its own forward on ``batch``.

    ``resolved`` is complete. ``seen``: what came out when such a model was examined, so that this one need not be.
    Raises :class:`InputError`.
    """
    config, benchmark, algorithm = resolved.config, resolved.benchmark, resolved.algorithm
    device, dtype = torch.device(config.device), DTYPES[config.dtype]
    with blame("model", resolved.origins):
        shape, outputs = benchmark.input_shape, benchmark.outputs(config.ways)
        model = factory, shape, outputs, config.model_options
        module = build(*model, seed=config.seed, device=device, dtype=dtype, mode=config.model_mode)
    try:
        inner = Inner(resolved.loss, config.inner_steps, config.inner_lr, algorithm.l2, config.norm_statistics)
        with blame("adapt", resolved.origins), blamed(algorithm):
            network = partitioned(algorithm, module, config.adapt or "all", inner)  # resolve() has filled it
        problem = Problem(algorithm, network, inner)
        if seen is None:
            second_order = algorithm.derivative != "first_order" or bool(config.stationarity_every)
            name = config.model or benchmark.model
            with blame("model", resolved.origins):
                asked = resolved.engine, config.strategy, batch, outputs, second_order, name, config.meta_batch
                route = examined(problem, *asked)
        else:
            route = seen.route(problem, resolved.engine)
        _check_joint(resolved, route.problem.network)
        _check_steps(resolved, problem)
    except BaseException:
        give_back(module)
        raise
    return route


def _check_joint(resolved: Resolved, network: Network) -> None:
    """Raise :class:`InputError` where statistics are to be joint and ``network`` has no body to join them in."""
    config = resolved.config
    if config.norm_statistics == "joint" and network.body is None:
        where = origin("norm_statistics", resolved.origins)
        raise InputError(
            f"{where}: joint statistics need a shared body that encodes support and query together, and "
            f"{config.algo} with adapt {config.adapt!r} adapts from the first layer on; allowed: separate"
        )


def _check_steps(resolved: Resolved, problem: Problem) -> None:
    """Raise :class:`InputError` where held-out tasks have another N than an algorithm has parameters of its own for."""
    config, slots = resolved.config, problem.network.w_slots
    steps = config.held_out.inner_steps
    if steps == config.inner_steps:
        return
    with blamed(problem.algorithm):
        both = problem.inner, dataclasses.replace(problem.inner, inner_steps=steps)
        own = [problem.algorithm.parameters(slots, inner) for inner in both]
    if len({tuple((name, part.shape) for name, part in sorted(each.items())) for each in own}) > 1:
        where = origin("eval_inner_steps", resolved.origins)
        raise InputError(f"{where}: {steps}, where {config.algo} has parameters for each step; allowed: unset")


def pick_device(name: str) -> torch.device:
    """The device called ``name``, ``auto`` taking CUDA where there is one; raises :class:`InputError`."""
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda", torch.cuda.current_device()) if available else torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind == "cuda":
        if not number and available:
            return torch.device("cuda", torch.cuda.current_device())
        if not number or int(number) >= available:  # before torch sees it, which knows no number above 127
            choices = ", ".join(["auto", "cpu", *(f"cuda:{index}" for index in range(available))])
            raise InputError(f"device {name!r} is not there; allowed: {choices}")
    return torch.device(name)


def _stream(benchmark: Benchmark, config: RunConfig, together: TaskBatch) -> str | None:
    """Why tasks are not the same for everybody, where one is another when it is drawn alone; None where all are well.

    Raises :class:`InputError` where the same call gives other tasks each time.
    """
    tasks, device = together.tasks, together.groups[0].support_x.device
    again = draw(benchmark, config, "train", 0, tasks, device, DTYPES[config.dtype])
    if not again.same(together):
        raise InputError(
            f"benchmark {benchmark.name!r}: the first tasks of 'train' are others each time they are drawn; "
            f"allowed: a stream that is a function of seed, split and task"
        )
    alone = draw(benchmark, config, "train", tasks - 1, 1, device, DTYPES[config.dtype])
    if alone.same(together.chunk(tasks - 1, tasks)):
        return None
    return (
        f"task {tasks - 1} of {benchmark.name!r} is another one when it is drawn alone: "
        f"which tasks are seen depends on --meta-batch and --task-chunk"
    )


def _not_the_gradient(config: RunConfig, evaluator: Native, benchmark: Benchmark, w: Tensor, phi: Tensor) -> str | None:
    """See :func:`not_the_gradient`; on a few tasks, in float64, where differences mean something."""
    algorithm, tasks = evaluator.problem.algorithm, min(CHECKED_TASKS, config.meta_batch)
    batch = draw(benchmark, config, "train", 0, tasks, w.device, torch.float64).groups[0]

    def oracle_at(w: Tensor, phi: Tensor) -> Oracle:
        return evaluator.oracle(w, phi, batch)

    with blamed(algorithm):
        return not_the_gradient(algorithm, oracle_at, w.double(), phi.double(), config.inner_steps, config.inner_lr)


def _plain(options: dict[str, object]) -> dict[str, object]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
