"""Convolution, batch norm, ReLU and max-pool as one layer, with its first and second derivative written out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.engines.native.layers import Layer, Parameters, State, channels_last


@dataclass
class Cotangent:
    """A cotangent of z, or its derivative, by what varies over positions: entries where the pool took its
    values ``[G, quarter, C]``, a constant, and multiples ``[G, 1, C]`` of centred z and of centred z_dot.
    """

    scattered: Tensor
    constant: Tensor
    by_centred: Tensor
    by_centred_dot: Tensor | None = None


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
        state.weight_sign = sign.view(*sign.shape[::2], 1, 1, 1)
        state.weight = _packed(weight * state.weight_sign)
        z = self._convolve(x, state.weight, groups)
        state.shape, state.size = z.shape, z.numel() // (groups * z.shape[1])
        z, mean, state.inv = self._standardise(state, z)
        pooled, index = F.max_pool2d(z, self.pool, return_indices=True)
        state.pooled_shape, state.pool_index = pooled.shape, index
        state.index = index.permute(0, 2, 3, 1).flatten(1, 2)
        taken = rows(pooled, groups)
        state.p = taken * state.inv if mean is None else torch.addcmul(-mean * state.inv, taken, state.inv)
        state.out = torch.addcmul(beta, state.p, state.scale).clamp_min_(0)
        return images(state.out, pooled.shape), state

    def backward(self, state: State, gy: Tensor, need_input: bool) -> tuple[Tensor | None, Parameters]:
        state.gp = gp = _where_positive(rows(gy, state.groups), state.out)
        state.g_beta, state.g_gamma = gp.sum(1, keepdim=True), (gp * state.p).sum(1, keepdim=True)
        inv, by_mean = state.inv, state.scale / state.size
        state.m1, state.m2 = state.g_beta * by_mean, state.g_gamma * by_mean
        gz = Cotangent(gp * (state.scale * inv), -inv * state.m1, -(inv**2) * state.m2)
        gx, g_weight = self._through_convolution(state, gz, need_input)
        return gx, self._parameters(state, g_weight, state.g_gamma, state.g_beta)

    def tangent(self, state: State, x_dot: Tensor | None, p_dot: Parameters) -> Tensor | None:
        state.weight_dot = _packed(p_dot[0] * state.weight_sign)
        z_dot = self._convolve(state.x, state.weight_dot, state.groups)
        if x_dot is not None:
            z_dot += self._convolve(x_dot, state.weight, state.groups)
        z_mean, state.z_xhat = self._tangent_statistics(state, z_dot)
        taken = z_dot.permute(0, 2, 3, 1).flatten(1, 2).gather(1, state.index).view(state.p.shape)
        state.p_dot = state.inv * (taken - z_mean - state.p * state.z_xhat)
        state.scale_dot = p_dot[-2][:, None] * state.sign
        y_dot = torch.addcmul(p_dot[-1][:, None], state.scale, state.p_dot).addcmul_(state.scale_dot, state.p)
        return images(_where_positive(y_dot, state.out), state.pooled_shape)

    def backward_tangent(
        self, state: State, x_dot: Tensor | None, p_dot: Parameters, gy_dot: Tensor, need_input: bool
    ) -> tuple[Tensor | None, Parameters]:
        gp, gp_dot = state.gp, _where_positive(rows(gy_dot, state.groups), state.out)
        g_beta_dot = gp_dot.sum(1, keepdim=True)
        g_gamma_dot = (gp_dot * state.p).addcmul_(gp, state.p_dot).sum(1, keepdim=True)
        by_mean, by_mean_dot = state.scale / state.size, state.scale_dot / state.size
        m1_dot = by_mean * g_beta_dot + by_mean_dot * state.g_beta
        m2_dot = by_mean * g_gamma_dot + by_mean_dot * state.g_gamma
        inv, inv_dot = state.inv, -(state.inv**2) * state.z_xhat
        # gz = inv (scatter q - m1 - xhat m2) with xhat_dot = inv (z_dot - mean z_dot - xhat mean(xhat z_dot)),
        # its terms collected by what varies over positions.
        gz_dot = Cotangent(
            scattered=(gp_dot * (inv * state.scale)).addcmul_(gp, inv_dot * state.scale + inv * state.scale_dot),
            constant=-inv_dot * state.m1 - inv * m1_dot,
            by_centred=inv * (inv**2 * state.m2 * state.z_xhat - inv_dot * state.m2 - inv * m2_dot),
            by_centred_dot=-(inv**2) * state.m2,
        )
        gx_dot, g_weight_dot = self._through_convolution_tangent(state, gz_dot, x_dot, need_input)
        return gx_dot, self._parameters(state, g_weight_dot, g_gamma_dot, g_beta_dot)

    def _standardise(self, state: State, z: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """``z`` or centred ``z``, the mean that is still to be taken off, and inv ``[G, 1, C]``."""
        state.centred = rows(z, state.groups)
        state.centred -= state.centred.mean(1, keepdim=True)
        inv = torch.rsqrt((state.centred * state.centred).mean(1, keepdim=True) + self.eps)
        return images(state.centred, z.shape), None, inv

    def _tangent_statistics(self, state: State, z_dot: Tensor) -> tuple[Tensor, Tensor]:
        """Means of z_dot and of xhat z_dot."""
        state.z_dot = rows(z_dot, state.groups)
        state.z_mean = state.z_dot.mean(1, keepdim=True)
        return state.z_mean, (state.z_dot * state.centred).mean(1, keepdim=True) * state.inv

    def _through_convolution(
        self, state: State, gz: Cotangent, need_input: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Cotangents of the convolution's input and weights."""
        dense = torch.addcmul(gz.constant, state.centred, gz.by_centred)
        state.gz = self._scatter_add(state, dense, gz.scattered)
        return self._cotangents(state, state.gz, state.x, state.weight, need_input)

    def _through_convolution_tangent(
        self, state: State, gz_dot: Cotangent, x_dot: Tensor | None, need_input: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Derivatives of what :meth:`_through_convolution` gave."""
        assert gz_dot.by_centred_dot is not None
        constant = gz_dot.constant - gz_dot.by_centred_dot * state.z_mean
        dense = torch.addcmul(constant, state.centred, gz_dot.by_centred)
        dense.addcmul_(state.z_dot, gz_dot.by_centred_dot)
        full = self._scatter_add(state, dense, gz_dot.scattered)
        gx_dot, g_weight_dot = self._cotangents(state, full, state.x, state.weight, need_input)
        if need_input or x_dot is not None:
            gx_more, g_more = self._cotangents(state, state.gz, x_dot, state.weight_dot, need_input)
            gx_dot, g_weight_dot = _sum(gx_dot, gx_more), _sum(g_weight_dot, g_more)
        return gx_dot, g_weight_dot

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
        return [g_weight * state.weight_sign, *bias, (g_gamma * state.sign)[:, 0], g_beta[:, 0]]


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
