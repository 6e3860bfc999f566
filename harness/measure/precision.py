"""How exactly numbers are computed: what a process may have set before, and what holds inside a run whatever it had.

Settings of torch that a run sets itself change no key. Those that it leaves to the user, because they trade speed or
determinism, are part of the key where they are not torch's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from harness.errors import InputError

_BACKENDS = torch.backends
#: everything that has a precision of its own for float32, the wider before the narrower
_PRECISIONS: tuple[Any, ...] = (
    _BACKENDS,
    _BACKENDS.cudnn,
    _BACKENDS.mkldnn,
    _BACKENDS.cuda.matmul,
    *(getattr(_BACKENDS.cudnn, name) for name in ("conv", "rnn")),
    *(getattr(_BACKENDS.mkldnn, name) for name in ("matmul", "conv", "rnn")),
)


class _Flag(NamedTuple):
    usual: bool
    get: Callable[[], bool]
    set: Callable[[bool], Any]


def _attribute(module: Any, name: str, usual: bool) -> _Flag:
    return _Flag(usual, lambda: bool(getattr(module, name)), lambda value: setattr(module, name, value))


#: left to the user: they trade speed for determinism, and change what is computed by rounding
_FLAGS = {
    "deterministic_algorithms": _Flag(
        False, torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms
    ),
    "flush_denormal": _Flag(False, lambda: _flushes(), torch.set_flush_denormal),
    "cudnn_deterministic": _attribute(_BACKENDS.cudnn, "deterministic", False),
    "cudnn_benchmark": _attribute(_BACKENDS.cudnn, "benchmark", False),
    "cudnn_enabled": _attribute(_BACKENDS.cudnn, "enabled", True),
    "mkldnn_enabled": _attribute(_BACKENDS.mkldnn, "enabled", True),
}


def flags() -> dict[str, bool]:
    """Those of torch's flags that are not as torch has them and that a run leaves alone: part of its key."""
    return {name: value for name, flag in _FLAGS.items() if (value := flag.get()) != flag.usual}


def adopt(found: Mapping[str, bool]) -> None:
    """Set what :func:`flags` found in another process."""
    for name, value in found.items():
        _FLAGS[name].set(value)


def _flushes() -> bool:
    return float(torch.tensor(1e-310, dtype=torch.float64) * 0.5) == 0.0


@contextmanager
def settled(tf32_allowed: bool | None = None) -> Iterator[None]:
    """Inside, numbers are computed as a run has them, whatever this process had set before; afterwards it has it again.

    New tensors are float32 and on the CPU unless somebody says otherwise, nothing is cast by itself, gradients can be
    taken, numpy warns as it does by default, and float32 is multiplied as torch starts (convolutions on CUDA may round
    to TF32 and nothing else may) or as ``tf32_allowed`` says.
    """
    before, names = [place.fp32_precision for place in _PRECISIONS], _names()
    dtype = torch.get_default_dtype()
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":  # only then: it costs something at every call of torch
            stack.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        try:
            torch.set_default_dtype(torch.float32)
            for place in _PRECISIONS:
                place.fp32_precision = "none"
            _allow_tf32(True, "highest")
            with tf32(tf32_allowed):
                yield
        finally:
            torch.set_default_dtype(dtype)
            if names is not None:
                _allow_tf32(*names)
            for place, precision in zip(_PRECISIONS, before, strict=True):
                place.fp32_precision = precision


def check_tf32(allowed: bool | None, device: torch.device, where: str) -> None:
    """Raise :class:`InputError` where TF32 is asked of a device that has none."""
    if allowed and device.type != "cuda":
        raise InputError(f"{where}: {device} has no TF32; allowed there: false, or unset")


@contextmanager
def tf32(allowed: bool | None) -> Iterator[None]:
    """Inside, convolutions and matrix products may round to TF32, or may not; None: as torch has it.

    That is, unless changed: convolutions may, matrix products may not. ``environment.json`` holds what was in force.
    """
    before = _names()
    if allowed is not None:
        _allow_tf32(allowed, "high" if allowed else "highest")
    try:
        yield
    finally:
        if allowed is not None and before is not None:
            _allow_tf32(*before)


def _names() -> tuple[bool, str] | None:
    """Both settings by torch's older names; None where the newer ones have set what these cannot say."""
    try:
        return torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


def _allow_tf32(in_convolutions: bool, in_products: str) -> None:
    torch.backends.cudnn.allow_tf32 = in_convolutions
    torch.set_float32_matmul_precision(in_products)
