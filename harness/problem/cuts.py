"""Where a model may be cut into a shared body and an adapted tail: between its layers, or before its head."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


def children_of(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and children in order; a layer that stands there twice comes twice (``named_children`` drops repeats)."""
    return [(name, child) for name, child in module._modules.items() if child is not None]


def hooked(module: nn.Module) -> bool:
    """Whether calling ``module`` runs hooks besides its ``forward``."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, kind) for kind in kinds)


def is_sequence(module: nn.Module) -> bool:
    """Whether calling ``module`` is calling its children one after the other, and nothing else."""
    own = "forward" in vars(module) or type(module).__call__ is not nn.Module.__call__
    return getattr(type(module), "forward", None) is nn.Sequential.forward and not own and not hooked(module)


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


CUTS: dict[str, Callable[[nn.Module, set[int]], Parts]] = {
    "layers": _by_layers,
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


def _sequence(children: list[tuple[str, nn.Module]]) -> nn.Sequential:
    sequence = nn.Sequential()
    for name, child in children:
        sequence.add_module(name, child)
    return sequence
