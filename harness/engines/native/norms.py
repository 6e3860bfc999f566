"""Normalisation of vectors, over a batch or over an example's own features, with written-out derivatives."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.engines.native.layers import Layer, Parameters, State


class Norm(Layer):
    """y = gamma xhat + beta, where xhat = inv (x - mean x) and inv = 1 / sqrt(var x + eps).

    Means are over the batch of a group (``over = 1``), or over the last axis (``over = -1``) in ``parts`` equal
    parts: batch, layer and group norm. Symbols: q = gamma gy; gx = inv t with t = q - mean q - xhat mean(xhat q).
    """

    def __init__(self, names: list[str], eps: float, over: int, parts: int = 1) -> None:
        """``names``: gamma and beta as in the module, gamma alone, or none."""
        super().__init__(*names)
        self.eps, self.over, self.parts = eps, over, parts

    def forward(self, x: Tensor, p: Parameters, groups: int) -> tuple[Tensor, State]:
        if x.dim() != 3 and (self.over == 1 or self.parts > 1):
            raise ValueError("batch and group norm of vectors meets something else")
        centred = self._apart(x)
        centred = centred - self._mean(centred)
        inv = torch.rsqrt(self._mean(centred * centred) + self.eps)
        state = State(inv=inv, xhat=centred * inv, gamma=_beside(p[0], x) if p else None)
        return self._affine(self._together(state.xhat), p), state

    def backward(self, state: State, gy: Tensor, need_input: bool) -> tuple[Tensor | None, Parameters]:
        state.gy, xhat = gy, self._together(state.xhat)
        state.q = self._apart(gy if state.gamma is None else gy * state.gamma)
        state.q_xhat = self._mean(state.q * state.xhat)
        state.t = state.q - self._mean(state.q) - state.xhat * state.q_xhat
        gx = self._together(state.inv * state.t) if need_input else None
        return gx, self._parameters(state, gy * xhat, gy)

    def tangent(self, state: State, x_dot: Tensor | None, p_dot: Parameters) -> Tensor | None:
        y_dot = self._affine(self._together(state.xhat), p_dot) if p_dot else None
        if x_dot is None:
            return y_dot
        x_dot = self._apart(x_dot)
        state.x_xhat = self._mean(x_dot * state.xhat)
        state.xhat_dot = state.inv * (x_dot - self._mean(x_dot) - state.xhat * state.x_xhat)
        through = self._together(state.xhat_dot)
        if y_dot is None:
            return through
        # Without beta, the affine map of p_dot is the product alone, as it should be.
        return torch.addcmul(y_dot, through, state.gamma)

    def backward_tangent(
        self, state: State, x_dot: Tensor | None, p_dot: Parameters, gy_dot: Tensor, need_input: bool
    ) -> tuple[Tensor | None, Parameters]:
        moved = x_dot is not None
        g_gamma_dot = gy_dot * self._together(state.xhat)
        if moved:
            g_gamma_dot = g_gamma_dot.addcmul_(state.gy, self._together(state.xhat_dot))
        gx_dot = None
        if need_input:
            q_dot = gy_dot if state.gamma is None else gy_dot * state.gamma
            if p_dot:
                q_dot = torch.addcmul(q_dot, state.gy, _beside(p_dot[0], gy_dot))
            q_dot = self._apart(q_dot)
            products = q_dot * state.xhat
            if moved:
                products = products.addcmul_(state.q, state.xhat_dot)
            t_dot = q_dot - self._mean(q_dot) - state.xhat * self._mean(products)
            if moved:
                t_dot = t_dot - state.xhat_dot * state.q_xhat - state.inv * state.x_xhat * state.t
            gx_dot = self._together(state.inv * t_dot)
        return gx_dot, self._parameters(state, g_gamma_dot, gy_dot)

    def _apart(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.parts, -1)) if self.parts > 1 else x

    def _together(self, x: Tensor) -> Tensor:
        return x.flatten(-2) if self.parts > 1 else x

    def _mean(self, x: Tensor) -> Tensor:
        return x.mean(self.over, keepdim=True)

    def _affine(self, xhat: Tensor, p: Parameters) -> Tensor:
        if not p:
            return xhat
        y = xhat * _beside(p[0], xhat)
        return y + _beside(p[1], xhat) if len(p) > 1 else y

    def _parameters(self, state: State, g_gamma: Tensor, g_beta: Tensor) -> Parameters:
        gradients = [g.flatten(1, -2).sum(1) for g in (g_gamma, g_beta)[: len(self.names)]]
        shared = state.gamma is not None and len(state.gamma) == 1
        return [g.sum(0, keepdim=True) for g in gradients] if shared else gradients


def _beside(p: Tensor, x: Tensor) -> Tensor:
    """``[G or 1, features]`` in as many axes as ``x`` ``[G, n, ..., features]``."""
    return p.view(len(p), *[1] * (x.dim() - 2), -1)
