"""Which parameters are adapted: everything, the last layers, parameters of a kind, or those that a regex names."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import nn

from harness.errors import InputError, NotSupported
from harness.problem.chain import children_as_called, children_of, is_sequence


def layers_of(module: nn.Module) -> list[str]:
    """Names of the top-level children that have parameters, in order: what ``last:k`` counts; of a single layer "".

    In the order in which they are called, where the module's forward can be followed, else in that of their names.
    """
    named = [name for name, child in children_of(module) if any(True for _ in child.parameters())]
    if not named and any(True for _ in module.parameters()):
        return [""]
    if is_sequence(module):
        return named
    try:
        called = children_as_called(module)
    except NotSupported:
        return named
    return [*(name for name in named if name not in called), *(name for name in called if name in named)]


def names_of(module: nn.Module) -> dict[str, list[str]]:
    """Every name that a parameter goes by, tied ones several, under the first of them."""
    first: dict[int, str] = {}
    names: dict[str, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(first.setdefault(id(parameter), name), []).append(name)
    return names


def _of_norms(module: nn.Module, names: dict[str, list[str]]) -> list[str]:
    """Scales and shifts of normalisation."""
    norms = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
    found = {
        id(part) for layer in module.modules() if isinstance(layer, norms) for part in layer.parameters(recurse=False)
    }
    return [name for name, part in module.named_parameters() if id(part) in found]


def _biases(module: nn.Module, names: dict[str, list[str]]) -> list[str]:
    """Everything that is added to what a layer makes, as torch and PEFT call it (BitFit: Zaken et al. 2022)."""
    return [name for name, others in names.items() if any(re.search(r"(^|[._])bias", one) for one in others)]


def _lora(module: nn.Module, names: dict[str, list[str]]) -> list[str]:
    """Low-rank adapters, as PEFT calls them: ``lora_A``, ``lora_B`` and their kind (Hu et al. 2022)."""
    return [name for name, others in names.items() if any(re.search(r"(^|\.)lora_", one) for one in others)]


#: what people adapt, by a name of its own: where it is found, and what it is
_KINDS: dict[str, tuple[Callable[[nn.Module, dict[str, list[str]]], list[str]], str]] = {
    "norm": (_of_norms, "scale or shift of normalisation"),
    "bias": (_biases, "bias"),
    "lora": (_lora, "adapter called lora_A, lora_B or the like"),
}


def select(module: nn.Module, adapt: str) -> list[str]:
    """The parameters that ``adapt`` puts into w: ``all``, ``last:k``, ``not last:k``, ``norm``, ``bias``, ``lora`` or a
    regex.

    Frozen parameters (``requires_grad = False``) are in none. A tied parameter is one, whatever it is called.
    """
    names = names_of(module)
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    if adapt == "all":
        selected = list(names)
    elif match := re.fullmatch(r"(not )?last:(\d+)", adapt):
        selected = _last(module, names, int(match[2]), adapt)
        if match[1] and not (selected := [name for name in names if name not in selected]):
            raise InputError(f"adapt {adapt!r} adapts nothing: the model has no other layers; allowed: a smaller k")
    elif adapt in _KINDS:
        find, what = _KINDS[adapt]
        if not (selected := find(module, names)):
            raise InputError(f"adapt {adapt!r}: the model has no {what}; allowed: all, last:k or a regex")
    else:
        try:
            pattern = re.compile(adapt)
        except re.error as error:
            raise InputError(
                f"adapt {adapt!r} is no regular expression ({error}); allowed: all, last:k or a regex"
            ) from error
        selected = [name for name, others in names.items() if any(pattern.search(other) for other in others)]
        if not selected:
            raise InputError(
                f"adapt {adapt!r} matches no parameter; allowed: all, last:k or a regex over {', '.join(names)}"
            )
    trained = [name for name in selected if name not in frozen]
    if not trained:
        free = ", ".join(name for name in names if name not in frozen) or "none, all are frozen"
        raise InputError(f"adapt {adapt!r} names frozen parameters only (requires_grad = False); not frozen: {free}")
    return trained


def _last(module: nn.Module, names: dict[str, list[str]], count: int, adapt: str) -> list[str]:
    layers = layers_of(module)
    if not 1 <= count <= len(layers):
        raise InputError(f"adapt {adapt!r}: this model has {len(layers)} layers, allowed: last:1 to last:{len(layers)}")
    chosen = tuple(f"{layer}." if layer else "" for layer in layers[-count:])
    for first, others in names.items():
        inside = [other for other in others if other.startswith(chosen)]
        if inside and len(inside) < len(others):
            outside = next(other for other in others if other not in inside)
            raise InputError(
                f"adapt {adapt!r}: {inside[0]!r} is tied to {outside!r}, which is not in the last {count} layers; "
                f"allowed: all, or a regex, which adapts {first!r} in both places"
            )
    return [first for first, others in names.items() if others[0].startswith(chosen)]
