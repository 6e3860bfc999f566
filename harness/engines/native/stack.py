"""A model's layers as a stack of written-out derivatives, cut into shared body and adapted tail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from harness.engines.native.activations import Elementwise, activation
from harness.engines.native.conv_block import ConvBlock
from harness.engines.native.first_block import FirstBlock
from harness.engines.native.layers import Flatten, Layer, Linear, Parameters, SideBySide, State
from harness.engines.native.norms import Norm
from harness.engines.native.pools import Pool, pool_layer
from harness.errors import NotSupported
from harness.problem.cuts import children_of, hooked, is_sequence
from harness.problem.oracle import Slot
from harness.problem.partition import Network


@dataclass(frozen=True)
class Part:
    """Consecutive layers and where their parameters lie in a flat vector: phi for the body; for the tail w, and behind
    it what of phi the tail uses.
    """

    layers: tuple[Layer, ...]
    slots: tuple[tuple[Slot, ...], ...]

    @property
    def gives_images(self) -> bool:
        """Whether its output is images, of all groups in one axis."""
        others = (layer for layer in reversed(self.layers) if not isinstance(layer, Elementwise))
        return isinstance(next(others, None), ConvBlock | Pool)

    @property
    def convolves(self) -> bool:
        """Whether it holds a convolution."""
        return any(isinstance(layer, ConvBlock) for layer in self.layers)

    def widest(self, x: Tensor) -> int:
        """Entries of the largest activation of one group of ``x`` ``[G, n, ...]``; 0 without convolutions."""
        for layer, slots in zip(self.layers, self.slots, strict=True):
            if isinstance(layer, ConvBlock):
                return x[0].numel() // x.shape[2] * slots[0].shape[0]
        return 0

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

    def backward(self, states: list[State], gy: Tensor, into: Tensor, need_input: bool) -> Tensor | None:
        """Cotangent of the input; those of the parameters are added to the flat ``into`` ``[G or 1, n]``."""
        g: Tensor | None = gy
        for number in reversed(range(len(self.layers))):
            assert g is not None
            g, gradients = self.layers[number].backward(states[number], g, need_input or number > 0)
            self._add(number, gradients, into)
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
    ) -> Tensor | None:
        """Derivative of :meth:`backward`: of the input's cotangent, and added to ``into`` of the parameters'."""
        g_dot: Tensor | None = gy_dot
        p_dot = self.parameters(vectors_dot)
        for number in reversed(range(len(self.layers))):
            assert g_dot is not None
            layer, x_dot = self.layers[number], inputs_dot[number]
            g_dot, gradients = layer.backward_tangent(
                states[number], x_dot, p_dot[number], g_dot, need_input or number > 0
            )
            self._add(number, gradients, into)
        return g_dot

    def _add(self, number: int, gradients: Parameters, into: Tensor) -> None:
        for slot, gradient in zip(self.slots[number], gradients, strict=True):
            into[:, slot.start : slot.stop] += gradient.flatten(1)


@dataclass(frozen=True)
class Stack:
    """Body and tail of a network whose every layer is known here."""

    body: Part
    tail: Part
    network: Network

    @classmethod
    def of(cls, network: Network) -> Stack:
        """The stack of ``network``; raises :class:`NotSupported` with the reason where a layer is not known."""
        if not is_sequence(network.module):
            raise NotSupported("the model is no nn.Sequential that does nothing but call its layers")
        body = _parse(network.body, network, True, False) if network.body is not None else []
        tail = _parse(network.tail, network, network.body is None, True)
        end, shared = network.n_w, []
        for slot in network.tail_slots:
            shared.append(replace(slot, start=end, stop=end + slot.shape.numel()))
            end = shared[-1].stop
        return cls(_part(body, network.phi_slots), _part(tail, (*network.w_slots, *shared)), network)


def _part(layers: list[Layer], slots: tuple[Slot, ...]) -> Part:
    by_name = {slot.name: slot for slot in slots}
    return Part(tuple(layers), tuple(tuple(by_name[name] for name in layer.names) for layer in layers))


def _leaves(module: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    leaves = []
    for name, child in children_of(module):
        if type(child) is nn.Sequential and is_sequence(child):
            leaves += _leaves(child, f"{prefix}{name}.")
        else:
            leaves.append((f"{prefix}{name}", child))
    return leaves


def _parse(module: nn.Module, network: Network, sees_data: bool, own: bool) -> list[Layer]:
    """The layers of a (nested) ``nn.Sequential``; raises :class:`NotSupported` where one of them is not known.

    ``own``: each task has parameters of its own, so that its images lie beside those of others.
    """
    leaves = _leaves(module)
    for name, leaf in leaves:
        if hooked(leaf) or "forward" in vars(leaf):
            raise NotSupported(f"layer {name!r} has hooks or a forward of its own")
        if any(not parameter.requires_grad for parameter in leaf.parameters()):
            raise NotSupported(f"layer {name!r} has frozen parameters")
    layers: list[Layer] = []
    images = beside = False
    while leaves:
        name, leaf = leaves[0]
        used = 1
        # Exact types: a subclass may compute something else.
        if type(leaf) is nn.Conv2d and (images or not layers):
            first = sees_data and not layers
            block, used = _conv_block(leaves, network.slot_names, FirstBlock if first else ConvBlock)
            layers += [SideBySide(), block] if own and not (first or beside) else [block]
            images, beside = True, own
        elif type(leaf) is nn.Flatten and leaf.start_dim == 1 and leaf.end_dim == -1:
            layers.append(Flatten(images, beside))
            images = beside = False
        elif function := activation(leaf):
            layers.append(function)
        elif images and (pool := pool_layer(leaf)):
            layers.append(pool)
        elif not images and (layer := _on_vectors(leaf, name, network.slot_names)):
            layers.append(layer)
        elif type(leaf) is not nn.Identity:
            raise NotSupported(f"layer {name!r} ({type(leaf).__name__}) has no written-out derivatives")
        leaves = leaves[used:]
    return layers


def _on_vectors(leaf: nn.Module, name: str, names: Mapping[str, str]) -> Layer | None:
    """A linear layer or a norm; None for anything else. Its parameters are those it has under its own names."""
    kind = type(leaf)
    own = [part for part in ("weight", "bias") if getattr(leaf, part, None) is not None]
    if kind in (nn.Linear, nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d) and not all(
        f"{name}.{part}" in names for part in own
    ):
        raise NotSupported(f"layer {name!r} has no parameters of its own called {' and '.join(own)}")
    slots = [names[f"{name}.{part}"] for part in own if f"{name}.{part}" in names]
    if kind is nn.Linear:
        return Linear(*slots)
    if isinstance(leaf, nn.LayerNorm) and kind is nn.LayerNorm and len(leaf.normalized_shape) == 1:
        return Norm(slots, leaf.eps, over=-1)
    if isinstance(leaf, nn.GroupNorm) and kind is nn.GroupNorm:
        return Norm(slots, leaf.eps, over=-1, parts=leaf.num_groups)
    if isinstance(leaf, nn.BatchNorm1d) and kind is nn.BatchNorm1d and not leaf.track_running_stats:
        return Norm(slots, leaf.eps, over=1)
    return None


def _conv_block(
    leaves: list[tuple[str, nn.Module]], names: Mapping[str, str], kind: type[ConvBlock]
) -> tuple[ConvBlock, int]:
    """Convolution, batch norm and activation, with the max-pool behind them where it can be taken first.

    Also how many of ``leaves`` that is.
    """
    (conv_name, conv), (norm_name, norm), (_, act) = [*leaves, *[("", nn.Identity())] * 2][:3]
    function = activation(act)
    if not isinstance(conv, nn.Conv2d) or type(norm) is not nn.BatchNorm2d or function is None:
        raise NotSupported(f"layer {conv_name!r} is no convolution followed by batch norm and an activation")
    plain_conv = conv.groups == 1 and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    if not (plain_conv and norm.affine and not norm.track_running_stats):
        raise NotSupported(
            f"layers {conv_name!r} and {norm_name!r} have options (groups, padding, no scale, running statistics) "
            f"without written-out derivatives"
        )
    bias = [f"{conv_name}.bias"] if conv.bias is not None else []
    own = [f"{conv_name}.weight", *bias, f"{norm_name}.weight", f"{norm_name}.bias"]
    if not all(name in names for name in own):
        raise NotSupported(f"layer {conv_name!r} has no parameters of its own")
    size = _disjoint_windows(leaves[3][1]) if function.increasing and len(leaves) > 3 else 1
    return kind([names[name] for name in own], conv, norm.eps, function, size), 3 + (size > 1)


def _disjoint_windows(pool: nn.Module) -> int:
    """The size of a max-pool's windows, if they are squares that do not overlap; else 1."""
    if type(pool) is not nn.MaxPool2d or pool.return_indices:
        return 1
    size, plain = pool.kernel_size, not (pool.padding or pool.ceil_mode) and pool.dilation == 1
    return size if isinstance(size, int) and pool.stride == size and plain else 1
