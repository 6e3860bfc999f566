"""The first convolution block, whose input is data: batch norm through the moments of its image patches."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.engines.native.conv_block import ConvBlock, Cotangent, images, rows
from harness.engines.native.layers import State, channels_last


class FirstBlock(ConvBlock):
    """A convolution block that nothing is differentiated through, so that only its parameters matter.

    Its z is linear in the patches U ``[M, K]`` of the images, K = in * k * k (27 for colour): z = U W^T. With the
    patches' mean m and covariance S, all that batch norm needs of z follows without touching it,

        mean z = W m,   var z = diag(W S W^T),   sum over positions of (centred z) U = M W S,

    and likewise for z_dot = U W_dot^T. What remains at full size, the largest of the network, is the
    convolution, the pool, and the weights' gradient for the scattered entries.
    """

    def _standardise(self, state: State, z: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        self._patch_moments(state)
        weight = state.weight.flatten(2)
        state.weight_s = weight @ state.covariance
        variance = (state.weight_s * weight).sum(2)[:, None]
        return z, (weight @ state.mean_patch).mT, torch.rsqrt(variance + self.eps)

    def _patch_moments(self, state: State) -> None:
        """Mean ``[G, K, 1]`` and covariance ``[G, K, K]`` of the patches of every group.

        The patches are read off by a convolution with one filter for each of their entries, which is cheaper
        than im2col on a CPU. They are centred before they are multiplied: E[u u^T] - m m^T would lose
        digits wherever images are nearly constant.
        """
        patch = state.weight.shape[2:]
        entries = math.prod(patch)
        filters = torch.eye(entries, dtype=state.x.dtype, device=state.x.device).view(entries, *patch)
        stride, padding, dilation = self.geometry
        patches = rows(channels_last(F.conv2d(state.x, filters, None, stride, padding, dilation)), state.groups)
        mean = patches.mean(1, keepdim=True)
        centred = patches - mean
        state.mean_patch = mean.mT
        state.covariance = (centred.mT @ centred) / state.size

    def _tangent_statistics(self, state: State, z_dot: Tensor) -> tuple[Tensor, Tensor]:
        weight_dot = state.weight_dot.flatten(2)
        state.weight_dot_s = weight_dot @ state.covariance
        z_centred = (state.weight_dot_s * state.weight.flatten(2)).sum(2)[:, None]
        return (weight_dot @ state.mean_patch).mT, z_centred * state.inv

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
        scattered = images(gz.scattered, state.pooled_shape)
        full = F.max_unpool2d(scattered, state.pool_index, [self.pool] * 2, output_size=state.shape[2:])
        sparse = self._cotangents(state, full, state.x, state.weight, False)[1]
        assert sparse is not None
        dense = gz.by_centred.mT * state.weight_s + gz.constant.mT * state.mean_patch.mT
        if gz.by_centred_dot is not None:
            dense = dense + gz.by_centred_dot.mT * state.weight_dot_s
        if state.weight.shape[0] == 1:
            dense = dense.sum(0, keepdim=True)
        return torch.add(sparse, dense.view(sparse.shape), alpha=state.size)
