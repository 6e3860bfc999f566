"""Functions applied to every entry, with their first and second derivative."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.engines.native.layers import Layer, Parameters, State


@dataclass(frozen=True)
class Function:
    """f with f' and f'', each of (x, f(x)); ``increasing``: nowhere falling, so that a maximum may be taken first."""

    value: Callable[[Tensor], Tensor]
    first: Callable[[Tensor, Tensor], Tensor]
    second: Callable[[Tensor, Tensor], Tensor]
    increasing: bool


class Elementwise(Layer):
    """y = f(x), entry by entry, in any layout of the examples."""

    increasing: bool

    def forward(self, x: Tensor, p: Parameters, groups: int) -> tuple[Tensor, State]:
        return self.value(x)

    def backward(self, state: State, gy: Tensor, need_input: bool) -> tuple[Tensor | None, Parameters]:
        return self.pulled(state, gy), []

    def tangent(self, state: State, x_dot: Tensor | None, p_dot: Parameters) -> Tensor | None:
        return None if x_dot is None else self.pushed(state, x_dot)

    def backward_tangent(
        self, state: State, x_dot: Tensor | None, p_dot: Parameters, gy_dot: Tensor, need_input: bool
    ) -> tuple[Tensor | None, Parameters]:
        return self.pulled_dot(state, x_dot, gy_dot), []

    @abstractmethod
    def value(self, x: Tensor) -> tuple[Tensor, State]:
        """f(x), and what the other passes need."""

    @abstractmethod
    def pulled(self, state: State, gy: Tensor) -> Tensor:
        """f'(x) gy; comes before the passes below."""

    @abstractmethod
    def pushed(self, state: State, x_dot: Tensor) -> Tensor:
        """f'(x) x_dot."""

    @abstractmethod
    def pulled_dot(self, state: State, x_dot: Tensor | None, gy_dot: Tensor) -> Tensor:
        """f'(x) gy_dot + f''(x) x_dot gy."""


class Activation(Elementwise):
    """A function that bends everywhere."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function, self.increasing = function, function.increasing

    def value(self, x: Tensor) -> tuple[Tensor, State]:
        y = self.function.value(x)
        return y, State(x=x, y=y)

    def pulled(self, state: State, gy: Tensor) -> Tensor:
        state.gy, state.first = gy, self.function.first(state.x, state.y)
        gx: Tensor = gy * state.first
        return gx

    def pushed(self, state: State, x_dot: Tensor) -> Tensor:
        y_dot: Tensor = x_dot * state.first
        return y_dot

    def pulled_dot(self, state: State, x_dot: Tensor | None, gy_dot: Tensor) -> Tensor:
        gx_dot: Tensor = gy_dot * state.first
        if x_dot is not None:
            gx_dot.addcmul_(state.gy * x_dot, self.function.second(state.x, state.y))
        return gx_dot


class Rectifier(Elementwise):
    """max(x, slope x) for a slope from 0 to 1: where it bends is read off y, and nothing else is kept."""

    increasing = True

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def value(self, x: Tensor) -> tuple[Tensor, State]:
        y = F.leaky_relu(x, self.slope) if self.slope else x.clamp_min(0)
        return y, State(y=y)

    def pulled(self, state: State, gy: Tensor) -> Tensor:
        # A stored mask would be converted from boolean in every product.
        if self.slope:
            gx: Tensor = torch.ops.aten.leaky_relu_backward(gy, state.y, self.slope, True)
        else:
            gx = torch.ops.aten.threshold_backward(gy, state.y, 0)
        return gx

    def pushed(self, state: State, x_dot: Tensor) -> Tensor:
        return self.pulled(state, x_dot)

    def pulled_dot(self, state: State, x_dot: Tensor | None, gy_dot: Tensor) -> Tensor:
        return self.pulled(state, gy_dot)


class Straight(Elementwise):
    """y = x."""

    increasing = True

    def value(self, x: Tensor) -> tuple[Tensor, State]:
        return x, State()

    def pulled(self, state: State, gy: Tensor) -> Tensor:
        return gy

    def pushed(self, state: State, x_dot: Tensor) -> Tensor:
        return x_dot

    def pulled_dot(self, state: State, x_dot: Tensor | None, gy_dot: Tensor) -> Tensor:
        return gy_dot


def activation(module: nn.Module) -> Elementwise | None:
    """The layer for an activation of torch, by its exact type (a subclass may compute something else)."""
    kind = type(module)
    if kind is nn.ReLU:
        return Rectifier(0.0)
    if isinstance(module, nn.LeakyReLU) and kind is nn.LeakyReLU and 0 <= module.negative_slope <= 1:
        return Rectifier(module.negative_slope)
    make = _FUNCTIONS.get(kind)
    return Activation(make(module)) if make else None


def _tanh(module: nn.Module) -> Function:
    return Function(torch.tanh, lambda x, y: 1 - y * y, lambda x, y: -2 * y * (1 - y * y), True)


def _sigmoid(module: nn.Module) -> Function:
    return Function(torch.sigmoid, lambda x, y: y * (1 - y), lambda x, y: y * (1 - y) * (1 - 2 * y), True)


def _silu(module: nn.Module) -> Function:
    def first(x: Tensor, y: Tensor) -> Tensor:
        s = torch.sigmoid(x)
        return s + y * (1 - s)

    def second(x: Tensor, y: Tensor) -> Tensor:
        s = torch.sigmoid(x)
        return s * (1 - s) * (2 + x * (1 - 2 * s))

    return Function(F.silu, first, second, False)


def _gelu(module: nn.Module) -> Function:
    if getattr(module, "approximate") == "tanh":  # noqa: B009 - of nn.GELU, which the table is indexed by
        return _gelu_by_tanh()

    def density(x: Tensor) -> Tensor:
        return torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)

    return Function(
        F.gelu,
        lambda x, y: torch.special.ndtr(x) + x * density(x),
        lambda x, y: (2 - x * x) * density(x),
        False,
    )


def _gelu_by_tanh() -> Function:
    """x (1 + tanh u) / 2 with u = a (x + b x^3)."""
    a, b = math.sqrt(2 / math.pi), 0.044715

    def parts(x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tanh(a * (x + b * x**3)), a * (1 + 3 * b * x * x)

    def first(x: Tensor, y: Tensor) -> Tensor:
        t, u_1 = parts(x)
        return (1 + t) / 2 + x * (1 - t * t) * u_1 / 2

    def second(x: Tensor, y: Tensor) -> Tensor:
        t, u_1 = parts(x)
        return (1 - t * t) * (u_1 + 3 * a * b * x * x - x * t * u_1 * u_1)

    return Function(lambda x: F.gelu(x, approximate="tanh"), first, second, False)


def _elu(module: nn.Module) -> Function:
    assert isinstance(module, nn.ELU)
    alpha = module.alpha
    return Function(
        lambda x: F.elu(x, alpha),
        lambda x, y: torch.where(x > 0, 1.0, y + alpha),
        lambda x, y: torch.where(x > 0, 0.0, y + alpha),
        alpha >= 0,
    )


def _softplus(module: nn.Module) -> Function:
    assert isinstance(module, nn.Softplus)
    beta, threshold = module.beta, module.threshold

    def first(x: Tensor, y: Tensor) -> Tensor:
        return torch.where(beta * x > threshold, 1.0, torch.sigmoid(beta * x))

    def second(x: Tensor, y: Tensor) -> Tensor:
        s = first(x, y)
        return beta * s * (1 - s)

    return Function(lambda x: F.softplus(x, beta, threshold), first, second, beta > 0)


_FUNCTIONS: dict[type[nn.Module], Callable[[nn.Module], Function]] = {
    nn.Tanh: _tanh,
    nn.Sigmoid: _sigmoid,
    nn.SiLU: _silu,
    nn.GELU: _gelu,
    nn.ELU: _elu,
    nn.Softplus: _softplus,
}
