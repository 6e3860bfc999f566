"""Convolution, batch norm, ReLU and max-pool as one layer, with its first and second derivative written out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.engines.native.layers import Layer, Parameters, State, channels_last


class ConvBlock(Layer):
    """Convolution, batch norm with the group's own statistics, ReLU and 2x2 max-pool.

    Three identities save passes over full-size memory:

    - batch norm subtracts the mean, so the convolution's bias has no effect and a gradient of zero;
    - with |gamma| in place of gamma and its sign moved into the convolution's weights, the affine map is
      increasing, so pooling comes first and everything after it is a quarter of the size;
    - a cotangent behind the pool has one entry a window, so the sums in batch norm's derivative run over
      a quarter of the entries, and its full-size part is one multiply-add and a scatter.

    Symbols: z = conv(x, W), inv = 1 / sqrt(var z + eps), xhat = inv (z - mean z), p = xhat where the pool
    takes it, y = |gamma| p + beta, out = max(y, 0); gp the cotangent of y, q = |gamma| gp that of p; means
    are over the M = n H W positions of a group. Then gz = inv (scatter(q) - mean q - xhat mean(q p)).
    """

    merged_input = True

    def __init__(self, names: list[str], conv: nn.Conv2d, eps: float, pool: int) -> None:
        """``names``: weight, bias (or none) of the convolution, gamma and beta, as in the module."""
        super().__init__(*names)
        assert not isinstance(conv.padding, str)
        self.geometry = [list(part) for part in (conv.stride, conv.padding, conv.dilation)]
        self.eps, self.pool = eps, pool

    def forward(self, x: Tensor, p: Parameters, groups: int) -> tuple[Tensor, State]:
        weight, gamma, beta = p[0], p[-2][:, None], p[-1][:, None]
        sign = torch.where(gamma < 0, -1.0, 1.0).to(gamma.dtype)
        state = State(groups=groups, x=x, sign=sign, scale=gamma.abs())
        state.weight = _packed(weight * sign.view(*sign.shape[::2], 1, 1, 1))
        z = self._convolve(x, state.weight, groups)
        centred = rows(z, groups)
        centred -= centred.mean(1, keepdim=True)
        state.shape, state.size, state.centred = z.shape, centred.shape[1], centred
        state.inv = torch.rsqrt((centred * centred).mean(1, keepdim=True) + self.eps)
        pooled, index = F.max_pool2d(images(centred, z.shape), self.pool, return_indices=True)
        state.p = rows(pooled, groups) * state.inv
        state.index = index.permute(0, 2, 3, 1).flatten(1, 2)
        state.out = torch.addcmul(beta, state.p, state.scale).clamp_min_(0)
        state.pooled_shape = pooled.shape
        return images(state.out, pooled.shape), state

    def backward(self, state: State, gy: Tensor, need_input: bool) -> tuple[Tensor | None, Parameters]:
        state.gp = gp = _where_positive(rows(gy, state.groups), state.out)
        g_beta, g_gamma = gp.sum(1, keepdim=True), (gp * state.p).sum(1, keepdim=True)
        state.g_beta, state.g_gamma = g_beta, g_gamma
        inv, by_mean = state.inv, state.scale / state.size
        state.m1, state.m2 = g_beta * by_mean, g_gamma * by_mean
        gz = torch.addcmul(-inv * state.m1, state.centred, -(inv**2) * state.m2)
        state.gz = self._scatter_add(state, gz, gp * (state.scale * inv))
        gx, g_weight = self._cotangents(state, state.gz, state.x, state.weight, need_input)
        return gx, self._parameters(state, g_weight, g_gamma, g_beta)

    def tangent(self, state: State, x_dot: Tensor | None, p_dot: Parameters) -> Tensor | None:
        state.weight_dot = _packed(p_dot[0] * state.sign.view(*state.sign.shape[::2], 1, 1, 1))
        z_dot = self._convolve(state.x, state.weight_dot, state.groups)
        if x_dot is not None:
            z_dot += self._convolve(x_dot, state.weight, state.groups)
        state.z_dot = rows(z_dot, state.groups)
        state.z_mean = state.z_dot.mean(1, keepdim=True)
        state.z_xhat = (state.z_dot * state.centred).mean(1, keepdim=True) * state.inv
        taken = z_dot.permute(0, 2, 3, 1).flatten(1, 2).gather(1, state.index).view(state.p.shape)
        state.p_dot = state.inv * (taken - state.z_mean - state.p * state.z_xhat)
        state.scale_dot = p_dot[-2][:, None] * state.sign
        y_dot = torch.addcmul(p_dot[-1][:, None], state.scale, state.p_dot).addcmul_(state.scale_dot, state.p)
        return images(_where_positive(y_dot, state.out), state.pooled_shape)

    def backward_tangent(
        self, state: State, x_dot: Tensor | None, p_dot: Parameters, gy_dot: Tensor, need_input: bool
    ) -> tuple[Tensor | None, Parameters]:
        gp, gp_dot = state.gp, _where_positive(rows(gy_dot, state.groups), state.out)
        g_beta_dot = gp_dot.sum(1, keepdim=True)
        g_gamma_dot = (gp_dot * state.p).addcmul_(gp, state.p_dot).sum(1, keepdim=True)
        # q = |gamma| gp, and the means m1 of q and m2 of q p, differentiated
        by_mean, by_mean_dot = state.scale / state.size, state.scale_dot / state.size
        m1_dot = by_mean * g_beta_dot + by_mean_dot * state.g_beta
        m2_dot = by_mean * g_gamma_dot + by_mean_dot * state.g_gamma
        inv, inv_dot = state.inv, -(state.inv**2) * state.z_xhat
        # gz = inv (scatter q - m1 - xhat m2) with xhat_dot = inv (z_dot - mean z_dot - xhat mean(xhat z_dot)),
        # its terms collected by what varies over positions: centred z, z_dot, the scattered entries, a constant.
        by_centred = inv * (inv**2 * state.m2 * state.z_xhat - inv_dot * state.m2 - inv * m2_dot)
        by_z_dot = -(inv**2) * state.m2
        constant = -inv_dot * state.m1 - inv * m1_dot - by_z_dot * state.z_mean
        gz_dot = torch.addcmul(constant, state.centred, by_centred).addcmul_(state.z_dot, by_z_dot)
        scattered = (gp_dot * (inv * state.scale)).addcmul_(gp, inv_dot * state.scale + inv * state.scale_dot)
        gz_dot = self._scatter_add(state, gz_dot, scattered)
        gx_dot, g_weight_dot = self._cotangents(state, gz_dot, state.x, state.weight, need_input)
        if need_input or x_dot is not None:
            gx_more, g_more = self._cotangents(state, state.gz, x_dot, state.weight_dot, need_input)
            gx_dot, g_weight_dot = _sum(gx_dot, gx_more), _sum(g_weight_dot, g_more)
        return gx_dot, self._parameters(state, g_weight_dot, g_gamma_dot, g_beta_dot)

    def _convolve(self, x: Tensor, weight: Tensor, groups: int) -> Tensor:
        """Convolution of every group with its own weights ``[G, out, in, k, k]``, or with shared ones."""
        stride, padding, dilation = self.geometry
        parts = zip(x.chunk(groups), weight, strict=True) if weight.shape[0] > 1 else [(x, weight[0])]
        z = _concatenated([F.conv2d(part, own, None, stride, padding, dilation) for part, own in parts])
        return channels_last(z)

    def _cotangents(
        self, state: State, gz: Tensor, x: Tensor | None, weight: Tensor, need_input: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Cotangents of a convolution's input and weights ``[G or 1, ...]``; None what is not needed.

        Without an ``x`` (its derivative is zero) the weights get none.
        """
        stride, padding, dilation = self.geometry
        needed = [need_input, x is not None, False]
        groups = weight.shape[0]
        inputs = state.x if x is None else x
        results = [
            torch.ops.aten.convolution_backward(*part, None, stride, padding, dilation, False, [0, 0], 1, needed)
            for part in zip(gz.chunk(groups), inputs.chunk(groups), weight, strict=True)
        ]
        gx = _concatenated([result[0] for result in results]) if need_input else None
        return gx, torch.stack([result[1] for result in results]) if x is not None else None

    def _scatter_add(self, state: State, dense: Tensor, sparse: Tensor) -> Tensor:
        """``dense`` plus ``sparse`` at the positions the pool took, as images; in place."""
        count, channels = state.index.shape[0], state.index.shape[2]
        dense.view(count, -1, channels).scatter_add_(1, state.index, sparse.view(count, -1, channels))
        return images(dense, state.shape)

    def _parameters(self, state: State, g_weight: Tensor | None, g_gamma: Tensor, g_beta: Tensor) -> Parameters:
        assert g_weight is not None
        if state.weight.shape[0] == 1:
            g_gamma, g_beta = g_gamma.sum(0, keepdim=True), g_beta.sum(0, keepdim=True)
        bias = [torch.zeros_like(g_beta[:, 0])] if len(self.names) == 4 else []
        sign = state.sign
        return [g_weight * sign.view(*sign.shape[::2], 1, 1, 1), *bias, (g_gamma * sign)[:, 0], g_beta[:, 0]]


def _where_positive(g: Tensor, y: Tensor) -> Tensor:
    """``g`` where ``y`` > 0, else 0: the derivative of ReLU, without a mask to store or convert."""
    return torch.ops.aten.threshold_backward(g, y, 0)  # type: ignore[no-any-return]


def _packed(weight: Tensor) -> Tensor:
    """Weights ``[G, out, in, k, k]``, each group's in channels-last memory, so that no convolution reorders them."""
    return weight.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)


def _concatenated(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Sum of two derivatives, of which None is zero."""
    return a if b is None else b if a is None else a + b


def rows(x: Tensor, groups: int) -> Tensor:
    """Channels-last images ``[G n, C, H, W]`` as ``[G, M, C]``, a view."""
    return x.permute(0, 2, 3, 1).reshape(groups, -1, x.shape[1])


def images(x: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of :func:`rows`: channels-last images of ``shape``, a view."""
    return x.view(shape[0], shape[2], shape[3], shape[1]).permute(0, 3, 1, 2)
