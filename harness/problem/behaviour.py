"""Is the module a function of its parameters and one batch of examples? Nothing else can be trained here."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from harness.errors import InputError


def check_behaviour(module: nn.Module, x: Tensor, outputs: int) -> Tensor:
    """The prediction for ``x``. Raises :class:`InputError`, which names the layer, unless ``module`` maps ``x``
    ``[n, ...]`` to finite ``[n, outputs]``, twice the same, and leaves parameters, buffers, ``x`` and all generators
    as they were.
    """
    shape, wanted = list(x.shape), f"[{len(x)}, {outputs}]"
    before = {name: part.detach().clone() for name, part in _tensors(module).items()}
    given, generators = x.clone(), _generators(x)
    with torch.no_grad():
        prediction = module(x)
    if not isinstance(prediction, Tensor) or not prediction.is_floating_point():
        kind = prediction.dtype if isinstance(prediction, Tensor) else type(prediction).__name__
        raise InputError(f"gives {kind} for examples of shape {shape}; allowed: a tensor {wanted} of real numbers")
    if prediction.shape != (len(x), outputs):
        raise InputError(f"gives {list(prediction.shape)} for examples of shape {shape}; allowed: {wanted}")
    if not torch.equal(x, given):
        raise InputError("changes the examples in place; allowed: layers that leave their input as it was")
    for name, part in _tensors(module).items():
        if name not in before or not torch.equal(part, before[name]):
            raise InputError(
                f"changes {name!r} at every evaluation, held-out ones too; allowed: layers without state, "
                f"or --set model_mode=eval"
            )
    _provoke(module, x)
    if _generators(x) != generators:
        layer = _layer_that_changes(module, x, lambda _: _generators(x))
        raise InputError(
            f"draws random numbers{layer}; allowed: layers that draw none (dropout with p = 0), "
            f"or --set model_mode=eval"
        )
    if not bool(prediction.isfinite().all()):
        layer = _layer_that_changes(module, x, _finite)
        raise InputError(f"gives NaN or infinity{layer} for examples of shape {shape}; allowed: finite numbers")
    with torch.no_grad():
        again = module(x)
    if not torch.allclose(again, prediction, rtol=1e-10, atol=1e-10):
        raise InputError("gives another prediction when it is called again; allowed: layers without state")
    return prediction


def _layer_that_changes(module: nn.Module, x: Tensor, look: Callable[[Any], Any]) -> str:
    """`` in layer '...'``: the innermost one that ``look`` sees something else of on leaving than on entering."""
    entered: dict[nn.Module, list[Any]] = {}
    found: list[str] = []
    handles = []
    for name, layer in module.named_modules():

        def enter(layer: nn.Module, inputs: Any) -> None:
            entered.setdefault(layer, []).append(look(inputs))

        def leave(layer: nn.Module, _: Any, output: Any, name: str = name) -> None:
            if entered[layer].pop() != look(output):
                found.append(name)

        handles += [layer.register_forward_pre_hook(enter), layer.register_forward_hook(leave)]
    try:
        with torch.no_grad():
            module(x)
    finally:
        for handle in handles:
            handle.remove()
    return f" in layer {found[0]!r}" if found and found[0] else ""


def _finite(values: Any) -> bool:
    parts = values if isinstance(values, tuple | list) else (values,)
    return all(bool(part.isfinite().all()) for part in parts if isinstance(part, Tensor))


def _provoke(module: nn.Module, x: Tensor) -> None:
    """Call ``module`` where other branches of its layers may be taken: on the negative of ``x``, and on noise."""
    if not x.is_floating_point():
        return
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for other in (-x, noise.to(x)):
        with torch.no_grad(), suppress(Exception):  # it need not take such examples
            module(other)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _generators(x: Tensor) -> tuple[bytes, ...]:
    """The states of every generator that a layer may draw from."""
    of_torch = [torch.get_rng_state(), *([torch.cuda.get_rng_state(x.device)] if x.is_cuda else [])]
    elsewhere = pickle.dumps((random.getstate(), numpy.random.get_state()))
    return elsewhere, *(state.numpy().tobytes() for state in of_torch)
