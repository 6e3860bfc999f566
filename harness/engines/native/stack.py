"""A model's layers as a stack of written-out derivatives, cut into shared body and adapted tail."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from harness.engines.native.activations import Elementwise
from harness.engines.native.layers import Layer, Parameters, State
from harness.engines.native.reading import Reader
from harness.errors import NotSupported
from harness.problem.oracle import Slot
from harness.problem.partition import Network


@dataclass(frozen=True)
class Part:
    """Consecutive layers and where their parameters lie in a flat vector: phi for the body; for the tail w, and behind
    it what of phi the tail uses.
    """

    layers: tuple[Layer, ...]
    slots: tuple[tuple[Slot, ...], ...]
    size: int

    @property
    def gives_images(self) -> bool:
        """Whether its output is images, of all groups in one axis."""
        others = (layer for layer in reversed(self.layers) if not isinstance(layer, Elementwise))
        return any(layer.gives_images for layer in [*others][:1])

    @property
    def convolves(self) -> bool:
        """Whether it holds a convolution."""
        return any(layer.channels for layer in self.layers)

    def widest(self, x: Tensor) -> int:
        """Entries of the largest activation of one group of ``x`` ``[G, n, ...]``; 0 without convolutions."""
        channels = next((layer.channels for layer in self.layers if layer.channels), 0)
        return x[0].numel() // x.shape[2] * channels if channels else 0

    @cached_property
    def filled(self) -> bool:
        """Whether a gradient of the layers is one of the whole vector, each entry written once."""
        places = sorted((slot.start, slot.stop) for slots in self.slots for slot in slots)
        ends = [0, *(stop for _, stop in places)]
        return [start for start, _ in places] == ends[:-1] and ends[-1] == self.size

    def empty(self, like: Tensor) -> Tensor:
        """What :meth:`backward` may write a gradient into; zeros where it would leave some of it as it is."""
        return torch.empty_like(like) if self.filled else torch.zeros_like(like)

    def parameters(self, vectors: Tensor) -> list[Parameters]:
        """Views of ``vectors`` ``[G or 1, n]``, layer by layer."""
        return [[vectors[:, slot.start : slot.stop].unflatten(1, slot.shape) for slot in slots] for slots in self.slots]

    def forward(self, x: Tensor, vectors: Tensor, groups: int) -> tuple[Tensor, list[State]]:
        """Output for ``groups`` groups under the flat parameters ``vectors``, and the layers' states."""
        states = []
        for layer, p in zip(self.layers, self.parameters(vectors), strict=True):
            x, state = layer.forward(x, p, groups)
            states.append(state)
        return x, states

    def backward(
        self, states: list[State], gy: Tensor, into: Tensor, need_input: bool, add: bool = True
    ) -> Tensor | None:
        """Cotangent of the input; those of the parameters are added to the flat ``into`` ``[G or 1, n]``.

        Without ``add``, ``into`` holds nothing yet (see :meth:`empty`).
        """
        g: Tensor | None = gy
        for number in reversed(range(len(self.layers))):
            assert g is not None
            g, gradients = self.layers[number].backward(states[number], g, need_input or number > 0)
            self._put(number, gradients, into, add)
        return g

    def tangent(self, states: list[State], vectors_dot: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Derivative of the output along flat ``vectors_dot``, and of every layer's input."""
        x_dot: Tensor | None = None
        inputs_dot = []
        for layer, state, p_dot in zip(self.layers, states, self.parameters(vectors_dot), strict=True):
            inputs_dot.append(x_dot)
            x_dot = layer.tangent(state, x_dot, p_dot)
        assert x_dot is not None
        return x_dot, inputs_dot

    def backward_tangent(
        self,
        states: list[State],
        inputs_dot: list[Tensor | None],
        vectors_dot: Tensor,
        gy_dot: Tensor,
        into: Tensor,
        need_input: bool,
        add: bool = True,
    ) -> Tensor | None:
        """Derivative of :meth:`backward`: of the input's cotangent, and into ``into`` of the parameters'."""
        g_dot: Tensor | None = gy_dot
        p_dot = self.parameters(vectors_dot)
        for number in reversed(range(len(self.layers))):
            assert g_dot is not None
            layer, x_dot = self.layers[number], inputs_dot[number]
            g_dot, gradients = layer.backward_tangent(
                states[number], x_dot, p_dot[number], g_dot, need_input or number > 0
            )
            self._put(number, gradients, into, add)
        return g_dot

    def _put(self, number: int, gradients: Parameters, into: Tensor, add: bool) -> None:
        for slot, gradient in zip(self.slots[number], gradients, strict=True):
            place = into[:, slot.start : slot.stop].unflatten(1, slot.shape)  # whatever memory the gradient lies in
            place.add_(gradient) if add or not self.filled else place.copy_(gradient)


@dataclass(frozen=True)
class Stack:
    """Body and tail of a network whose every adapted layer is known here."""

    #: None where autograd has to differentiate it, and ``why``
    body: Part | None
    tail: Part
    network: Network
    why: str = ""

    @classmethod
    def of(cls, network: Network) -> Stack:
        """The stack of ``network``; raises :class:`NotSupported` with the reason where a layer is not known."""
        end, shared = network.n_w, list[Slot]()
        for slot in network.tail_slots:
            shared.append(replace(slot, start=end, stop=end + slot.shape.numel()))
            end = shared[-1].stop
        layers = Reader(network, own=True).read(network.tail, network.body is None)
        tail = _part(layers, (*network.w_slots, *shared), end)
        try:
            body = [] if network.body is None else Reader(network, own=False).read(network.body, sees_data=True)
        except NotSupported as reason:
            return cls(None, tail, network, str(reason))
        return cls(_part(body, network.phi_slots, network.n_phi), tail, network)


def _part(layers: list[Layer], slots: tuple[Slot, ...], size: int) -> Part:
    by_name = {slot.name: slot for slot in slots}
    return Part(tuple(layers), tuple(tuple(by_name[name] for name in layer.names) for layer in layers), size)
