"""Floating-point operations of a call, counted at the dispatcher."""

from __future__ import annotations

from collections.abc import Callable

from torch.utils.flop_counter import FlopCounterMode


def flops_of(call: Callable[[], object]) -> int:
    """FLOPs of the convolutions and matrix products that ``call`` executes, two a multiply-add.

    Counted by ``FlopCounterMode``, which has formulas for these (forward and backward) and gives zero
    for everything element-wise: pooling, normalisation, softmax, tanh. Those are memory-bound and left
    out by convention, for every engine alike, so that a share of the ceiling means useful work.
    """
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())
