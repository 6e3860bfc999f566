"""Models: the four-block CNN, ResNet-12, the regression MLP, the linear model of ``quadratic``, and a person's own."""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from harness.errors import InputError, unknown
from harness.store.foreign import one_line
from harness.strangers.blame import blamed
from harness.strangers.named import FORMS, found_beside, is_named, load_named
from harness.strangers.values import validate_as

_MOST = 65_536
#: what makes a module, or a module itself, of which each user gets a copy
ModelFactory = Callable[..., nn.Module] | nn.Module


class CNNOptions(BaseModel):
    """Options of the four-block CNN."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    filters: int = Field(64, ge=1, le=_MOST, description="channels of every convolution (32 and 64 are usual)")
    head_hidden: int = Field(0, ge=0, le=_MOST, description="hidden units of an MLP head; 0 is a linear classifier")


class ResNet12Options(BaseModel):
    """Options of the ResNet-12."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    filters: int = Field(64, ge=2, le=_MOST // 10, description="channels of the first block, of 64 160 320 640")


class MLPOptions(BaseModel):
    """Options of the MLP."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    hidden: tuple[Annotated[int, Field(ge=1, le=_MOST)], ...] = Field(
        (40, 40), description="sizes of the hidden layers"
    )


class CoupledOptions(BaseModel):
    """Options of the linear model of ``quadratic``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    dim_phi: int = Field(
        8, ge=1, le=_MOST, description="number of inputs that the shared parameters see; the rest is w's"
    )


def cnn(input_shape: tuple[int, ...], outputs: int, filters: int = 64, head_hidden: int = 0) -> nn.Module:
    """Four blocks of 3x3 convolution, batch norm, ReLU and 2x2 max-pool, then a linear classifier.

    The feature map is 1x1 after 28 px, 2x2 after 32 px and 5x5 after 84 px (Vinyals et al. 2016).
    Batch norm always uses the statistics of the batch it sees. Top-level children are the layers
    that ``--adapt last:k`` counts.

    Initialised as learn2learn's CNN4, which the paper's experiments used: Xavier-uniform weights, zero
    biases, and scales of batch norm uniform in [0, 1]. That halves the features, and with them the
    curvature of the inner loss: with torch's own initialisation (scales of 1) the paper's inner step
    of 0.1 overshoots on FC100, and the training loss rises with N instead of falling.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < 16:
        raise InputError(f"model cnn: inputs of shape {input_shape}; allowed: images of at least 16 x 16")
    channels, *size = input_shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for block in range(4):
        layers[f"block{block + 1}"] = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(channels if block == 0 else filters, filters, 3, padding=1),
                norm=nn.BatchNorm2d(filters, track_running_stats=False),
                relu=nn.ReLU(),
                pool=nn.MaxPool2d(2),
            )
        )
        size = [edge // 2 for edge in size]
    layers["flatten"] = nn.Flatten()
    features = filters * size[0] * size[1]
    if head_hidden:
        layers["hidden"] = nn.Linear(features, head_hidden)
        layers["relu"] = nn.ReLU()
        features = head_hidden
    layers["classifier"] = nn.Linear(features, outputs)
    model = nn.Sequential(layers)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight)
    return model


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions with batch norm, a 1x1 convolution with batch norm past them, and 2x2 max-pool."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.one, self.two, self.three = (_convolution(before, filters, 3) for before in (channels, filters, filters))
        self.past = _convolution(channels, filters, 1)
        self.act, self.pool = nn.LeakyReLU(0.1), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """Images of half the size."""
        inside = self.three(self.act(self.two(self.act(self.one(x)))))
        y: Tensor = self.pool(self.act(inside + self.past(x)))
        return y


def _convolution(channels: int, filters: int, size: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, filters, size, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, 0.1, mode="fan_out", nonlinearity="leaky_relu")
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(filters, track_running_stats=False)))


def resnet12(input_shape: tuple[int, ...], outputs: int, filters: int = 64) -> nn.Module:
    """ResNet-12 (Lee et al. 2019, MetaOptNet): four residual blocks of 64, 160, 320 and 640 filters, and a classifier.

    LeakyReLU of slope 0.1, the mean over positions before the classifier, no DropBlock; initialised as there. Top-level
    children are the layers that ``--adapt last:k`` counts.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < 16:
        raise InputError(f"model resnet12: inputs of shape {input_shape}; allowed: images of at least 16 x 16")
    channels, layers = input_shape[0], OrderedDict[str, nn.Module]()
    for block, times in enumerate((2, 5, 10, 20), start=1):
        layers[f"block{block}"] = ResidualBlock(channels, channels := filters * times // 2)
    layers |= {"mean": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "classifier": nn.Linear(channels, outputs)}
    return nn.Sequential(layers)


def mlp(input_shape: tuple[int, ...], outputs: int, hidden: tuple[int, ...] = (40, 40)) -> nn.Module:
    """Fully connected network with ReLU, two hidden layers of 40 as in Finn et al. 2017."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    width = 1
    for edge in input_shape:
        width *= edge
    for number, units in enumerate(hidden, start=1):
        layers[f"linear{number}"] = nn.Linear(width, units)
        layers[f"relu{number}"] = nn.ReLU()
        width = units
    layers["head"] = nn.Linear(width, outputs)
    return nn.Sequential(layers)


class Coupled(nn.Module):
    """prediction = x_phi . phi + x_w . w, for inputs ``[S, dim_phi + dim_w]``; output ``[S, 1]``."""

    def __init__(self, dim_phi: int, dim_w: int) -> None:
        super().__init__()
        self.shared = nn.Linear(dim_phi, 1, bias=False)
        self.head = nn.Linear(dim_w, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Predictions ``[S, 1]``."""
        split = self.shared.in_features
        prediction: Tensor = self.shared(x[..., :split]) + self.head(x[..., split:])
        return prediction


def coupled(input_shape: tuple[int, ...], outputs: int, dim_phi: int = 8) -> nn.Module:
    """The model under which a ``quadratic`` task is a quadratic in w, coupled to phi."""
    if len(input_shape) != 1 or input_shape[0] <= dim_phi:
        raise InputError(f"model coupled: inputs of shape {input_shape}; allowed: vectors longer than {dim_phi}")
    return Coupled(dim_phi, input_shape[0] - dim_phi)


MODELS: dict[str, tuple[ModelFactory, type[BaseModel]]] = {
    "cnn": (cnn, CNNOptions),
    "resnet12": (resnet12, ResNet12Options),
    "mlp": (mlp, MLPOptions),
    "coupled": (coupled, CoupledOptions),
}


def load_factory(name: str) -> ModelFactory:
    """Factory called ``name``: one of this module's, or a person's own (:mod:`harness.strangers.named`), or a module.

    Raises :class:`InputError`.
    """
    if name in MODELS:
        return MODELS[name][0]
    if not is_named(name):
        raise unknown("model", one_line(name), [*MODELS, *FORMS.format("function").split(" or ")])
    factory: ModelFactory = load_named("model", name, "function")
    if not callable(factory):
        shown = f"model {one_line(name)!r} is a {type(factory).__name__}"
        raise InputError(f"{shown}; allowed: a function of input_shape and outputs that gives an nn.Module")
    return factory


def check_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options of a built-in model, validated and completed; a person's own factory takes what it takes."""
    if name not in MODELS:
        return options
    return validate_as(MODELS[name][1], options, None, f"option of model {name}", "model_options.").model_dump()


def made_by(
    factory: ModelFactory, input_shape: tuple[int, ...], outputs: int, options: dict[str, Any], seed: int
) -> nn.Module:
    """The module that ``factory`` makes, with its own seeded initialisation: the same numbers on every device.

    ``factory`` may be a module itself, of which this is a copy. Raises :class:`InputError` for whatever it raises, and
    for what cannot be trained: anything but a module, and parameters that are not there, not initialised, nowhere, or
    no real floating-point numbers.
    """
    who = f"model {one_line(getattr(factory, '__name__', type(factory).__name__))}"
    file = getattr(inspect.getmodule(factory), "__file__", None)
    if isinstance(factory, nn.Module):
        if options:
            raise InputError(f"{who} is a module that is made already; allowed: no model_options, or a function")
        with blamed(f"{who}, which is copied, ", file=file):
            module = copy.deepcopy(factory)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            positional, named = _arguments(who, factory, input_shape, outputs, options)
            with blamed(who, file=file), found_beside(factory):
                module = factory(*positional, **named)
    if not isinstance(module, nn.Module):
        kind = f"the class {module.__name__}" if isinstance(module, type) else f"a {type(module).__name__}"
        raise InputError(f"{who} gives {kind}; allowed: an nn.Module")
    for name, parameter in module.named_parameters():
        if fault := _fault_of(parameter):
            raise InputError(f"{who}: parameter {name!r} {fault}")
    if next(module.parameters(), None) is None:
        raise InputError(f"{who} has no parameters; allowed: an nn.Module with some to train")
    return module


def _arguments(
    who: str, factory: ModelFactory, input_shape: tuple[int, ...], outputs: int, options: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What ``factory`` is called with: of ``input_shape`` and ``outputs`` those that its signature names.

    Both, in this order, where it asks for two arguments of other names, or for any number. Raises :class:`InputError`.
    """
    known = {"input_shape": input_shape, "outputs": outputs}
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # written in C, without a signature: the call will tell
        return (input_shape, outputs), options
    kinds = {name: part.kind for name, part in signature.parameters.items()}
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    asked = [
        name
        for name, part in signature.parameters.items()
        if part.kind in by_place and part.default is part.empty and name not in options
    ]
    positional: tuple[Any, ...] = ()
    named = {name: value for name, value in known.items() if name in kinds}
    any_number = inspect.Parameter.VAR_POSITIONAL in kinds.values() and not named
    if (len(asked) == 2 and not set(asked) <= set(known)) or (not asked and any_number):
        positional, named = (input_shape, outputs), {}
    try:
        signature.bind(*positional, **{**named, **options})
    except TypeError as error:
        raise InputError(
            f"{who}: {error}; it is called as (input_shape, outputs, **model_options), without those of the first two "
            f"that it does not name"
        ) from error
    return positional, {**named, **options}


def _fault_of(parameter: nn.Parameter) -> str | None:
    """Why ``parameter`` cannot be trained, and what can."""
    if nn.parameter.is_lazy(parameter):
        return "has no size before the first forward; allowed: layers that say how many inputs they have"
    if parameter.device.type == "meta":
        return "is on device meta, which holds no numbers; allowed: a real device"
    if not parameter.dtype.is_floating_point:
        return f"has type {str(parameter.dtype).removeprefix('torch.')}; allowed: floating-point numbers"
    return None


def build(
    factory: ModelFactory,
    input_shape: tuple[int, ...],
    outputs: int,
    options: dict[str, Any],
    *,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    mode: Literal["train", "eval"] = "train",
) -> nn.Module:
    """A model as :func:`made_by` makes it, on ``device`` in ``dtype``.

    In mode "train", layers that normalise are switched to the batch's own statistics (MAML's convention); layers
    that draw random numbers are refused, since a gradient evaluated twice would not be the same. In "eval" they are
    what ``module.eval()`` makes of them: running statistics as they came, which nothing moves, and no dropout.
    A module that its owner keeps is lent: :func:`give_back` undoes all of it.
    """
    module = made_by(factory, input_shape, outputs, options, seed)
    if "as_given" not in vars(module):  # a factory may give the same one each time
        vars(module)["as_given"] = _AsGiven(module)
    if mode == "eval":
        return module.to(device=device, dtype=dtype).eval()
    for name, layer in module.named_modules():
        if isinstance(layer, nn.modules.batchnorm._NormBase):  # of batch and of instance
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = layer.num_batches_tracked = None
        elif isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0:
            raise InputError(
                f"model layer {name!r} is dropout: allowed are layers without random numbers, "
                f"or --set model_mode=eval, where it is off"
            )
    return module.to(device=device, dtype=dtype).train()


class _AsGiven:
    """Mode, statistics and parameters of a module before it was set up for training."""

    def __init__(self, module: nn.Module) -> None:
        self.layers = [(layer, layer.training, dict(layer._buffers)) for layer in module.modules()]
        self.tracking = [
            (layer, layer.track_running_stats)
            for layer in module.modules()
            if isinstance(layer, nn.modules.batchnorm._NormBase)
        ]
        self.parameters = [(parameter, parameter.detach().clone()) for parameter in module.parameters()]

    def put_back(self) -> None:
        for layer, training, buffers in self.layers:
            layer.training = training
            layer._buffers.update(buffers)
        for norm, tracked in self.tracking:
            norm.track_running_stats = tracked
        for parameter, data in self.parameters:
            parameter.data, parameter.grad = data, None


def give_back(module: nn.Module) -> None:
    """Mode, running statistics, parameters and types of ``module`` as its factory gave them to :func:`build`."""
    if as_given := vars(module).pop("as_given", None):
        as_given.put_back()
