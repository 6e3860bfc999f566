"""Pooling of images, channel by channel, so that it does not matter where the groups lie."""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.engines.native.layers import Layer, Parameters, State, channels_last


class Pool(Layer):
    """A linear map of images, once it is known where a maximum is taken: every pass is the map or its transpose."""

    merged_input = gives_images = True

    def backward(self, state: State, gy: Tensor, need_input: bool) -> tuple[Tensor | None, Parameters]:
        return (channels_last(self._transposed(gy, state)) if need_input else None), []

    def tangent(self, state: State, x_dot: Tensor | None, p_dot: Parameters) -> Tensor | None:
        return None if x_dot is None else channels_last(self._map(x_dot, state))

    def backward_tangent(
        self, state: State, x_dot: Tensor | None, p_dot: Parameters, gy_dot: Tensor, need_input: bool
    ) -> tuple[Tensor | None, Parameters]:
        return self.backward(state, gy_dot, need_input)

    @abstractmethod
    def _map(self, x: Tensor, state: State) -> Tensor: ...

    @abstractmethod
    def _transposed(self, gy: Tensor, state: State) -> Tensor: ...


class AveragePool(Pool):
    """Means over windows of a fixed size, or over as many windows as there are to be outputs."""

    def __init__(self, module: nn.AvgPool2d | nn.AdaptiveAvgPool2d) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, p: Parameters, groups: int) -> tuple[Tensor, State]:
        state = State(x=x)
        return channels_last(self._map(x, state)), state

    def _map(self, x: Tensor, state: State) -> Tensor:
        y: Tensor = self.module(x)
        return y

    def _transposed(self, gy: Tensor, state: State) -> Tensor:
        pool, aten = self.module, torch.ops.aten
        if isinstance(pool, nn.AdaptiveAvgPool2d):
            gx: Tensor = aten._adaptive_avg_pool2d_backward(gy, state.x)
            return gx
        window = [_pair(part) for part in (pool.kernel_size, pool.stride, pool.padding)]
        how = (pool.ceil_mode, pool.count_include_pad, pool.divisor_override)
        gx = aten.avg_pool2d_backward(gy, state.x, *window, *how)
        return gx


class MaxPool(Pool):
    """Maxima over windows, which may overlap."""

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.window = [_pair(part) for part in (pool.kernel_size, pool.stride, pool.padding, pool.dilation)]
        self.ceil_mode = pool.ceil_mode

    def forward(self, x: Tensor, p: Parameters, groups: int) -> tuple[Tensor, State]:
        kernel, stride, padding, dilation = self.window
        y, index = F.max_pool2d(x, kernel, stride, padding, dilation, self.ceil_mode, return_indices=True)
        return channels_last(y), State(x=x, index=index)

    def _map(self, x: Tensor, state: State) -> Tensor:
        return x.flatten(2).gather(2, state.index.flatten(2)).view(state.index.shape)

    def _transposed(self, gy: Tensor, state: State) -> Tensor:
        backward = torch.ops.aten.max_pool2d_with_indices_backward
        gx: Tensor = backward(gy, state.x, *self.window, self.ceil_mode, state.index)
        return gx


def pool_layer(module: nn.Module) -> Pool | None:
    """The layer for a pool of torch, by its exact type."""
    if isinstance(module, nn.MaxPool2d) and type(module) is nn.MaxPool2d and not module.return_indices:
        return MaxPool(module)
    if isinstance(module, nn.AvgPool2d | nn.AdaptiveAvgPool2d) and type(module) in (nn.AvgPool2d, nn.AdaptiveAvgPool2d):
        return AveragePool(module)
    return None


def _pair(size: int | tuple[int, ...]) -> list[int]:
    return [size, size] if isinstance(size, int) else list(size)
