"""From a module to layers with written-out derivatives; or the reason why there are none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import nn

from harness.engines.native.activations import Straight, activation
from harness.engines.native.conv_block import ConvBlock
from harness.engines.native.first_block import FirstBlock
from harness.engines.native.layers import Flatten, Layer, Linear, SideBySide
from harness.engines.native.norms import Norm
from harness.engines.native.pools import pool_layer
from harness.engines.native.sums import Chain, Sum
from harness.errors import NotSupported
from harness.problem import chain
from harness.problem.chain import children_of, is_sequence
from harness.problem.partition import Network

Leaves = list[tuple[str, nn.Module]]


@dataclass(frozen=True)
class Place:
    """What comes to a layer: data, in which nothing is differentiated; images, and beside those of other groups."""

    data: bool
    begun: bool = False
    images: bool = False
    beside: bool = False


class Reader:
    """Reads body or tail of ``network``, layer by layer; raises :class:`NotSupported` where one is not known.

    ``own``: each task has parameters of its own, so that its images lie beside those of others.
    """

    def __init__(self, network: Network, own: bool) -> None:
        self.own = own
        self._called = {id(layer): name for name, layer in network.module.named_modules()}
        self._slots = {id(part): name for name, part in network.module.named_parameters()}

    def read(self, part: nn.Module, sees_data: bool) -> list[Layer]:
        """The layers of ``part``."""
        return self._chain(part, Place(sees_data))[0]

    def _chain(self, part: nn.Module, at: Place) -> tuple[list[Layer], Place]:
        leaves, layers = list(self._leaves("", part)), list[Layer]()
        while leaves:
            more, used, at = self._next(leaves, at)
            at = replace(at, data=at.data and not more, begun=at.begun or bool(more))
            layers += more
            leaves = leaves[used:]
        return layers, at

    def _next(self, leaves: Leaves, at: Place) -> tuple[list[Layer], int, Place]:
        """The layers for the first of ``leaves``, or for several of them, how many, and what comes behind."""
        (name, leaf), following = leaves[0], leaves[1][1] if len(leaves) > 1 else None
        # Exact types: a subclass may compute something else.
        if type(leaf) is nn.Conv2d and (at.images or not at.begun):
            block, used = self._conv_block(leaves, FirstBlock if at.data else ConvBlock)
            aside = self.own and not (at.data or at.beside)
            return [SideBySide(), block] if aside else [block], used, replace(at, images=True, beside=self.own)
        if isinstance(leaf, chain.Sum):
            layers, at = self._sum(leaf, at)
            return layers, 1, at
        if type(leaf) is nn.Flatten and leaf.start_dim == 1 and leaf.end_dim == -1:
            return [Flatten(at.images, at.beside)], 1, replace(at, images=False, beside=False)
        if function := activation(leaf):
            if at.images and function.increasing and following is not None and _disjoint_windows(following) > 1:
                pool = pool_layer(following)
                assert pool is not None
                return [pool, function], 2, at  # less is left for the function
            return [function], 1, at
        if at.images and (pool := pool_layer(leaf)):
            return [pool], 1, at
        if not at.images and (layer := self._on_vectors(name, leaf)):
            return [layer], 1, at
        if type(leaf) is nn.Identity:
            return [], 1, at
        raise NotSupported(f"layer {name!r} ({type(leaf).__name__}) has no written-out derivatives")

    def _sum(self, leaf: chain.Sum, at: Place) -> tuple[list[Layer], Place]:
        branches = [self._chain(branch, at) for branch in leaf.children()]
        images, aside = any(end.images for _, end in branches), []
        beside = {end.beside for _, end in branches}
        if images and self.own and not at.beside and (not at.data or len(beside) > 1):
            aside, at = [SideBySide()], Place(data=False, begun=True, images=True, beside=True)
            branches = [self._chain(branch, at) for branch in leaf.children()]
        if any(end.images != images for layers, end in branches if layers):
            raise NotSupported("images and vectors are added")
        added = Sum([Chain(layers) for layers, _ in branches], images)
        return [*aside, added], replace(at, images=images, beside=images and self.own)

    def _leaves(self, name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        """The layers of a chain, each with its name in the model."""
        name = self._called.get(id(module), name)
        if is_sequence(module):
            for inside, child in children_of(module):
                yield from self._leaves(inside, child)
            return
        if chain.hooked(module) or "forward" in vars(module):
            raise NotSupported(f"layer {name!r} has hooks or a forward of its own")
        if chain.is_link(module):
            if not isinstance(module, chain.Sum) and any(not part.requires_grad for part in module.parameters()):
                raise NotSupported(f"layer {name!r} has frozen parameters")
            yield name, module
            return
        try:
            links = chain.chain_of(module)
        except NotSupported as reason:
            raise NotSupported(f"layer {name!r} ({type(module).__name__}) is not known, and {reason}") from reason
        yield from self._leaves(name, links)

    def _own(self, name: str, leaf: nn.Module) -> list[str]:
        """The slots of weight and bias of ``leaf``, which have to be parameters of its own."""
        there = [part for part in ("weight", "bias") if getattr(leaf, part, None) is not None]
        own = [self._slots.get(id(leaf._parameters.get(part))) for part in there]
        if None in own:
            raise NotSupported(f"layer {name!r} has no parameters of its own called {' and '.join(there)}")
        return [slot for slot in own if slot is not None]

    def _on_vectors(self, name: str, leaf: nn.Module) -> Layer | None:
        """A linear layer or a norm; None for anything else."""
        kind = type(leaf)
        if kind is nn.Linear:
            return Linear(*self._own(name, leaf))
        if isinstance(leaf, nn.LayerNorm) and kind is nn.LayerNorm and len(leaf.normalized_shape) == 1:
            return Norm(self._own(name, leaf), leaf.eps, over=-1)
        if isinstance(leaf, nn.GroupNorm) and kind is nn.GroupNorm:
            return Norm(self._own(name, leaf), leaf.eps, over=-1, parts=leaf.num_groups)
        if isinstance(leaf, nn.BatchNorm1d) and kind is nn.BatchNorm1d and not leaf.track_running_stats:
            return Norm(self._own(name, leaf), leaf.eps, over=1)
        return None

    def _conv_block(self, leaves: Leaves, kind: type[ConvBlock]) -> tuple[ConvBlock, int]:
        """Convolution and batch norm, with the activation behind them, and the max-pool where it can be taken first.

        Also how many of ``leaves`` that is.
        """
        (conv_name, conv), (norm_name, norm), (_, act) = [*leaves, *[("", nn.Identity())] * 2][:3]
        if not isinstance(conv, nn.Conv2d) or type(norm) is not nn.BatchNorm2d:
            raise NotSupported(f"layer {conv_name!r} is no convolution followed by batch norm")
        plain_conv = conv.groups == 1 and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
        if not (plain_conv and norm.affine and not norm.track_running_stats):
            raise NotSupported(
                f"layers {conv_name!r} and {norm_name!r} have options (groups, padding, no scale, running statistics) "
                f"without written-out derivatives"
            )
        slots = self._own(conv_name, conv) + self._own(norm_name, norm)
        function = activation(act)
        used = 3 if function else 2
        function = function or Straight()
        size = _disjoint_windows(leaves[used][1]) if function.increasing and len(leaves) > used else 1
        return kind(slots, conv, norm.eps, function, size), used + (size > 1)


def _disjoint_windows(pool: nn.Module) -> int:
    """The size of a max-pool's windows, if they are squares that do not overlap; else 1."""
    if type(pool) is not nn.MaxPool2d or pool.return_indices:
        return 1
    size, plain = pool.kernel_size, not (pool.padding or pool.ceil_mode) and pool.dilation == 1
    return size if isinstance(size, int) and pool.stride == size and plain else 1
