"""Which parameters are w (adapted per task) and which are phi (shared): mutually exclusive, in one flat order."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.errors import InputError


@dataclass(frozen=True)
class Slot:
    """Where one named parameter lies in a flat vector."""

    name: str
    shape: torch.Size
    start: int
    stop: int


def _slots(module: nn.Module, names: list[str]) -> tuple[Slot, ...]:
    slots, start = [], 0
    shapes = {name: parameter.shape for name, parameter in module.named_parameters()}
    for name in names:
        stop = start + shapes[name].numel()
        slots.append(Slot(name, shapes[name], start, stop))
        start = stop
    return tuple(slots)


def layers_of(module: nn.Module) -> list[str]:
    """Names of the top-level children that have parameters, in order: what ``last:k`` counts."""
    return [name for name, child in module.named_children() if any(True for _ in child.parameters())]


def select(module: nn.Module, adapt: str) -> list[str]:
    """Names of the parameters that ``adapt`` puts into w: ``all``, ``last:k`` or a regular expression."""
    names = [name for name, _ in module.named_parameters()]
    if adapt == "all":
        return names
    if match := re.fullmatch(r"last:(\d+)", adapt):
        layers = layers_of(module)
        count = int(match[1])
        if not 1 <= count <= len(layers):
            raise InputError(
                f"adapt {adapt!r}: this model has {len(layers)} layers, allowed: last:1 to last:{len(layers)}"
            )
        chosen = tuple(f"{layer}." for layer in layers[-count:])
        return [name for name in names if name.startswith(chosen)]
    try:
        pattern = re.compile(adapt)
    except re.error as error:
        raise InputError(
            f"adapt {adapt!r} is no regular expression ({error}); allowed: all, last:k or a regex"
        ) from error
    selected = [name for name in names if pattern.search(name)]
    if not selected:
        raise InputError(
            f"adapt {adapt!r} matches no parameter; allowed: all, last:k or a regex over {', '.join(names)}"
        )
    return selected


class Network:
    """A model cut into a shared body and an adapted tail, evaluated as a function of flat w and phi.

    Where the model is an ``nn.Sequential``, everything before the first adapted layer is the *body*:
    it depends on phi alone, so its features are computed once per task, whatever N is. Any other
    model is all tail. ``w`` and ``phi`` are flat vectors in the order of ``named_parameters``.
    """

    def __init__(self, module: nn.Module, adapt: str) -> None:
        names = [name for name, _ in module.named_parameters()]
        chosen = set(select(module, adapt))
        self.module = module
        self.w_slots = _slots(module, [name for name in names if name in chosen])
        self.phi_slots = _slots(module, [name for name in names if name not in chosen])
        self.n_w = sum(slot.shape.numel() for slot in self.w_slots)
        self.n_phi = sum(slot.shape.numel() for slot in self.phi_slots)
        children = list(module.named_children()) if isinstance(module, nn.Sequential) else []
        cut = 0
        while cut < len(children) and not any(slot.name.startswith(f"{children[cut][0]}.") for slot in self.w_slots):
            cut += 1
        if not any(True for _, child in children[:cut] for _ in child.parameters()):
            cut = 0  # layers without parameters share nothing worth a name of their own
        self.body = _sequence(children[:cut]) if cut else None
        self.tail = _sequence(children[cut:]) if cut else module
        in_body = {name for name, _ in self.body.named_parameters()} if self.body else set()
        self.body_slots = tuple(slot for slot in self.phi_slots if slot.name in in_body)
        self.tail_slots = tuple(slot for slot in self.phi_slots if slot.name not in in_body)
        self.n_tail_phi = sum(slot.shape.numel() for slot in self.tail_slots)

    def initial(self) -> tuple[Tensor, Tensor]:
        """The module's own parameters as flat ``w`` ``[n_w]`` and ``phi`` ``[n_phi]``, detached."""
        parameters = dict(self.module.named_parameters())

        def flat(slots: tuple[Slot, ...]) -> Tensor:
            like = next(iter(parameters.values()))
            parts = [parameters[slot.name].detach().reshape(-1) for slot in slots]
            return torch.cat(parts) if parts else like.new_zeros(0)

        return flat(self.w_slots), flat(self.phi_slots)

    def features(self, phi: Tensor, x: Tensor) -> Tensor:
        """Body output for the examples ``x`` of one task (``x`` itself where there is no body)."""
        if self.body is None:
            return x
        return torch.func.functional_call(self.body, unflatten(phi, self.body_slots), (x,))  # type: ignore[no-any-return]

    def predict(self, w: Tensor, tail_phi: Tensor, h: Tensor) -> Tensor:
        """Tail output for features ``h`` of one task under ``w`` ``[n_w]`` and tail phi ``[n_tail_phi]``."""
        parameters = unflatten(w, self.w_slots)
        start = 0
        for slot in self.tail_slots:
            parameters[slot.name] = tail_phi[start : start + slot.shape.numel()].view(slot.shape)
            start += slot.shape.numel()
        return torch.func.functional_call(self.tail, parameters, (h,))  # type: ignore[no-any-return]

    def tail_phi(self, phi: Tensor) -> Tensor:
        """The shared parameters that the tail uses, flat ``[n_tail_phi]``."""
        return torch.cat([phi[:0], *(phi[slot.start : slot.stop] for slot in self.tail_slots)])

    def load(self, w: Tensor, phi: Tensor) -> nn.Module:
        """Write flat ``w`` and ``phi`` back into the module and return it."""
        parameters = dict(self.module.named_parameters())
        with torch.no_grad():
            for vector, slots in ((w, self.w_slots), (phi, self.phi_slots)):
                for slot in slots:
                    parameters[slot.name].copy_(vector[slot.start : slot.stop].view(slot.shape))
        return self.module


def _sequence(children: list[tuple[str, nn.Module]]) -> nn.Sequential:
    sequence = nn.Sequential()
    for name, child in children:
        sequence.add_module(name, child)
    return sequence


def unflatten(vector: Tensor, slots: tuple[Slot, ...]) -> dict[str, Tensor]:
    """Named views of a flat vector ``[..., n]``; leading axes are kept."""
    return {slot.name: vector[..., slot.start : slot.stop].unflatten(-1, slot.shape) for slot in slots}


ModelLike = nn.Module | Callable[..., nn.Module]
