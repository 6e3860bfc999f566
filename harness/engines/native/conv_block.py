"""Convolution, batch norm, activation and max-pool as one layer, with its first and second derivative written out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.engines.native.activations import Elementwise
from harness.engines.native.layers import Layer, Parameters, State, channels_last, total


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
    """Convolution, batch norm with the group's own statistics, an activation f, and max-pool where f is increasing.

    Three identities save passes over full-size memory:

    - batch norm subtracts the mean, so the convolution's bias has no effect and a gradient of zero;
    - with |gamma| in place of gamma and its sign moved into the convolution's weights, the affine map is
      increasing, as f is, so pooling comes first and everything after it is a quarter of the size (without a
      pool gamma stays as it is);
    - a cotangent behind the pool has one entry a window, so the sums in batch norm's derivative run over
      a quarter of the entries, and its full-size part is one multiply-add and a scatter.

    Symbols: z = conv(x, W), inv = 1 / sqrt(var z + eps), xhat = inv (z - mean z), p = xhat where the pool
    takes it, y = |gamma| p + beta, out = f(y); gp the cotangent of y, q = |gamma| gp that of p; means
    are over the M = n H W positions of a group. Then gz = inv (scatter(q) - mean q - xhat mean(q p)).

    Groups with parameters of their own lie side by side in the channels: one convolution serves them all, and
    batch norm, which is by channel, need not know. ``sets`` are the sets of parameters, ``groups`` the groups
    that lie one behind the other; one of the two numbers is 1. A ``pool`` of 1 is none.
    """

    merged_input = gives_images = True

    def __init__(self, names: list[str], conv: nn.Conv2d, eps: float, act: Elementwise, pool: int) -> None:
        """``names``: weight, bias (or none) of the convolution, gamma and beta, as in the module."""
        super().__init__(*names)
        assert not isinstance(conv.padding, str)
        self.geometry = [list(part) for part in (conv.stride, conv.padding, conv.dilation)]
        self.eps, self.act, self.pool, self.channels = eps, act, pool, conv.out_channels

    def forward(self, x: Tensor, p: Parameters, groups: int) -> tuple[Tensor, State]:
        weight, gamma, beta = p[0], p[-2].reshape(1, 1, -1), p[-1].reshape(1, 1, -1)
        state = State(sets=len(weight), groups=groups // len(weight), x=x, scale=gamma, sign=None)
        if self.pool > 1:
            state.sign = torch.where(gamma < 0, -1.0, 1.0).to(gamma.dtype)
            state.scale = gamma.abs()
        state.weight = self._packed(x, self._signed(state, weight.flatten(0, 1)))
        state.p = self._normalised_pool(state)
        out, state.act = self.act.value(torch.addcmul(beta, state.p, state.scale))
        return images(out, state.pooled_shape), state

    def backward(self, state: State, gy: Tensor, need_input: bool) -> tuple[Tensor | None, Parameters]:
        state.gp = gp = self.act.pulled(state.act, rows(gy, state.groups))
        state.g_beta, state.g_gamma = gp.sum(1, keepdim=True), (gp * state.p).sum(1, keepdim=True)
        inv, by_mean = state.inv, state.scale / state.size
        state.m1, state.m2 = state.g_beta * by_mean, state.g_gamma * by_mean
        gz = Cotangent(gp * (state.scale * inv), -inv * state.m1, -(inv**2) * state.m2)
        gx, g_weight = self._through_convolution(state, gz, need_input)
        return gx, self._parameters(state, g_weight, state.g_gamma, state.g_beta)

    def tangent(self, state: State, x_dot: Tensor | None, p_dot: Parameters) -> Tensor | None:
        state.weight_dot = self._packed(state.x, self._signed(state, p_dot[0].flatten(0, 1)))
        taken, z_mean, state.z_xhat = self._tangent_pool(state, x_dot)
        state.p_dot = state.inv * (taken - z_mean - state.p * state.z_xhat)
        state.scale_dot = p_dot[-2].reshape(1, 1, -1)
        if state.sign is not None:
            state.scale_dot = state.scale_dot * state.sign
        y_dot = torch.addcmul(p_dot[-1].reshape(1, 1, -1), state.scale, state.p_dot).addcmul_(state.scale_dot, state.p)
        state.y_dot = y_dot
        return images(self.act.pushed(state.act, y_dot), state.pooled_shape)

    def backward_tangent(
        self, state: State, x_dot: Tensor | None, p_dot: Parameters, gy_dot: Tensor, need_input: bool
    ) -> tuple[Tensor | None, Parameters]:
        gp, gp_dot = state.gp, self.act.pulled_dot(state.act, state.y_dot, rows(gy_dot, state.groups))
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

    def _normalised_pool(self, state: State) -> Tensor:
        """p ``[G, quarter, C]``; leaves inv ``[G, 1, C]``, M, where the pool took its values, and centred z."""
        z = self._convolve(state.x, state.weight, state.sets)
        state.centred = rows(z, state.groups)
        state.centred -= state.centred.mean(1, keepdim=True)
        state.inv = torch.rsqrt((state.centred * state.centred).mean(1, keepdim=True) + self.eps)
        pooled, index = self._pooled(images(state.centred, z.shape))
        state.shape, state.size, state.pooled_shape = z.shape, state.centred.shape[1], pooled.shape
        state.index = None if index is None else positions(index)
        xhat: Tensor = rows(pooled, state.groups) * state.inv
        return xhat

    def _tangent_pool(self, state: State, x_dot: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """z_dot where the pool took its values, and the means of z_dot and of xhat z_dot."""
        z_dot = self._convolve(state.x, state.weight_dot, state.sets)
        if x_dot is not None:
            z_dot += self._convolve(x_dot, state.weight, state.sets)
        state.z_dot = rows(z_dot, state.groups)
        state.z_mean = state.z_dot.mean(1, keepdim=True)
        taken = state.z_dot
        if state.index is not None:
            taken = positions(z_dot).gather(1, state.index).view(state.p.shape)
        return taken, state.z_mean, (state.z_dot * state.centred).mean(1, keepdim=True) * state.inv

    def _through_convolution(
        self, state: State, gz: Cotangent, need_input: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Cotangents of the convolution's input and weights."""
        dense = torch.addcmul(gz.constant, state.centred, gz.by_centred)
        state.gz = self._scatter_add(state, dense, gz.scattered)
        return self._cotangents(state.sets, state.gz, state.x, state.weight, need_input)

    def _through_convolution_tangent(
        self, state: State, gz_dot: Cotangent, x_dot: Tensor | None, need_input: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Derivatives of what :meth:`_through_convolution` gave."""
        assert gz_dot.by_centred_dot is not None
        constant = gz_dot.constant - gz_dot.by_centred_dot * state.z_mean
        dense = torch.addcmul(constant, state.centred, gz_dot.by_centred)
        dense.addcmul_(state.z_dot, gz_dot.by_centred_dot)
        full = self._scatter_add(state, dense, gz_dot.scattered)
        gx_dot, g_weight_dot = self._cotangents(state.sets, full, state.x, state.weight, need_input)
        if need_input or x_dot is not None:
            # Without an x_dot (it is zero) the weights get nothing more.
            x = state.x if x_dot is None else x_dot
            gx_more, g_more = self._cotangents(
                state.sets, state.gz, x, state.weight_dot, need_input, need_weight=x_dot is not None
            )
            gx_dot, g_weight_dot = total(gx_dot, gx_more), total(g_weight_dot, g_more)
        return gx_dot, g_weight_dot

    def _pooled(self, z: Tensor) -> tuple[Tensor, Tensor | None]:
        """``z`` where it is largest in every window, and where that is; None stands for everywhere."""
        return F.max_pool2d(z, self.pool, return_indices=True) if self.pool > 1 else (z, None)

    def _convolve(self, x: Tensor, weight: Tensor, sets: int) -> Tensor:
        """Convolution with ``sets`` sets of weights ``[sets out, in, k, k]``, each on its own channels."""
        stride, padding, dilation = self.geometry
        if _heavy(x, weight):
            x = x.clone(memory_format=torch.contiguous_format)
        return channels_last(F.conv2d(x, weight, None, stride, padding, dilation, sets))

    def _cotangents(
        self, sets: int, gz: Tensor, x: Tensor, weight: Tensor, need_input: bool, need_weight: bool = True
    ) -> tuple[Tensor | None, Tensor | None]:
        """Cotangents of a convolution's input and weights; None what is not needed."""
        stride, padding, dilation = self.geometry
        needed = [need_input, need_weight, False]
        if heavy := _heavy(x, weight):
            x, gz = (part.clone(memory_format=torch.contiguous_format) for part in (x, gz))
        gx, g_weight, _ = torch.ops.aten.convolution_backward(
            gz, x, weight, None, stride, padding, dilation, False, [0, 0], sets, needed
        )
        return channels_last(gx) if heavy and need_input else gx, g_weight

    def _scatter_add(self, state: State, dense: Tensor, sparse: Tensor) -> Tensor:
        """``dense`` plus ``sparse`` at the positions the pool took, as images; in place."""
        if state.index is None:
            return images(dense.add_(sparse), state.shape)
        count, channels = state.index.shape[0], state.index.shape[2]
        dense.view(count, -1, channels).scatter_add_(1, state.index, sparse.view(count, -1, channels))
        return images(dense, state.shape)

    def _parameters(self, state: State, g_weight: Tensor | None, g_gamma: Tensor, g_beta: Tensor) -> Parameters:
        assert g_weight is not None
        g_gamma = g_gamma if state.sign is None else g_gamma * state.sign
        g_gamma, g_beta = (g.sum(0).view(state.sets, -1) for g in (g_gamma, g_beta))
        bias = [torch.zeros_like(g_beta)] if len(self.names) == 4 else []
        return [self._signed(state, g_weight).unflatten(0, (state.sets, -1)), *bias, g_gamma, g_beta]

    @staticmethod
    def _signed(state: State, weight: Tensor) -> Tensor:
        """``weight`` ``[sets out, in, k, k]`` times the sign of gamma, where that has moved into it."""
        return weight if state.sign is None else weight * state.sign.view(-1, 1, 1, 1)

    @staticmethod
    def _packed(x: Tensor, weight: Tensor) -> Tensor:
        """Weights in the memory of the images ``x``, so that no convolution reorders them; as they are where it is less
        to reorder the images.
        """
        return weight if _heavy(x, weight) else weight.contiguous(memory_format=torch.channels_last)


def _heavy(x: Tensor, weight: Tensor) -> bool:
    """Whether there are more weights than images."""
    return weight.numel() > x.numel()


def rows(x: Tensor, groups: int) -> Tensor:
    """Channels-last images ``[G n, C, H, W]`` as ``[G, M, C]``, a view."""
    return x.permute(0, 2, 3, 1).reshape(groups, -1, x.shape[1])


def images(x: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of :func:`rows`: channels-last images of ``shape``, a view."""
    return x.view(shape[0], shape[2], shape[3], shape[1]).permute(0, 3, 1, 2)


def positions(x: Tensor) -> Tensor:
    """Channels-last images ``[n, C, H, W]`` as ``[n, H W, C]``, a view."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)
