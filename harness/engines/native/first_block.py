"""The first convolution block, whose input is data: batch norm through the moments of its image patches."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.engines.native.activations import Elementwise
from harness.engines.native.conv_block import ConvBlock, Cotangent, images, positions, rows
from harness.engines.native.layers import State, channels_last
from harness.measure.precision import tf32

#: entries of the largest activation that are made and used again at once, so that a processor's cache holds them
CACHE = 2**21
#: patches that are multiplied and summed at once. 112 summed one after the other leave a float32 meta-gradient of
#: glyphs as exact as a float64 sum does (1e-6), an image's 784 do not (4e-6 to 3e-3), 19,600 spoil it (1e-2 to 1).
BLOCK = 128


class FirstBlock(ConvBlock):
    """A convolution block that nothing is differentiated through, so that only its parameters matter.

    Its z is linear in the patches U ``[M, K]`` of the images, K = in * k * k (27 for colour): z = U W^T. With the
    patches' mean m and covariance S, all that batch norm needs of z follows without touching it,

        mean z = W m,   var z = diag(W S W^T),   sum over positions of (centred z) U = M W S,

    and likewise for z_dot = U W_dot^T. What remains at full size, the largest of the network, is the convolution, the
    pool, and the weights' gradient for the scattered entries: they see some images at a time. The images of all
    groups lie one behind the other, also where each group has its own parameters.

    Where neighbouring pixels are alike, var z is small beside |W|^2 |S|, so S has to be more exact than anything else
    here: it is summed in blocks, whatever a BLAS does within one, and its products are in full float32, also
    where a run lets others round to TF32. Batch norm does not see what is taken off a channel, so the
    patches are those of centred images throughout: no mean of theirs is subtracted later, and loses digits.
    """

    def __init__(self, names: list[str], conv: nn.Conv2d, eps: float, act: Elementwise, pool: int) -> None:
        super().__init__(names, conv, eps, act, pool)
        stride, self.padding, dilation = self.geometry
        self.geometry = [stride, [0, 0], dilation]

    def _normalised_pool(self, state: State) -> Tensor:
        state.x = self._centred_and_padded(state.x, state.groups * state.sets)
        self._patch_moments(state)
        weight = self._by_set(state, state.weight)
        mean, state.weight_s = self._moments_along(state, weight)
        variance = self._by_channel(state, (state.weight_s * weight).sum(2))
        state.inv = torch.rsqrt(variance + self.eps)
        pooled, state.index = [], []
        for x, own in self._parts(state, state.weight):
            taken, index = self._pooled(self._convolve(x, own, 1))
            pooled.append(taken)
            state.index.append(index)
        taken = self._together(state, pooled)
        state.pooled_shape = taken.shape
        return torch.addcmul(-mean * state.inv, rows(taken, state.groups), state.inv)

    def _tangent_pool(self, state: State, x_dot: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        weight, weight_dot = self._by_set(state, state.weight), self._by_set(state, state.weight_dot)
        z_mean, state.weight_dot_s = self._moments_along(state, weight_dot)
        z_centred = self._by_channel(state, (state.weight_dot_s * weight).sum(2))
        pooled = []
        for (x, own_dot), index in zip(self._parts(state, state.weight_dot), state.index, strict=True):
            z_dot = self._convolve(x, own_dot, 1)
            if index is not None:
                z_dot = images(positions(z_dot).gather(1, positions(index)), index.shape)
            pooled.append(z_dot)
        return rows(self._together(state, pooled), state.groups), z_mean, z_centred * state.inv

    def _through_convolution(
        self, state: State, gz: Cotangent, need_input: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        return None, self._weights(state, gz)

    def _through_convolution_tangent(
        self, state: State, gz_dot: Cotangent, x_dot: Tensor | None, need_input: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        return None, self._weights(state, gz_dot)

    def _weights(self, state: State, gz: Cotangent) -> Tensor:
        """Cotangent of the weights: of the scattered entries by convolution, of the rest by the moments."""
        out = len(state.weight) // state.sets
        dense = gz.by_centred.view(-1, out, 1) * state.weight_s + gz.constant.view(-1, out, 1) * state.mean_patch.mT
        if gz.by_centred_dot is not None:
            dense = dense + gz.by_centred_dot.view(-1, out, 1) * state.weight_dot_s
        if state.sets == 1:
            dense = dense.sum(0)
        sparse = self._scattered(state, images(gz.scattered, state.pooled_shape))
        return torch.add(sparse, dense.reshape(sparse.shape), alpha=state.size)

    def _scattered(self, state: State, values: Tensor) -> Tensor:
        """The part of the weights' cotangent that comes from the positions the pool took."""
        gradients = []
        parts = values.chunk(state.sets, 1) if state.sets > 1 else values.split(self._count(state))
        for (x, own), part, index in zip(self._parts(state, state.weight), parts, state.index, strict=True):
            full = part
            if index is not None:
                full = F.max_unpool2d(part, index, [self.pool] * 2, output_size=state.full)
            gradient = self._cotangents(1, full, x, own, need_input=False)[1]
            assert gradient is not None
            gradients.append(gradient)
        return torch.cat(gradients) if state.sets > 1 else torch.stack(gradients).sum(0)

    @tf32(False)
    def _patch_moments(self, state: State) -> None:
        """Mean ``[G, K, 1]`` and covariance ``[G, K, K]`` of the patches of every group.

        The patches are read off by a convolution with one filter for each of their entries, which is cheaper
        than im2col on a CPU. One filter more gives a one for every patch, so that their sum stands in the same
        matrix product as their squares. A block is some rows of positions of one image.
        """
        patch = state.weight.shape[1:]
        entries, groups = math.prod(patch), state.groups * state.sets
        filters = torch.eye(entries + 1, entries, dtype=state.x.dtype, device=state.x.device).view(-1, *patch)
        one = torch.zeros(entries + 1, dtype=state.x.dtype, device=state.x.device)
        one[entries] = 1
        stride, padding, dilation = self.geometry
        patches = channels_last(F.conv2d(state.x, filters, one, stride, padding, dilation))
        state.full, state.size = patches.shape[2:], patches[:, 0].numel() // groups
        height, width = state.full
        blocks = rows(patches, len(patches) * height // math.gcd(height, max(1, BLOCK // width)))
        products = (blocks.mT @ blocks).unflatten(0, (groups, -1)).sum(1) / state.size
        state.mean_patch = products[:, :entries, entries:]
        state.covariance = products[:, :entries, :entries] - state.mean_patch @ state.mean_patch.mT

    @tf32(False)
    def _moments_along(self, state: State, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of U W^T, by channel, and W S, for ``weight`` W ``[sets, out, K]``."""
        return self._by_channel(state, weight @ state.mean_patch), weight @ state.covariance

    def _centred_and_padded(self, x: Tensor, groups: int) -> Tensor:
        """Images less the mean of each channel over their group, with the zeros around them."""
        count, channels, height, width = x.shape
        up, left = self.padding
        # A row of pixels is one axis here: loops over three colours alone would not be vectorised.
        lines = x.permute(0, 2, 3, 1).reshape(count, height, width * channels)
        mean = lines.reshape(groups, -1, width * channels).mean(1).view(groups, width, channels).mean(1)
        padded = -mean.repeat(1, width + 2 * left).repeat_interleave(count // groups, 0)[:, None]
        padded = padded.repeat(1, height + 2 * up, 1)
        padded[:, up : up + height, left * channels : (left + width) * channels] += lines
        return padded.view(count, height + 2 * up, -1, channels).permute(0, 3, 1, 2)

    def _count(self, state: State) -> int:
        """How many images pass at full size at once: those of one set of parameters, or what a cache holds."""
        if state.sets > 1:
            return len(state.x) // int(state.sets)
        fits: int = max(1, CACHE // (len(state.weight) * math.prod(state.full)))
        return fits if state.x.device.type == "cpu" else len(state.x)

    def _parts(self, state: State, weight: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
        """Images and their weights, some images at a time."""
        x = state.x.split(self._count(state))
        return zip(x, weight.chunk(state.sets) if state.sets > 1 else [weight] * len(x), strict=True)

    @staticmethod
    def _together(state: State, parts: list[Tensor]) -> Tensor:
        """The images of all parts: side by side in the channels where each set has its own."""
        return parts[0] if len(parts) == 1 else channels_last(torch.cat(parts, 1 if state.sets > 1 else 0))

    @staticmethod
    def _by_set(state: State, weight: Tensor) -> Tensor:
        """Weights ``[sets out, in, k, k]`` as ``[sets, out, K]``."""
        return weight.reshape(state.sets, -1, math.prod(weight.shape[1:]))

    @staticmethod
    def _by_channel(state: State, values: Tensor) -> Tensor:
        """``[G, out]`` as ``[groups, 1, sets out]``."""
        return values.reshape(state.groups, 1, values.shape[0] * values.shape[1] // state.groups)
