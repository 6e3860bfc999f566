"""Layers with their derivative and the directional derivative of that derivative, written out.

A layer works on G groups at once, a group being the n examples that share batch statistics and one set
of parameters. Parameters have a leading axis of G (one set a group) or 1 (shared by all groups). Vectors are
``[G, n, ..., features]``. Images are in channels-last memory: ``[G n, C, H, W]``, one group behind the other, where
parameters are shared, and ``[n, G C, H, W]``, side by side, where each group has its own. Four passes:

    forward            y = f(x, p)
    backward           (gx, gp), the cotangents of (x, p), for the cotangent gy
    tangent            y_dot, the derivative of y along (x_dot, p_dot)
    backward_tangent   (gx_dot, gp_dot), the derivative of backward's result along (x_dot, p_dot, gy_dot)

The last two make forward-over-reverse Hessian products (Pearlmutter 1994): along p_dot = u they give the
derivative of the whole gradient, which is the Hessian-vector and the mixed product at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import SimpleNamespace

import torch
from torch import Tensor

#: what a pass leaves for the passes after it
State = SimpleNamespace
Parameters = list[Tensor]


class Layer(ABC):
    """One layer; ``names`` are its parameters' names in the module it was made from."""

    #: whether it takes examples of all groups in one axis, ``[G n, ...]``, and whether it gives images in it
    merged_input = gives_images = False
    #: of the images that it makes by convolution; 0 of a layer that makes none
    channels = 0

    def __init__(self, *names: str) -> None:
        self.names = names

    @abstractmethod
    def forward(self, x: Tensor, p: Parameters, groups: int) -> tuple[Tensor, State]:
        """The output, and a state for the other passes."""

    @abstractmethod
    def backward(self, state: State, gy: Tensor, need_input: bool) -> tuple[Tensor | None, Parameters]:
        """Cotangents of the input (None unless needed) and of the parameters."""

    @abstractmethod
    def tangent(self, state: State, x_dot: Tensor | None, p_dot: Parameters) -> Tensor | None:
        """Derivative of the output; None stands for a derivative that is zero."""

    @abstractmethod
    def backward_tangent(
        self, state: State, x_dot: Tensor | None, p_dot: Parameters, gy_dot: Tensor, need_input: bool
    ) -> tuple[Tensor | None, Parameters]:
        """Derivative of :meth:`backward`'s result; comes after it and :meth:`tangent` on one state."""


class Rearrangement(Layer):
    """The same numbers in another order, so that every pass is the order or its inverse."""

    merged_input = True

    def forward(self, x: Tensor, p: Parameters, groups: int) -> tuple[Tensor, State]:
        return self._arranged(x, groups), State(groups=groups, shape=x.shape)

    def backward(self, state: State, gy: Tensor, need_input: bool) -> tuple[Tensor | None, Parameters]:
        return (channels_last(self._restored(gy, state)) if need_input else None), []

    def tangent(self, state: State, x_dot: Tensor | None, p_dot: Parameters) -> Tensor | None:
        return None if x_dot is None else self._arranged(x_dot, state.groups)

    def backward_tangent(
        self, state: State, x_dot: Tensor | None, p_dot: Parameters, gy_dot: Tensor, need_input: bool
    ) -> tuple[Tensor | None, Parameters]:
        return self.backward(state, gy_dot, need_input)

    @abstractmethod
    def _arranged(self, x: Tensor, groups: int) -> Tensor: ...

    @abstractmethod
    def _restored(self, gy: Tensor, state: State) -> Tensor: ...


class SideBySide(Rearrangement):
    """Images of G groups from one behind the other to side by side: ``[G n, C, H, W]`` to ``[n, G C, H, W]``."""

    def _arranged(self, x: Tensor, groups: int) -> Tensor:
        return channels_last(x.unflatten(0, (groups, -1)).transpose(0, 1).flatten(1, 2))

    def _restored(self, gy: Tensor, state: State) -> Tensor:
        gx: Tensor = gy.unflatten(1, (state.groups, -1)).transpose(0, 1).flatten(0, 1)
        return gx


class Flatten(Rearrangement):
    """Everything but groups and examples in one axis, ``[G, n, features]``, in the module's own order of features."""

    def __init__(self, images: bool, side_by_side: bool) -> None:
        """``images``: examples of all groups come in one axis, or ``side_by_side``; else ``[G, n, ...]`` comes."""
        super().__init__()
        self.merged_input, self.side_by_side = images, side_by_side

    def _arranged(self, x: Tensor, groups: int) -> Tensor:
        if self.side_by_side:
            return x.reshape(len(x), groups, -1).transpose(0, 1)
        return x.reshape(groups, len(x) // groups, -1) if self.merged_input else x.flatten(2)

    def _restored(self, gy: Tensor, state: State) -> Tensor:
        gx: Tensor = (gy.transpose(0, 1) if self.side_by_side else gy).reshape(state.shape)
        return gx


class Linear(Layer):
    """x W^T + b on the last axis, as batched matrix products; W ``[G or 1, out, in]``, b ``[G or 1, out]``."""

    def forward(self, x: Tensor, p: Parameters, groups: int) -> tuple[Tensor, State]:
        inside, x = x.shape[1:-1], x.flatten(1, -2)
        return self._apply(x, p).unflatten(1, inside), State(x=x, weight=p[0], gy=None, inside=inside)

    def _apply(self, x: Tensor, p: Parameters) -> Tensor:
        y = x @ p[0].mT
        return y + p[1][:, None] if len(p) > 1 else y

    def backward(self, state: State, gy: Tensor, need_input: bool) -> tuple[Tensor | None, Parameters]:
        state.gy = gy = gy.flatten(1, -2)
        gx = (gy @ state.weight).unflatten(1, state.inside) if need_input else None
        return gx, self._parameters(state, gy.mT @ state.x, gy)

    def _parameters(self, state: State, g_weight: Tensor, gy: Tensor) -> Parameters:
        gradients = [g_weight, gy.sum(1)][: len(self.names)]
        return [g.sum(0, keepdim=True) for g in gradients] if state.weight.shape[0] == 1 else gradients

    def tangent(self, state: State, x_dot: Tensor | None, p_dot: Parameters) -> Tensor | None:
        y_dot = self._apply(state.x, p_dot)
        if x_dot is not None:
            y_dot = y_dot + x_dot.flatten(1, -2) @ state.weight.mT
        return y_dot.view(y_dot.shape[:1] + state.inside + y_dot.shape[-1:])

    def backward_tangent(
        self, state: State, x_dot: Tensor | None, p_dot: Parameters, gy_dot: Tensor, need_input: bool
    ) -> tuple[Tensor | None, Parameters]:
        gy_dot = gy_dot.flatten(1, -2)
        gx_dot = (gy_dot @ state.weight + state.gy @ p_dot[0]).unflatten(1, state.inside) if need_input else None
        g_weight = gy_dot.mT @ state.x
        if x_dot is not None:
            g_weight = g_weight + state.gy.mT @ x_dot.flatten(1, -2)
        return gx_dot, self._parameters(state, g_weight, gy_dot)


def total(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Sum of two derivatives, of which None is zero."""
    return a if b is None else b if a is None else a + b


def channels_last(x: Tensor) -> Tensor:
    """Images in channels-last memory; vectors as they are."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
