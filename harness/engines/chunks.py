"""Meta-gradients a few tasks at a time, as many as memory holds: one way for every engine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeVar

import torch

from harness.measure.memory import first_sentence, free_memory, is_out_of_memory
from harness.problem.oracle import MetaGradient, Outcome

if TYPE_CHECKING:
    from torch import Tensor

    from harness.engines.engine import Engine
    from harness.measure.clocks import DeviceClock
    from harness.problem.oracle import Counts
    from harness.problem.tasks import TaskBatch

log = logging.getLogger("harness")
T = TypeVar("T")


class TaskChunks:
    """How many tasks are evaluated at once, in :attr:`size`.

    A number that was asked for stays; ``auto`` begins with ``usual`` (all of ``tasks`` unless given) and halves that
    whenever memory runs out, for good; None takes ``usual`` and lets the error through. What a task gives does not
    depend on the others, so the results are the same to rounding.
    """

    def __init__(self, asked: int | Literal["auto"] | None, tasks: int, usual: int | None = None) -> None:
        self.size = min(asked, tasks) if isinstance(asked, int) else usual or tasks
        self._halves = asked == "auto"

    def over(
        self,
        tasks: int,
        evaluate: Callable[[int, int], T],
        attempt: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Iterator[tuple[int, T]]:
        """``evaluate(first, stop)`` for one chunk of ``tasks`` after the other; yields its number of tasks and result.

        Every evaluation is made inside an ``attempt()``, which undoes what a failed one has left behind; random
        numbers are drawn again as they were.
        """
        first = 0
        while first < tasks:
            stop = min(first + self.size, tasks)
            done = self._tried(lambda first=first, stop=stop: evaluate(first, stop), stop - first, attempt)  # type: ignore[misc]
            if done:
                yield stop - first, done[0]
                first = stop

    def meta_gradient(
        self,
        engine: Engine,
        w: Tensor,
        phi: Tensor,
        batch: TaskBatch,
        counts: Counts | None = None,
        clock: DeviceClock | None = None,
    ) -> tuple[MetaGradient, Outcome]:
        """See :meth:`Engine.meta_gradient`; an evaluation that ran out of memory is neither counted nor timed."""

        def evaluate(first: int, stop: int) -> tuple[MetaGradient, Outcome]:
            some = batch if stop - first == batch.tasks else batch.chunk(first, stop)
            before = counts.gradient_entries if counts is not None else 0
            found = [(group.tasks, engine.meta_gradient(w, phi, group, counts, clock)) for group in some.groups]
            gradient, outcome = found[0][1] if len(found) == 1 else mean_of(found, some)
            if counts is not None and counts.gradient_entries == before and gradient.moves:
                counts.lose(f"engine {engine.name!r} moved the parameters and counted no gradient")
            return gradient, outcome

        return mean_of(self.over(batch.tasks, evaluate, lambda: _undone(counts, clock)), None)

    def _tried(
        self, evaluate: Callable[[], T], tasks: int, attempt: Callable[[], AbstractContextManager[None]]
    ) -> tuple[T] | None:
        """The result; None where memory ran out and :attr:`size` has been halved."""
        if not self._halves or tasks == 1:
            with attempt():
                return (evaluate(),)
        random = _random_state()
        try:
            with attempt():
                return (evaluate(),)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            message = first_sentence(error)
        # Out here the error is gone, and with it the tensors in the frames of its traceback.
        free_memory()
        _set_random_state(random)
        self.size = (tasks + 1) // 2
        log.warning("out of memory with %d tasks at once, going on with %d (%s)", tasks, self.size, message)
        return None


def mean_of(
    parts: Iterable[tuple[int, tuple[MetaGradient, Outcome]]], of: TaskBatch | None
) -> tuple[MetaGradient, Outcome]:
    """The mean over all tasks of ``parts``, and what came of each, in the order of the parts or of the tasks ``of``."""
    parts = iter(parts)
    total, (gradient, outcome) = next(parts)
    outcomes, sums = [outcome], None
    # Summed up one by one: together the gradients of all chunks could be more than what is to be saved.
    for tasks, (other, outcome) in parts:
        sums = sums or (gradient.w * total, gradient.phi * total)
        for mean, part in zip(sums, (other.w, other.phi), strict=True):
            mean.add_(part, alpha=tasks)
        total += tasks
        outcomes.append(outcome)
    if sums is None:
        return gradient, outcome
    ordered = of.in_order if of is not None else torch.cat
    together = Outcome(ordered([one.loss for one in outcomes]), ordered([one.accuracy for one in outcomes]))
    return MetaGradient(sums[0] / total, sums[1] / total), together


@contextmanager
def _undone(counts: Counts | None, clock: DeviceClock | None) -> Iterator[None]:
    """Take back what has been counted and timed inside if it ends in an error."""
    before = replace(counts) if counts is not None else None
    try:
        with clock.attempt() if clock is not None else nullcontext():
            yield
    except BaseException:
        if counts is not None and before is not None:
            vars(counts).update(vars(before))
        raise


def _random_state() -> tuple[Tensor, list[Tensor]]:
    # Asking CUDA would start it where only the CPU is used.
    on_cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return torch.get_rng_state(), on_cuda


def _set_random_state(state: tuple[Tensor, list[Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
