"""How methods, groups and lists of them are called in sentences and tables."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.findings.groups import Group

_SHORT = {
    "maml": "MAML",
    "fomaml": "FOMAML",
    "anil": "ANIL",
    "boil": "BOIL",
    "imaml": "iMAML",
    "mamlpp": "MAML++",
    "metaoptnet": "MetaOptNet",
    "metasgd": "Meta-SGD",
    "minibatch_prox": "MinibatchProx",
    "protonet": "ProtoNet",
    "r2d2": "R2D2",
    "reptile": "Reptile",
}


def method_name(method: str) -> str:
    """``ANIL convex``, ``FOMAML``; other methods as they call themselves."""
    first, _, rest = method.partition(" ")
    return f"{_SHORT.get(first, first)} {rest}".strip()


def group_name(group: Group) -> str:
    """``ANIL convex (N = 5)``, with what else sets the group apart."""
    extra = extra_of(group)
    return f"{method_name(group.method)} (N = {group.inner_steps}{', ' + extra if extra else ''})"


def extra_of(group: Group) -> str:
    """What sets a group apart from others of its method and N, such as ``inner_lr=0.1``; mostly empty."""
    return group.label.removeprefix(f"{group.method} N={group.inner_steps}").strip()


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more
