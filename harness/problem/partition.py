"""Which parameters are w (adapted per task) and which are phi (shared): mutually exclusive, in one flat order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from harness.errors import InputError, NotSupported
from harness.problem.adapt import names_of, select
from harness.problem.chain import hooked, is_sequence
from harness.problem.cuts import CUTS, Headless
from harness.problem.quantities import Slot

if TYPE_CHECKING:
    from harness.problem.algorithm import Algorithm
    from harness.problem.quantities import Inner


def _slots(parameters: Mapping[str, Tensor], names: list[str]) -> tuple[Slot, ...]:
    slots, start = [], 0
    for name in names:
        shape = parameters[name].shape
        stop = start + shape.numel()
        slots.append(Slot(name, shape, start, stop))
        start = stop
    return tuple(slots)


class Network:
    """A model cut into a shared body and an adapted tail, evaluated as a function of flat w and phi.

    Everything before the first adapted layer is the *body*: it depends on phi alone, so its features are computed
    once per task, whatever N is. By ``cut`` these are, of an ``nn.Sequential``, its "layers" before; of another model
    what a "trace" of its forward finds before; or all that comes before the one layer that holds w, its "head", which
    is right if that layer has the last word (:mod:`harness.engines.agreement` looks). Else the model is all tail, as
    with "none". ``w`` and ``phi`` are flat vectors in the order of ``named_parameters``; frozen ones are in neither.
    Behind phi lies ``own``: what an algorithm has for meta-parameters of its own, by name, which no layer uses (see
    :func:`partitioned`).
    """

    def __init__(
        self,
        module: nn.Module,
        adapt: str,
        cut: str = "layers",
        together: int = 0,
        own: Mapping[str, Tensor] | None = None,
    ) -> None:
        """``together``: as many examples may pass the body at once, whatever task they are of; 0: those of one task."""
        names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
        chosen = set(select(module, adapt))
        self.module, self.adapt, self.cut, self.together = module, adapt, cut, together
        self.own = {name: nn.Parameter(part.detach().double()) for name, part in (own or {}).items()}
        parameters = self.parameters()
        self.w_slots = _slots(parameters, [name for name in names if name in chosen])
        self.phi_slots = _slots(parameters, [*(name for name in names if name not in chosen), *self.own])
        self.n_w = sum(slot.shape.numel() for slot in self.w_slots)
        self.n_phi = sum(slot.shape.numel() for slot in self.phi_slots)
        #: the name under which a flat vector holds a parameter, by every name that it goes by
        self.slot_names = {other: first for first, others in names_of(module).items() for other in others}
        named = {id(parameter): name for name, parameter in module.named_parameters()}
        of_w = {at for at, name in named.items() if name in chosen}
        self.body, self.tail = CUTS[cut](module, of_w)
        self._in_tail = _places(self.tail, named)
        self._in_body = _places(self.body, named) if self.body else {}
        if isinstance(self.body, Headless):
            self._in_body = {name: places for name, places in self._in_body.items() if name not in self._in_tail}
        self.body_slots = tuple(slot for slot in self.phi_slots if slot.name in self._in_body)
        outside = tuple(slot for slot in self.phi_slots if slot.name not in self._in_body)
        self.tail_slots = tuple(slot for slot in outside if slot.name not in self.own)
        self.own_slots = tuple(slot for slot in outside if slot.name in self.own)
        self.n_tail_phi, self.n_own = (
            sum(slot.shape.numel() for slot in slots) for slots in (self.tail_slots, self.own_slots)
        )

    def cuts(self) -> list[Network]:
        """The same partition of the same module with every cut that it may have, the one that shares most first."""
        ways = [self.cut_by(cut) for cut in CUTS]
        return [way for way in ways if way.body is not None or way.cut == "none"]

    def cut_by(self, cut: str, together: int = 0) -> Network:
        """The same partition of the same module with another cut."""
        return Network(self.module, self.adapt, cut, together, self.own)

    def parameters(self) -> dict[str, Tensor]:
        """The module's parameters by name, and the algorithm's own."""
        return {**dict(self.module.named_parameters()), **self.own}

    def linear_head(self) -> nn.Linear:
        """The one linear layer that w is, whose inputs are features; raises :class:`NotSupported` where it is not."""
        parts = [part for part in self.tail.modules() if type(part) not in (nn.Flatten, nn.Identity)]
        *around, layer = parts
        own = layer.parameters() if type(layer) is nn.Linear and all(map(is_sequence, around)) else ()
        if not isinstance(layer, nn.Linear) or hooked(layer) or self.n_w != sum(part.numel() for part in own):
            raise NotSupported(
                f"an inner problem in closed form needs w to be the weights of one linear layer with the last word, "
                f"and adapt {self.adapt!r} is {', '.join(slot.name for slot in self.w_slots)}; "
                f"allowed: last:1 of a model that ends in nn.Linear"
            )
        return layer

    def initial(self) -> tuple[Tensor, Tensor]:
        """The parameters as they are, as flat ``w`` ``[n_w]`` and ``phi`` ``[n_phi]``, detached."""
        parameters = self.parameters()
        like = next(iter(parameters.values()))

        def flat(slots: tuple[Slot, ...]) -> Tensor:
            parts = [parameters[slot.name].detach().reshape(-1).to(like) for slot in slots]
            return torch.cat(parts) if parts else like.new_zeros(0)

        return flat(self.w_slots), flat(self.phi_slots)

    def features(self, phi: Tensor, x: Tensor) -> Tensor:
        """Body output for the examples ``x`` of one task (``x`` itself where there is no body)."""
        if self.body is None:
            return x
        return _call(self.body, self._in_body, unflatten(phi, self.phi_slots), x)

    def encode(self, phi: Tensor, x: Tensor) -> Tensor:
        """Features ``[B, n, ...]`` of the examples ``x`` ``[B, n, ...]`` of B tasks."""
        tasks = max(self.together // x.shape[1], 1)
        if tasks == 1:
            return torch.stack([self.features(phi, of_task) for of_task in x])
        parts = [self.features(phi, some.flatten(0, 1)).unflatten(0, some.shape[:2]) for some in x.split(tasks)]
        return torch.cat(parts)

    def predict(self, w: Tensor, tail_phi: Tensor, h: Tensor) -> Tensor:
        """Tail output for features ``h`` of one task under ``w`` ``[n_w]`` and tail phi ``[n_tail_phi]``."""
        parameters = unflatten(w, self.w_slots) | unflatten(tail_phi, self.tail_slots)
        return _call(self.tail, self._in_tail, parameters, h)

    def tail_phi(self, phi: Tensor) -> Tensor:
        """The shared parameters that the tail uses, flat ``[n_tail_phi]``."""
        return torch.cat([phi[:0], *(phi[slot.start : slot.stop] for slot in self.tail_slots)])

    def own_of(self, phi: Tensor) -> dict[str, Tensor]:
        """The algorithm's own parameters by name, out of flat ``phi`` ``[n_phi]``."""
        return unflatten(phi[self.n_phi - self.n_own :], self.own_slots)

    def fixed(self) -> dict[str, Tensor]:
        """What of the module's ``state_dict`` is never trained, frozen parameters and buffers: the module's own."""
        trained = {slot.name for slot in (*self.w_slots, *self.phi_slots)}
        state = self.module.state_dict().items()
        return {
            name: part for name, part in state if self.slot_names.get(name) not in trained and torch.is_tensor(part)
        }

    def load(self, w: Tensor, phi: Tensor) -> nn.Module:
        """Write flat ``w`` and ``phi`` back into the module and return it."""
        parameters = self.parameters()
        with torch.no_grad():
            for vector, slots in ((w, self.w_slots), (phi, self.phi_slots)):
                for slot in slots:
                    parameters[slot.name].copy_(vector[slot.start : slot.stop].view(slot.shape))
        return self.module


def partitioned(algorithm: Algorithm, module: nn.Module, adapt: str, inner: Inner, cut: str = "layers") -> Network:
    """``module`` in the w and phi of ``adapt``, and behind phi the meta-parameters that are ``algorithm``'s own."""
    network = Network(module, adapt, cut)
    own = algorithm.parameters(network.w_slots, inner)
    if taken := own.keys() & network.parameters().keys():
        raise InputError(
            f"algorithm {algorithm.name!r} has a parameter {min(taken)!r} of its own, and so has the model; "
            f"give another name"
        )
    return Network(module, adapt, cut, own=own) if own else network


def _places(part: nn.Module, first: dict[int, str]) -> dict[str, list[str]]:
    """Where each parameter lies in ``part``, by the name that its slot has: once for every layer that holds it."""
    places: dict[str, list[str]] = {}
    for prefix, layer in part.named_modules():
        for name, parameter in layer.named_parameters(recurse=False):
            places.setdefault(first[id(parameter)], []).append(f"{prefix}.{name}" if prefix else name)
    return places


def _call(part: nn.Module, places: dict[str, list[str]], values: dict[str, Tensor], x: Tensor) -> Tensor:
    # torch's own tying exchanges a layer that stands in two places twice, and leaves the second tensor in the module.
    named = {place: values[name] for name, where in places.items() if name in values for place in where}
    return torch.func.functional_call(part, named, (x,), tie_weights=False)  # type: ignore[no-any-return]


def unflatten(vector: Tensor, slots: tuple[Slot, ...]) -> dict[str, Tensor]:
    """Named views of a flat vector ``[..., n]`` that holds ``slots`` one after the other; leading axes are kept.

    By ``split``, whose derivative is one concatenation; that of a slice is a vector of zeros for each parameter.
    """
    parts = vector.split([slot.shape.numel() for slot in slots], dim=-1)
    return {slot.name: part.view(vector.shape[:-1] + slot.shape) for slot, part in zip(slots, parts, strict=True)}
