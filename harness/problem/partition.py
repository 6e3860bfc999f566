"""Which parameters are w (adapted per task) and which are phi (shared): mutually exclusive, in one flat order."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.errors import InputError, NotSupported
from harness.problem.chain import chain_of, children_as_called, hooked


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


def children_of(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and children in order; a layer that stands there twice comes twice (``named_children`` drops repeats)."""
    return [(name, child) for name, child in module._modules.items() if child is not None]


def is_sequence(module: nn.Module) -> bool:
    """Whether calling ``module`` is calling its children one after the other, and nothing else."""
    own = "forward" in vars(module) or type(module).__call__ is not nn.Module.__call__
    return getattr(type(module), "forward", None) is nn.Sequential.forward and not own and not hooked(module)


def layers_of(module: nn.Module) -> list[str]:
    """Names of the top-level children that have parameters, in order: what ``last:k`` counts.

    In the order in which they are called, where the module's forward can be followed, else in that of their names.
    """
    named = [name for name, child in children_of(module) if any(True for _ in child.parameters())]
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
    """The parameters that ``adapt`` puts into w: ``all``, ``last:k``, ``norm``, ``bias``, ``lora`` or a regex.

    Frozen parameters (``requires_grad = False``) are in none. A tied parameter is one, whatever it is called.
    """
    names = names_of(module)
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    if adapt == "all":
        selected = list(names)
    elif match := re.fullmatch(r"last:(\d+)", adapt):
        selected = _last(module, names, int(match[1]), adapt)
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
    chosen = tuple(f"{layer}." for layer in layers[-count:])
    for first, others in names.items():
        inside = [other for other in others if other.startswith(chosen)]
        if inside and len(inside) < len(others):
            outside = next(other for other in others if other not in inside)
            raise InputError(
                f"adapt {adapt!r}: {inside[0]!r} is tied to {outside!r}, which is not in the last {count} layers; "
                f"allowed: all, or a regex, which adapts {first!r} in both places"
            )
    return [first for first, others in names.items() if others[0].startswith(chosen)]


class Network:
    """A model cut into a shared body and an adapted tail, evaluated as a function of flat w and phi.

    Everything before the first adapted layer is the *body*: it depends on phi alone, so its features are computed
    once per task, whatever N is. By ``cut`` these are, of an ``nn.Sequential``, its "layers" before; of another model
    what a "trace" of its forward finds before; or all that comes before the one layer that holds w, its "head", which
    is right if that layer has the last word (:mod:`harness.engines.agreement` looks). Else the model is all tail, as
    with "none". ``w`` and ``phi`` are flat vectors in the order of ``named_parameters``; frozen ones are in neither.
    """

    def __init__(self, module: nn.Module, adapt: str, cut: str = "layers", together: int = 0) -> None:
        """``together``: as many examples may pass the body at once, whatever task they are of; 0: those of one task."""
        names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
        chosen = set(select(module, adapt))
        self.module, self.adapt, self.cut, self.together = module, adapt, cut, together
        self.w_slots = _slots(module, [name for name in names if name in chosen])
        self.phi_slots = _slots(module, [name for name in names if name not in chosen])
        self.n_w = sum(slot.shape.numel() for slot in self.w_slots)
        self.n_phi = sum(slot.shape.numel() for slot in self.phi_slots)
        #: the name under which a flat vector holds a parameter, by every name that it goes by
        self.slot_names = {other: first for first, others in names_of(module).items() for other in others}
        named = {id(parameter): name for name, parameter in module.named_parameters()}
        of_w = {at for at, name in named.items() if name in chosen}
        self.body, self.tail = _CUTS[cut](module, of_w)
        self._in_tail = _places(self.tail, named)
        self._in_body = _places(self.body, named) if self.body else {}
        if isinstance(self.body, Headless):
            self._in_body = {name: places for name, places in self._in_body.items() if name not in self._in_tail}
        self.body_slots = tuple(slot for slot in self.phi_slots if slot.name in self._in_body)
        self.tail_slots = tuple(slot for slot in self.phi_slots if slot.name not in self._in_body)
        self.n_tail_phi = sum(slot.shape.numel() for slot in self.tail_slots)

    def cuts(self) -> list[Network]:
        """The same partition of the same module with every cut that it may have, the one that shares most first."""
        ways = [Network(self.module, self.adapt, cut) for cut in _CUTS]
        return [way for way in ways if way.body is not None or way.cut == "none"]

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

    def fixed(self) -> dict[str, Tensor]:
        """What of the module's ``state_dict`` is never trained, frozen parameters and buffers: the module's own."""
        trained = {slot.name for slot in (*self.w_slots, *self.phi_slots)}
        state = self.module.state_dict().items()
        return {
            name: part for name, part in state if self.slot_names.get(name) not in trained and torch.is_tensor(part)
        }

    def load(self, w: Tensor, phi: Tensor) -> nn.Module:
        """Write flat ``w`` and ``phi`` back into the module and return it."""
        parameters = dict(self.module.named_parameters())
        with torch.no_grad():
            for vector, slots in ((w, self.w_slots), (phi, self.phi_slots)):
                for slot in slots:
                    parameters[slot.name].copy_(vector[slot.start : slot.stop].view(slot.shape))
        return self.module


class Headless(nn.Module):
    """A module without its head: what enters the layer called ``head``, whose place an identity takes meanwhile."""

    def __init__(self, module: nn.Module, head: str) -> None:
        super().__init__()
        self.module = module
        path, _, self.name = head.rpartition(".")
        self.owner = [module.get_submodule(path)]  # in a list, so that it is no second child

    def forward(self, x: Tensor) -> Tensor:
        """Features of ``x``."""
        layers = self.owner[0]._modules
        head, layers[self.name] = layers[self.name], nn.Identity()
        try:
            return self.module(x)  # type: ignore[no-any-return]
        finally:
            layers[self.name] = head


Parts = tuple[nn.Module | None, nn.Module]


def _by_layers(module: nn.Module, w: set[int]) -> Parts:
    """Body and tail of an ``nn.Sequential``; ``w``: the identities of the adapted parameters."""
    children = children_of(module) if is_sequence(module) else []
    if at := _before(children, w):
        return _sequence(children[:at]), _sequence(children[at:])
    return None, module


def _by_head(module: nn.Module, w: set[int]) -> Parts:
    """The module without its head, and the head: the smallest layer that holds all of ``w``."""
    name, head = "", module
    while inside := [(part, child) for part, child in children_of(head) if w <= _identities(child)]:
        part, head = inside[0]
        name = f"{name}.{part}" if name else part
    within = set(head.modules())
    outside = {id(p) for layer in module.modules() if layer not in within for p in layer._parameters.values()}
    if not _identities(module) - _identities(head) or _identities(head) & outside:
        return None, module
    return Headless(module, name), head


def _not_at_all(module: nn.Module, w: set[int]) -> Parts:
    return None, module


def _by_trace(module: nn.Module, w: set[int]) -> Parts:
    """What ``module``, which is no ``nn.Sequential``, does before its first adapted layer, and from there on."""
    if is_sequence(module):
        return None, module
    try:
        links = chain_of(module)
    except NotSupported:
        return None, module
    body, tail = _by_layers(links, w)
    return body, module if body is None else tail


_CUTS: dict[str, Callable[[nn.Module, set[int]], Parts]] = {
    "layers": _by_layers,
    "trace": _by_trace,
    "head": _by_head,
    "none": _not_at_all,
}


def _identities(module: nn.Module) -> set[int]:
    return {id(parameter) for parameter in module.parameters()}


def _before(children: list[tuple[str, nn.Module]], w: set[int]) -> int:
    """How many of ``children`` are the body: they hold nothing of ``w`` and share no parameter with those behind."""
    own = [_identities(child) for _, child in children]
    at = next((number for number, ids in enumerate(own) if ids & w), 0)
    while tied := [number for number in range(at) if own[number] & set().union(*own[at:])]:
        at = tied[0]
    return at if any(own[:at]) else 0  # layers without parameters share nothing worth a name of their own


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


def _sequence(children: list[tuple[str, nn.Module]]) -> nn.Sequential:
    sequence = nn.Sequential()
    for name, child in children:
        sequence.add_module(name, child)
    return sequence


def unflatten(vector: Tensor, slots: tuple[Slot, ...]) -> dict[str, Tensor]:
    """Named views of a flat vector ``[..., n]`` that holds ``slots`` one after the other; leading axes are kept.

    By ``split``, whose derivative is one concatenation; that of a slice is a vector of zeros for each parameter.
    """
    parts = vector.split([slot.shape.numel() for slot in slots], dim=-1)
    return {slot.name: part.view(vector.shape[:-1] + slot.shape) for slot, part in zip(slots, parts, strict=True)}
