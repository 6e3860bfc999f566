"""Random models of the kinds that people bring, and the meta-gradient of each by a plain loop over its own forward."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from harness.problem.benchmark import Benchmark
from harness.problem.tasks import TaskBatch

WAYS = 3


class Vectors(Benchmark):
    """Random tasks on vectors of 6 numbers."""

    name = "vectors"
    summary = "random vectors"
    version = "1"
    input_shape = (6,)

    def check(self, ways, shots, queries):
        pass

    def draw(self, split, first, tasks, shape, device, dtype):
        drawn = []
        for task in range(first, first + tasks):
            generator = torch.Generator().manual_seed(10**6 * shape.seed + 1000 * task + len(split))
            drawn.append([])
            for each in (shape.shots, shape.queries):
                x = torch.randn(shape.ways * each, *self.input_shape, generator=generator, dtype=torch.float64)
                drawn[-1] += [x.to(dtype), self.targets(shape.ways, each, generator, dtype)]
        return TaskBatch(*(torch.stack(parts) for parts in zip(*drawn, strict=True)))

    def targets(self, ways, each, generator, dtype):
        return torch.arange(ways).repeat_interleave(each)


class Images(Vectors):
    """Random tasks on images."""

    name = "images"
    input_shape = (1, 10, 10)


class Numbers(Vectors):
    """Random regression tasks on vectors."""

    name = "numbers"
    loss = "mse"

    def outputs(self, ways):
        return 2

    def targets(self, ways, each, generator, dtype):
        return torch.randn(ways * each, 2, generator=generator, dtype=torch.float64).to(dtype)


# Layers of own kinds ---------------------------------------------------------------------------------------------


class Scale(nn.Module):
    """A learned temperature: one number."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(1.3))

    def forward(self, x):
        return x * self.factor


class Residual(nn.Sequential):
    """A Sequential that is none."""

    def forward(self, x):
        return x + super().forward(x)


class Attention(nn.Module):
    """Attention written out, over the entries of a vector."""

    def __init__(self, width):
        super().__init__()
        self.q, self.k = nn.Linear(1, 2), nn.Linear(1, 2)

    def forward(self, x):
        q, k = self.q(x[..., None]), self.k(x[..., None])
        return (torch.softmax(q @ k.mT, -1) @ x[..., None])[..., 0]


class Recurrent(nn.Module):
    """A GRU over the entries of a vector."""

    def __init__(self, width):
        super().__init__()
        self.gru = nn.GRU(1, width, batch_first=True)

    def forward(self, x):
        return self.gru(x[..., None])[0][:, -1]


class Doubled(nn.Module):
    """A parametrisation."""

    def forward(self, weight):
        return 2 * weight


class Draws(nn.Module):
    """A layer that draws random numbers in one of many ways."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.generator = kind, torch.Generator().manual_seed(1)

    def forward(self, x):
        if self.kind == "functional dropout":
            return F.dropout(x, 0.5, self.training)
        if self.kind == "noise":
            return x + 0.1 * torch.randn_like(x)
        if self.kind == "own generator":
            return x + torch.rand(x.shape, generator=self.generator, dtype=x.dtype)
        if self.kind == "numpy":
            return x * (1 + float(numpy.random.rand()))
        if self.kind == "python":
            return x * (1 + random.random())
        return F.rrelu(x, training=self.training)


class Remembers(nn.Module):
    """A layer with a state that its forward moves."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.calls = kind, 0
        self.register_buffer("mean", torch.zeros(()))
        self.kept = [torch.zeros(())]

    def forward(self, x):
        if self.kind == "buffer":
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean()
            return x - self.mean
        if self.kind == "buffer in place":
            self.mean.mul_(0.9).add_(0.1 * x.detach().mean())
            return x - self.mean
        if self.kind == "hidden":
            self.kept[0] = self.kept[0] + x.detach().mean()
            return x - self.kept[0]
        self.calls += 1
        return x * self.calls


class Shift(nn.Module):
    """A layer that uses a parameter of another one, whose owner calls it by its name."""

    def __init__(self, parameter):
        super().__init__()
        self.hidden = [parameter]

    def forward(self, x):
        return x + self.hidden[0].mean()


# Models -----------------------------------------------------------------------------------------------------------

_ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    nn.ReLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.SiLU,
    nn.LeakyReLU,
    nn.GELU,
    nn.ELU,
    nn.Softplus,
    nn.Mish,
)
RANDOM = ("functional dropout", "noise", "own generator", "numpy", "python", "rrelu")
STATE = ("buffer", "buffer in place", "hidden", "calls")
#: what is done to a model that can be trained all the same
ODD = (
    "none",
    "repeated activation",
    "repeated layer",
    "tied",
    "tied across the cut",
    "frozen",
    "frozen bias",
    "hook",
    "hook on the whole",
    "pre-hook on the whole",
    "backward hook",
    "weight norm",
    "old weight norm",
    "parametrised",
    "pruned",
    "subclass",
    "own forward",
    "residual",
    "scalar",
    "unused",
    "buffer",
    "running statistics",
    "in place",
    "nested",
    "module",
    "attention",
    "recurrent",
)
#: what makes it no function of its parameters by name and of the examples
WRONG = (
    "random",
    "state",
    "spectral norm",
    "tuple",
    "not a number",
    "hidden parameter",
    "detached",
    "old spectral norm",
)


def vector_model(rng: random.Random, outputs: int, odd: tuple[str, ...]) -> nn.Module:
    """Two to four hidden layers on vectors of 6 numbers, with everything in ``odd`` done to them."""
    width = rng.choice((4, 5))
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(6, width)]
    shared, act = nn.Linear(width, width), rng.choice(_ACTIVATIONS)()
    relu = rng.random() < 0.3
    for _ in range(rng.randint(1, 3)):
        layers.append(act if "repeated activation" in odd else nn.ReLU() if relu else rng.choice(_ACTIVATIONS)())
        if rng.random() < 0.3 and not relu:
            layers.append(rng.choice((nn.LayerNorm, nn.BatchNorm1d))(width))
        layers.append(shared if "repeated layer" in odd else nn.Linear(width, width, bias=rng.random() < 0.8))
    layers.append(nn.ReLU() if relu else nn.Tanh())
    for name, layer in (
        ("residual", lambda: Residual(nn.Linear(width, width), nn.Tanh())),
        ("scalar", Scale),
        ("running statistics", lambda: nn.BatchNorm1d(width)),
        ("in place", lambda: nn.ReLU(inplace=True)),
        ("attention", lambda: Attention(width)),
        ("random", lambda: Draws(rng.choice(RANDOM))),
        ("state", lambda: Remembers(rng.choice(STATE))),
        ("nested", lambda: nn.Sequential(nn.Linear(width, width), act, nn.Sequential(nn.Linear(width, width), act))),
        ("recurrent", lambda: Recurrent(width)),
    ):
        if name in odd:
            layers.insert(rng.randint(2, len(layers)), layer())
    head = nn.Linear(width, outputs)
    if "hidden parameter" in odd:
        layers.insert(rng.randint(2, len(layers)), Shift(rng.choice((head.weight, layers[1].weight))))
    layers.append(head)
    linear = [layer for layer in layers if type(layer) is nn.Linear]
    inner = [layer for layer in linear if layer.in_features == width and layer.out_features == width]
    return _done(rng, layers, linear, inner, odd)


def image_model(rng: random.Random, outputs: int, odd: tuple[str, ...]) -> nn.Module:
    """One or two blocks of convolution, batch norm, activation and pool on images of 10 x 10."""
    relu, size, channels = nn.ReLU(), 10, 1
    layers: list[nn.Module] = []
    for _ in range(rng.randint(1, 2)):
        norm = nn.BatchNorm2d(3)
        if rng.random() < 0.7:
            nn.init.uniform_(norm.weight, -1, 1)
            nn.init.normal_(norm.bias)
        if rng.random() < 0.1:
            nn.init.zeros_(norm.weight)  # every maximum a tie
        act = relu if "repeated activation" in odd else rng.choice((nn.ReLU, nn.ReLU, nn.LeakyReLU, nn.GELU))()
        block = [
            nn.Conv2d(channels, 3, 3, padding=1),
            norm,
            act,
            rng.choice((nn.MaxPool2d, nn.MaxPool2d, nn.AvgPool2d))(2),
        ]
        if rng.random() < 0.2:
            block.insert(1, nn.BatchNorm2d(3))
        layers += [nn.Sequential(*block)] if rng.random() < 0.5 else block
        channels, size = 3, size // 2
    if "random" in odd:
        layers.insert(rng.randint(0, len(layers)), Draws(rng.choice(RANDOM)))
    if "state" in odd:
        layers.insert(rng.randint(0, len(layers)), Remembers(rng.choice(STATE)))
    if "scalar" in odd:
        layers.insert(rng.randint(0, len(layers)), Scale())
    layers += [nn.Flatten(), nn.Linear(channels * size * size, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU()]
    layers.append(nn.Linear(6, outputs))
    linear = [layer for layer in layers if type(layer) is nn.Linear]
    return _done(rng, layers, linear, linear[1:2], odd)


def _done(
    rng: random.Random, layers: list[nn.Module], linear: list[nn.Linear], inner: list[nn.Linear], odd: tuple[str, ...]
) -> nn.Module:
    some = rng.choice(linear)
    odd = _one_way_to_write_a_weight(odd)
    if "tied" in odd and len({id(layer) for layer in inner}) > 1:
        inner[-1].weight = inner[0].weight
    if "tied across the cut" in odd:
        layers.insert(-1, other := nn.Linear(linear[-1].in_features, linear[-1].in_features, bias=False))
        other.weight = inner[0].weight if inner and inner[0].weight.shape == other.weight.shape else other.weight
    if "frozen" in odd:
        rng.choice(linear).requires_grad_(False)
    if "frozen bias" in odd and some.bias is not None:
        some.bias.requires_grad_(False)
    if "hook" in odd:
        rng.choice(layers).register_forward_hook(lambda module, inputs, y: 1.5 * y)
    if "backward hook" in odd:
        rng.choice(linear).register_full_backward_hook(lambda module, gx, gy: None)
    if "unused" in odd:
        some.register_parameter("never", nn.Parameter(torch.zeros(2)))
    if "weight norm" in odd:
        parametrizations.weight_norm(some)
    if "old weight norm" in odd:
        nn.utils.weight_norm(some)
    if "parametrised" in odd:
        nn.utils.parametrize.register_parametrization(some, "weight", Doubled())
    if "pruned" in odd:
        prune.random_unstructured(some, "weight", amount=0.4)
    if "spectral norm" in odd:
        parametrizations.spectral_norm(rng.choice(linear[:-1] or linear))
    if "old spectral norm" in odd:
        nn.utils.spectral_norm(rng.choice(linear[:-1] or linear))
    if "not a number" in odd:
        layers.insert(-1, Function(lambda x: (x - 1e3).log()))
    if "tuple" in odd:
        layers.append(Function(lambda x: (x, x)))
    if "detached" in odd:
        layers.append(Function(lambda x: x.detach()))
    if "buffer" in odd:
        layers[-1].register_buffer("table", torch.ones(3))
    if "module" in odd:
        return _Chain(layers)
    if "subclass" in odd:
        return type("Own", (nn.Sequential,), {"forward": lambda self, x: 2 * nn.Sequential.forward(self, 0.5 * x)})(
            *layers
        )
    model = nn.Sequential(*layers)
    if "own forward" in odd:
        inside = model.forward
        model.forward = lambda x: 1.5 * inside(x)
    if "hook on the whole" in odd:
        model.register_forward_hook(lambda module, inputs, y: y * 3 + 1)
    if "pre-hook on the whole" in odd:
        model.register_forward_pre_hook(lambda module, inputs: (inputs[0] / 2,))
    return model


def _one_way_to_write_a_weight(odd: tuple[str, ...]) -> tuple[str, ...]:
    """torch's own tools for it cannot be laid over each other."""
    ways = {"weight norm", "old weight norm", "parametrised", "pruned", "spectral norm", "old spectral norm"}
    chosen = [name for name in odd if name in ways]
    return tuple(name for name in odd if name not in chosen[:-1])


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class _Chain(nn.Module):
    """The same layers, called by a module of a person's own, its head registered first."""

    def __init__(self, layers):
        super().__init__()
        self.head = layers[-1]
        self.body = nn.ModuleList(layers[:-1])

    def forward(self, x):
        for layer in self.body:
            x = layer(x)
        return self.head(x)


# The plain loop -----------------------------------------------------------------------------------------------------


@contextmanager
def put(module: nn.Module, values: dict[int, Tensor]) -> Iterator[None]:
    """``values``, by the identity of the parameters that they stand for, wherever these lie in ``module``."""
    taken = []
    for layer in module.modules():
        for name, parameter in list(layer._parameters.items()):
            if parameter is not None and id(parameter) in values:
                taken.append((layer, name, parameter))
                del layer._parameters[name]
                setattr(layer, name, values[id(parameter)])
    try:
        yield
    finally:
        for layer, name, parameter in reversed(taken):
            vars(layer).pop(name, None)
            layer._parameters[name] = parameter


def plain_loop(
    module: nn.Module,
    w_names: list[str],
    phi_names: list[str],
    loss: str | Callable[[Tensor, Tensor], Tensor],
    steps: int,
    alpha: float,
    l2: float,
    batch: TaskBatch,
    first_order: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses ``[B]`` after ``steps`` and the flat meta-gradient in (w, phi), by autograd, one task after the other."""
    named = dict(module.named_parameters())
    start = {name: named[name].detach().clone().requires_grad_() for name in (*w_names, *phi_names)}

    def predicted(at: dict[str, Tensor], x: Tensor) -> Tensor:
        with put(module, {id(named[name]): value for name, value in at.items()}):
            return module(x)

    def loss_of(prediction: Tensor, y: Tensor) -> Tensor:
        if callable(loss):
            return loss(prediction, y)
        return F.cross_entropy(prediction, y) if loss == "cross_entropy" else F.mse_loss(prediction, y)

    losses, totals = [], [torch.zeros_like(part) for part in start.values()]
    for task in range(batch.tasks):
        at = dict(start)
        for _ in range(steps):
            objective = loss_of(predicted(at, batch.support_x[task]), batch.support_y[task])
            objective = objective + l2 / 2 * sum(at[name].square().sum() for name in w_names)
            parts = [at[name] for name in w_names]
            step = torch.autograd.grad(
                objective, parts, create_graph=not first_order, allow_unused=True, materialize_grads=True
            )
            moved = {name: part - alpha * g for name, part, g in zip(w_names, parts, step, strict=True)}
            if first_order:
                moved = {name: part.detach().requires_grad_() for name, part in moved.items()}
            at = {**at, **moved}
        outer = loss_of(predicted(at, batch.query_x[task]), batch.query_y[task])
        inputs = list(at.values()) if first_order else list(start.values())
        gradients = torch.autograd.grad(outer, inputs, allow_unused=True, materialize_grads=True)
        totals = [total + g / batch.tasks for total, g in zip(totals, gradients, strict=True)]
        losses.append(outer.detach())
    flat = [part.reshape(-1) for part in totals]
    empty = batch.support_x.new_zeros(0)
    return torch.stack(losses), torch.cat([empty, *flat[: len(w_names)]]), torch.cat([empty, *flat[len(w_names) :]])
