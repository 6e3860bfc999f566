"""The processes of one run, called ranks, which ``torchrun`` starts and numbers: what one knows comes to all.

Without torchrun, or with one process, there is only :class:`Alone`, which does nothing. Importing this module must not
import torch.

Before every exchange each rank says whether it has failed. One that fails says so where its next exchange would be, so
that the others, who wait there, end with its error; one that is gone has closed its connections, which ends their
waiting too.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from harness.errors import HarnessError, OutOfMemory
from harness.experiment.interrupts import postponed

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

#: how long ranks wait for each other: longer than any works between two exchanges, or waits for another's lock
PATIENCE = timedelta(minutes=10)


class RankLost(HarnessError):
    """Another rank of this run has ended, or answers no more."""

    def __init__(self) -> None:
        super().__init__(
            "another rank has ended, or gives no sign of life; the last checkpoint stays; go on with --resume"
        )


class Alone:
    """The only process of a run."""

    rank, size = 0, 1

    def share(self, tasks: int) -> tuple[int, int]:
        """``first`` and ``stop`` of this rank's own of ``tasks``; the first rank has most, and never none."""
        return -(-tasks * self.rank // self.size), -(-tasks * (self.rank + 1) // self.size)

    def together(self) -> AbstractContextManager[None]:
        """What ends in an error inside, in one rank, ends so in all."""
        return nullcontext()

    def any(self, one: bool = False, other: bool = False) -> tuple[bool, bool]:
        """Whether any rank says so. Here all wait for each other."""
        return one, other

    def first(self, value: Any) -> Any:
        """What the first rank has."""
        return value

    def everyone(self, value: T) -> list[T]:
        """What each rank has, in order."""
        return [value]

    def joined(self, parts: Sequence[Tensor], dim: int = 0) -> Tensor:
        """``parts`` of all ranks along ``dim``, in order; who has no tasks has none."""
        import torch

        return torch.cat(list(parts), dim) if parts else torch.empty(0)

    def add(self, *parts: Tensor) -> None:
        """Sum each of ``parts`` over all ranks, in place."""


ALONE = Alone()


class Group(Alone):
    """This rank among the others: over gloo, and over NCCL what is on GPUs."""

    def __init__(self) -> None:
        import torch
        import torch.distributed as dist

        #: False while something is exchanged, and for good where that did not end well
        self._sound = True
        #: the error that all ranks know of
        self._known: BaseException | None = None
        on_gpus = torch.cuda.is_available() and dist.is_nccl_available()
        try:
            if not dist.is_initialized():
                dist.init_process_group("gloo", timeout=PATIENCE)
                atexit.register(dist.destroy_process_group)  # its threads would abort a process that ends without
            group = dist.new_group(backend="cpu:gloo,cuda:nccl" if on_gpus else "gloo", timeout=PATIENCE)
        except RuntimeError as error:
            raise RankLost from error
        assert isinstance(group, dist.ProcessGroup)  # this rank is in it
        self._group = group
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    @contextmanager
    def together(self) -> Iterator[None]:
        """See :class:`Alone`."""
        try:
            yield
        except BaseException as error:
            if error is not self._known:
                with self._exchange(failed=error):
                    self._known = error
            raise

    def any(self, one: bool = False, other: bool = False) -> tuple[bool, bool]:
        """See :class:`Alone`."""
        with self._exchange(one, other) as flags:
            return flags

    def first(self, value: Any) -> Any:
        """See :class:`Alone`."""
        import torch.distributed as dist

        values = [value]
        with self._exchange():
            dist.broadcast_object_list(values, group=self._group)
        return values[0]

    def everyone(self, value: T) -> list[T]:
        """See :class:`Alone`."""
        with self._exchange():
            return self._gathered(value)

    def joined(self, parts: Sequence[Tensor], dim: int = 0) -> Tensor:
        """See :class:`Alone`; on the CPU."""
        of_all = self.everyone([part.detach().cpu() for part in parts])
        return super().joined([part for parts in of_all for part in parts], dim)

    def add(self, *parts: Tensor) -> None:
        """See :class:`Alone`."""
        import torch.distributed as dist

        with self._exchange():
            for part in parts:
                dist.all_reduce(part, group=self._group)

    @contextmanager
    def _exchange(
        self, one: bool = False, other: bool = False, failed: BaseException | None = None
    ) -> Iterator[tuple[bool, bool]]:
        """Inside, something may be exchanged; whether any rank has said ``one``, and ``other``.

        Raises what another rank has failed with; signals come when all is done.
        """
        import torch
        import torch.distributed as dist

        if not self._sound:
            raise RankLost
        self._sound = False
        with postponed():
            try:
                said = torch.tensor([failed is not None, one, other], dtype=torch.int32)
                dist.all_reduce(said, dist.ReduceOp.MAX, self._group)
                if said[0]:
                    told = enumerate(self._gathered(None if failed is None else _words(failed)))
                    if failed is None:
                        rank, (kind, text) = next((rank, words) for rank, words in told if words is not None)
                        self._sound, self._known = True, kind(f"rank {rank}: {text}")
                        raise self._known
                yield bool(said[1]), bool(said[2])
            except RuntimeError as error:  # gloo's, NCCL's and the store's alike
                raise RankLost from error
            self._sound = True

    def _gathered(self, value: T) -> list[T]:
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, self._group)
        return values


def several() -> bool:
    """Whether torchrun has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


def speaks() -> bool:
    """Whether a person hears of this process: the first rank speaks for the others."""
    return not several() or os.environ.get("RANK") == "0"


@contextmanager
def ranks() -> Iterator[Alone]:
    """The ranks of this run. What one of them fails with inside ends all."""
    group = _group() if several() else ALONE
    with group.together():
        yield group


@cache
def _group() -> Group:
    return Group()


def _words(error: BaseException) -> tuple[type[BaseException], str]:
    """What others are to raise."""
    from harness.measure.memory import first_sentence, is_out_of_memory

    if is_out_of_memory(error):
        return OutOfMemory, first_sentence(error)
    if isinstance(error, HarnessError | KeyboardInterrupt):
        return type(error), str(error)
    return HarnessError, f"{type(error).__name__}: {first_sentence(error)}"
