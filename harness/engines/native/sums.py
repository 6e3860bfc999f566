"""Residual blocks: chains of layers that all begin with the same input, added up."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import chain

from torch import Tensor

from harness.engines.native.layers import Layer, Parameters, State, total


def _apart(layers: Sequence[Layer], p: Parameters) -> Iterator[Parameters]:
    """The parameters of every layer."""
    start = 0
    for layer in layers:
        yield p[start : start + len(layer.names)]
        start += len(layer.names)


class Chain(Layer):
    """Layers one after the other; none of them is y = x."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__(*(name for layer in layers for name in layer.names))
        self.layers, self.channels = layers, max((layer.channels for layer in layers), default=0)

    def forward(self, x: Tensor, p: Parameters, groups: int) -> tuple[Tensor, State]:
        states = []
        for layer, part in zip(self.layers, _apart(self.layers, p), strict=True):
            x, state = layer.forward(x, part, groups)
            states.append(state)
        return x, State(layers=states)

    def backward(self, state: State, gy: Tensor, need_input: bool) -> tuple[Tensor | None, Parameters]:
        g: Tensor | None = gy
        gradients: Parameters = []
        for number in reversed(range(len(self.layers))):
            assert g is not None
            g, own = self.layers[number].backward(state.layers[number], g, need_input or number > 0)
            gradients = own + gradients
        return g, gradients

    def tangent(self, state: State, x_dot: Tensor | None, p_dot: Parameters) -> Tensor | None:
        state.inputs_dot = []
        for layer, of_layer, part in zip(self.layers, state.layers, _apart(self.layers, p_dot), strict=True):
            state.inputs_dot.append(x_dot)
            x_dot = layer.tangent(of_layer, x_dot, part)
        return x_dot

    def backward_tangent(
        self, state: State, x_dot: Tensor | None, p_dot: Parameters, gy_dot: Tensor, need_input: bool
    ) -> tuple[Tensor | None, Parameters]:
        g: Tensor | None = gy_dot
        gradients: Parameters = []
        parts = list(_apart(self.layers, p_dot))
        for number in reversed(range(len(self.layers))):
            assert g is not None
            g, own = self.layers[number].backward_tangent(
                state.layers[number], state.inputs_dot[number], parts[number], g, need_input or number > 0
            )
            gradients = own + gradients
        return g, gradients


class Sum(Layer):
    """y = sum over chains c of c(x)."""

    def __init__(self, chains: Sequence[Chain], images: bool) -> None:
        """``images``: the examples of all groups come in one axis, and every chain gives images."""
        super().__init__(*(name for one in chains for name in one.names))
        self.chains, self.merged_input, self.gives_images = chains, images, images
        self.channels = max(one.channels for one in chains)

    def forward(self, x: Tensor, p: Parameters, groups: int) -> tuple[Tensor, State]:
        parts = zip(self.chains, _apart(self.chains, p), strict=True)
        outputs, states = zip(*(one.forward(x, part, groups) for one, part in parts), strict=True)
        # Never in place: layers keep what passed through them.
        return reduce(operator.add, outputs), State(chains=states)

    def backward(self, state: State, gy: Tensor, need_input: bool) -> tuple[Tensor | None, Parameters]:
        pairs = zip(self.chains, state.chains, strict=True)
        cotangents, gradients = zip(*(one.backward(own, gy, need_input) for one, own in pairs), strict=True)
        return _added(cotangents) if need_input else None, list(chain(*gradients))

    def tangent(self, state: State, x_dot: Tensor | None, p_dot: Parameters) -> Tensor | None:
        parts = zip(self.chains, state.chains, _apart(self.chains, p_dot), strict=True)
        return _added([one.tangent(own, x_dot, part) for one, own, part in parts])

    def backward_tangent(
        self, state: State, x_dot: Tensor | None, p_dot: Parameters, gy_dot: Tensor, need_input: bool
    ) -> tuple[Tensor | None, Parameters]:
        parts = zip(self.chains, state.chains, _apart(self.chains, p_dot), strict=True)
        cotangents, gradients = zip(
            *(one.backward_tangent(own, x_dot, part, gy_dot, need_input) for one, own, part in parts), strict=True
        )
        return _added(cotangents) if need_input else None, list(chain(*gradients))


def _added(parts: Sequence[Tensor | None]) -> Tensor | None:
    added: Tensor | None = None
    for part in parts:
        added = total(added, part)
    return added
