"""Chains of torch's layers, and losses, as functions of JAX's arrays; what is not known is refused in one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from torch import nn

from harness.errors import NotSupported
from harness.problem.chain import Sum, chain_of, children_of, hooked, is_link, is_sequence
from harness.problem.losses import Loss

Array = Any
#: of the module's parameters by name, and the examples ``[n, ...]`` of one task
Program = Callable[[Mapping[str, Array], Array], Array]
#: of a layer's own weight and bias, each None where it has none, and of its input
Layer = Callable[[Array, Array, Array], Array]


def program(module: nn.Module, names: Mapping[int, str]) -> Program:
    """What calling ``module`` does; ``names`` has the name of each parameter by its ``id``.

    Raises :class:`NotSupported` for a layer that has no translation, or is called in another way than torch does.
    """
    if is_sequence(module):
        parts = [program(child, names) for _, child in children_of(module)]
        return lambda values, x: reduce(lambda h, part: part(values, h), parts, x)
    if isinstance(module, Sum):
        ways = [program(child, names) for child in module.children()]
        return lambda values, x: sum(way(values, x) for way in ways)
    kind = type(module).__name__
    if hooked(module) or "forward" in vars(module):
        raise _unknown(f"layer {kind} has hooks or a forward of its own")
    if not is_link(module):
        try:
            return program(chain_of(module), names)
        except NotSupported as reason:
            raise _unknown(f"layer {kind} does what has no translation") from reason
    layer = _LAYERS[type(module)](module) if type(module) in _LAYERS else None
    own = {name: id(part) for name, part in module._parameters.items() if part is not None}
    if layer is None or not own.keys() <= {"weight", "bias"} or not names.keys() >= set(own.values()):
        raise _unknown(f"layer {kind}, as it is set, has no translation")
    weight, bias = (names.get(own.get(name, 0)) for name in ("weight", "bias"))
    return lambda values, x: layer(values.get(weight or ""), values.get(bias or ""), x)


def _unknown(what: str) -> NotSupported:
    known = ", ".join(sorted(layer.__name__ for layer in _LAYERS))
    return NotSupported(f"engine jax: {what}; allowed: chains of {known}, or --engine native")


def _linear(layer: nn.Linear) -> Layer:
    return lambda weight, bias, x: x @ weight.T + (0 if bias is None else bias)


def _conv2d(layer: nn.Conv2d) -> Layer | None:
    if layer.padding_mode != "zeros":
        return None
    padding = layer.padding.upper() if isinstance(layer.padding, str) else [(edge, edge) for edge in layer.padding]

    def convolved(weight: Array, bias: Array, x: Array) -> Array:
        y = jax.lax.conv_general_dilated(
            x, weight, layer.stride, padding, rhs_dilation=layer.dilation, feature_group_count=layer.groups
        )
        return y if bias is None else y + bias[:, None, None]

    return convolved


def _batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d) -> Layer | None:
    if not layer.training and layer.running_mean is not None:
        return None

    def normed(weight: Array, bias: Array, x: Array) -> Array:
        over, channels = (0, *range(2, x.ndim)), (-1, *(1,) * (x.ndim - 2))
        y = (x - x.mean(over, keepdims=True)) * jax.lax.rsqrt(x.var(over, keepdims=True) + layer.eps)
        return y if weight is None else y * weight.reshape(channels) + bias.reshape(channels)

    return normed


def _max_pool2d(layer: nn.MaxPool2d) -> Layer | None:
    size, stride, padding, dilation = (
        (value, value) if isinstance(value, int) else tuple(value)
        for value in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    )
    if layer.ceil_mode or layer.return_indices:
        return None
    edges = ((0, 0), (0, 0), *((edge, edge) for edge in padding))
    return lambda weight, bias, x: jax.lax.reduce_window(
        x, -jnp.inf, jax.lax.max, (1, 1, *size), (1, 1, *stride), edges, window_dilation=(1, 1, *dilation)
    )


def _mean2d(layer: nn.AdaptiveAvgPool2d) -> Layer | None:
    if layer.output_size not in (1, (1, 1)):
        return None
    return lambda weight, bias, x: x.mean((2, 3), keepdims=True)


def _flatten(layer: nn.Flatten) -> Layer | None:
    if (layer.start_dim, layer.end_dim) != (1, -1):
        return None
    return lambda weight, bias, x: x.reshape(len(x), -1)


def _by_number(function: Callable[[Array], Array]) -> Callable[[nn.Module], Layer]:
    return lambda layer: lambda weight, bias, x: function(x)


def _leaky_relu(layer: nn.LeakyReLU) -> Layer:
    return lambda weight, bias, x: jnp.where(x > 0, x, layer.negative_slope * x)


#: by exact type, since a subclass may compute something else; None of a layer's options that are not known
_LAYERS: dict[type[nn.Module], Callable[[Any], Layer | None]] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv2d,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.MaxPool2d: _max_pool2d,
    nn.AdaptiveAvgPool2d: _mean2d,
    nn.Flatten: _flatten,
    nn.Identity: _by_number(lambda x: x),
    nn.ReLU: _by_number(jax.nn.relu),
    nn.Tanh: _by_number(jnp.tanh),
    nn.Sigmoid: _by_number(jax.nn.sigmoid),
    nn.LeakyReLU: _leaky_relu,
}


def loss_of(loss: Loss) -> Callable[[Array, Array], Array]:
    """The loss of one task's predictions ``[S, out]`` and targets; raises :class:`NotSupported`."""
    if loss.own or not (loss.plain or loss.name == "huber"):
        raise NotSupported(f"engine jax: loss {loss.name} with code or options of its own; allowed: --engine native")
    return {"cross_entropy": _cross_entropy, "mse": _mse, "l1": _l1, "huber": _huber(loss), "bce": _bce}[loss.name]


def _cross_entropy(prediction: Array, target: Array) -> Array:
    soft = jnp.issubdtype(target.dtype, jnp.floating)
    share = target if soft else jax.nn.one_hot(target, prediction.shape[-1], dtype=prediction.dtype)
    return -(share * jax.nn.log_softmax(prediction)).sum(-1).mean()


def _mse(prediction: Array, target: Array) -> Array:
    return ((prediction - target) ** 2).mean()


def _l1(prediction: Array, target: Array) -> Array:
    return jnp.abs(prediction - target).mean()


def _huber(loss: Loss) -> Callable[[Array, Array], Array]:
    def value(prediction: Array, target: Array) -> Array:
        error = prediction - target
        within = jnp.clip(error, -loss.options["delta"], loss.options["delta"])
        return (within * (error - within / 2)).mean()

    return value


def _bce(prediction: Array, target: Array) -> Array:
    log = jax.nn.log_sigmoid
    return -(target * log(prediction) + (1 - target) * log(-prediction)).mean()
