"""A module of a person's own as a chain of its layers, found by tracing what its forward does with them.

Nobody believes it: whatever is made of a chain is held to the module's own forward before a run
(:mod:`harness.engines.agreement`).
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from harness.errors import NotSupported
from harness.store.foreign import one_line


class Sum(nn.Module):
    """Chains that all begin with what enters, added up: a residual block. An empty chain is a way past the others."""

    def __init__(self, branches: Iterable[nn.Sequential]) -> None:
        super().__init__()
        for number, branch in enumerate(branches):
            self.add_module(str(number), branch)

    def forward(self, x: Tensor) -> Tensor:
        """The sum."""
        total: Tensor = reduce(operator.add, (branch(x) for branch in self.children()))
        return total


def hooked(module: nn.Module) -> bool:
    """Whether calling ``module`` runs hooks besides its ``forward``."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, kind) for kind in kinds)


def children_of(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and children in order; a layer that stands there twice comes twice (``named_children`` drops repeats)."""
    return [(name, child) for name, child in module._modules.items() if child is not None]


def is_sequence(module: nn.Module) -> bool:
    """Whether calling ``module`` is calling its children one after the other, and nothing else."""
    own = "forward" in vars(module) or type(module).__call__ is not nn.Module.__call__
    return getattr(type(module), "forward", None) is nn.Sequential.forward and not own and not hooked(module)


def is_link(module: nn.Module) -> bool:
    """Whether nobody looks into it: a layer of torch's, or a link of a chain that is not one module's."""
    whose = type(module).__module__
    return isinstance(module, Sum | fx.GraphModule) or whose.startswith("torch.nn")


def chain_of(module: nn.Module) -> nn.Sequential:
    """Layers that do one after the other what calling ``module`` does: its own ones, :class:`Sum`, and torch's layers
    where it calls functions of theirs; what is none of these is a ``torch.fx.GraphModule``.

    Raises :class:`NotSupported` with the reason where what is done depends on the numbers, or nobody can see it.
    """
    graph, root = _traced(module)
    begin, *nodes, output = graph.nodes
    if not nodes or output.args[0] is not nodes[-1] or any(node.op == "placeholder" for node in nodes):
        raise NotSupported("its forward gives something else than what its last layer does")
    return _chain(nodes, begin, root)


def children_as_called(module: nn.Module) -> list[str]:
    """Names of those of the module's own children that its forward calls, the one whose last call is last at the end.

    Raises :class:`NotSupported` where nobody can see what it does.
    """
    calls = [str(node.target).split(".") for node in _traced(module)[0].nodes if node.op in ("call_module", "get_attr")]
    last = {path[1]: None for path in reversed(calls) if len(path) > 1}
    return [name for name in reversed(last) if name in module._modules]


def _traced(module: nn.Module) -> tuple[fx.Graph, nn.Module]:
    if name := next((name for name, part in module.named_modules() if hooked(part)), None):
        raise NotSupported(f"layer {name!r} has hooks")
    before = [(kept, copy.copy(kept)) for part in module.modules() for kept in _containers(part)]
    root = _Called(module)
    try:
        graph = fx.Tracer().trace(root)
    except Exception as error:
        reason = one_line(str(error).strip().partition("\n")[0])[:100]
        raise NotSupported(f"what its forward does cannot be followed ({type(error).__name__}: {reason})") from error
    finally:
        for kept, as_it_was in before:  # a forward that keeps what it sees has kept what is no tensor
            kept.clear()
            put = kept.extend if isinstance(kept, list) else kept.update
            put(as_it_was)
    for node in reversed(graph.nodes):
        if not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)  # a shape that was asked for
    return graph, root


def _containers(module: nn.Module) -> list[dict[str, Any] | list[Any] | set[Any]]:
    """Where ``module`` may keep something."""
    own = vars(module)
    return [own, *(value for value in own.values() if isinstance(value, dict | list | set))]


class _Called(nn.Module):
    """``module`` called with one argument, so that others keep their defaults."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.inner = module

    def forward(self, x: Any) -> Any:
        return self.inner(x)


def _chain(nodes: list[fx.Node], begin: fx.Node, root: nn.Module) -> nn.Sequential:
    """``nodes``, which compute the last of them out of ``begin``, cut wherever one value is all that goes on."""
    at = {node: number for number, node in enumerate(nodes)}

    def last_use(node: fx.Node) -> int:
        return max((at.get(user, -1 if node is begin else len(nodes)) for user in node.users), default=-1)

    chain, first, needed = nn.Sequential(), 0, last_use(begin)
    for number, node in enumerate(nodes):
        if needed <= number and node.op != "get_attr":
            name = node.name.removeprefix("inner_")
            chain.add_module(name, _link(nodes[first : number + 1], begin, root))
            begin, first = node, number + 1
        needed = max(needed, last_use(node))
    return chain


def _link(nodes: list[fx.Node], begin: fx.Node, root: nn.Module) -> nn.Module:
    """One link of a chain."""
    *others, last = nodes
    if not others and last.op == "call_module" and last.args == (begin,) and not last.kwargs:
        return root.get_submodule(str(last.target))
    if (layer := _layer(others, last, begin)) is not None:
        return layer
    if _name(last) in _SUMS and len(last.args) == 2 and not last.kwargs:
        parts = [part for part in last.args if isinstance(part, fx.Node) and part.op != "get_attr"]
        ways = [_behind(part, others) for part in parts]
        if len(ways) == 2 and not ways[0] & ways[1] and len(ways[0] | ways[1]) == len(others):
            return Sum(_chain([node for node in others if node in way], begin, root) for way in ways)
    graph, copies = fx.Graph(), {}
    copies[begin] = graph.placeholder("x")
    for node in nodes:
        copies[node] = graph.node_copy(node, lambda of: copies[of])
    graph.output(copies[last])
    return fx.GraphModule(root, graph)


def _behind(node: fx.Node, among: list[fx.Node]) -> set[fx.Node]:
    """``node`` and all that it is computed from, of those ``among`` which it is."""
    found: set[fx.Node] = set()
    ahead = [node]
    while ahead:
        if (one := ahead.pop()) in among and one not in found:
            found.add(one)
            ahead += one.all_input_nodes
    return found


def _name(node: fx.Node) -> str:
    """The name of the function or method that is called; empty of anything else."""
    if node.op == "call_method":
        return str(node.target)
    return getattr(node.target, "__name__", "") if node.op == "call_function" and _of_torch(node.target) else ""


def _of_torch(function: Any) -> bool:
    named = getattr(function, "__name__", "")
    return any(getattr(place, named, None) is function for place in (torch, F, operator))


_SUMS = ("add", "iadd", "add_")


def _layer(others: list[fx.Node], last: fx.Node, begin: fx.Node) -> nn.Module | None:
    """torch's layer for a call of its function, or of a tensor's method, on ``begin``; None where there is none."""
    name, values = _name(last), last.args[1:]
    if not last.args or last.args[0] is not begin:
        return None
    if others:  # x.view(x.size(0), -1)
        rows = [node for node in others if _name(node) == "size" and node.args in ((begin,), (begin, 0))]
        shape = values[0] if len(values) == 1 and isinstance(values[0], tuple | list) else values
        return nn.Flatten() if name in ("view", "reshape") and [*rows, -1] == list(shape) == [*others, -1] else None
    if name == "mean" and not last.kwargs and len(values) == 1 and values[0] in ([2, 3], (2, 3), [-2, -1], (-2, -1)):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if name not in _LAYERS:
        return None
    make, names = _LAYERS[name]
    options = dict(zip(names, values, strict=False)) | last.kwargs
    options.pop("inplace", None)
    if name == "flatten" and "start_dim" not in options:
        return None  # the examples too
    try:
        return make(**options)
    except TypeError:
        return None


_LAYERS: dict[str, tuple[Callable[..., nn.Module], tuple[str, ...]]] = {
    "relu": (nn.ReLU, ("inplace",)),
    "leaky_relu": (nn.LeakyReLU, ("negative_slope", "inplace")),
    "tanh": (nn.Tanh, ()),
    "sigmoid": (nn.Sigmoid, ()),
    "silu": (nn.SiLU, ("inplace",)),
    "gelu": (nn.GELU, ("approximate",)),
    "elu": (nn.ELU, ("alpha", "inplace")),
    "softplus": (nn.Softplus, ("beta", "threshold")),
    "flatten": (nn.Flatten, ("start_dim", "end_dim")),
    "avg_pool2d": (
        nn.AvgPool2d,
        ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    ),
    "adaptive_avg_pool2d": (nn.AdaptiveAvgPool2d, ("output_size",)),
    "max_pool2d": (nn.MaxPool2d, ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")),
}
