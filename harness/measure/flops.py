"""Floating-point operations of a call, counted at the dispatcher."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def flops_of(call: Callable[[], object]) -> int:
    """FLOPs of the convolutions and matrix products that ``call`` executes, two a multiply-add.

    Counted by ``FlopCounterMode``, which has formulas for these (forward and backward) and gives zero
    for everything element-wise: pooling, normalisation, softmax, tanh. Those are memory-bound and left
    out by convention, for every engine alike, so that a share of the ceiling means useful work.
    """
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _backward}) as counter:
        call()
    return int(counter.get_total_flops())


def _backward(
    gy_shape: Sequence[int],
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    _bias: object,
    _stride: object,
    _padding: object,
    _dilation: object,
    transposed: bool,
    _output_padding: object,
    _groups: int,
    needed: Sequence[bool],
    **_: Any,
) -> int:
    """Either cotangent takes what the convolution itself took; torch's formula takes groups times that for weights."""
    positions = math.prod((x_shape if transposed else gy_shape)[2:])
    return 2 * math.prod(weight_shape) * gy_shape[0] * positions * sum(needed[:2])
