"""Models: the four-block CNN, the regression MLP, the linear model of ``quadratic``, and a person's own."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from harness.config import validate_as
from harness.errors import InputError, unknown
from harness.foreign import one_line
from harness.strangers import blamed

_MOST = 65_536
ModelFactory = Callable[..., nn.Module]


class CNNOptions(BaseModel):
    """Options of the four-block CNN."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    filters: int = Field(64, ge=1, le=_MOST, description="channels of every convolution (32 and 64 are usual)")
    head_hidden: int = Field(0, ge=0, le=_MOST, description="hidden units of an MLP head; 0 is a linear classifier")


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
    "mlp": (mlp, MLPOptions),
    "coupled": (coupled, CoupledOptions),
}


_FORMS = "module:function or FILE.py:function"
#: folders that modules of factories were found in, where Python would not have looked
_BESIDE: dict[str, Path] = {}


def load_factory(name: str) -> ModelFactory:
    """The factory called ``name``: one of this module's, ``module:function``, or ``FILE.py:function``.

    A module is looked for where Python looks and last in the current folder; a file finds helpers beside it, likewise
    last, so that nothing there can stand in for what is installed. Raises :class:`InputError`.
    """
    if name in MODELS:
        return MODELS[name][0]
    if ":" not in name:
        raise unknown("model", one_line(name), [*MODELS, *_FORMS.split(" or ")])
    return imported("model", name, "a function (input_shape, outputs) -> nn.Module")


def imported(kind: str, name: str, signature: str) -> Callable[..., Any]:
    """The function ``module:function`` or ``FILE.py:function``, which is to be a ``kind`` with this ``signature``."""
    who = f"{kind} {one_line(name)!r}"
    place, _, attribute = name.rpartition(":")
    if not attribute.isidentifier() or not (place.endswith(".py") or all(map(str.isidentifier, place.split(".")))):
        raise InputError(f"{who} cannot be imported: it names no function of a module; allowed: {_FORMS}")
    with blamed(who):
        try:
            if place.endswith(".py"):
                function = getattr(_module_of(Path(place)), attribute)
            else:
                with _searched(Path.cwd()) as folder:
                    function = getattr(importlib.import_module(place), attribute)
                    if str(folder) not in sys.path[:-1]:
                        _BESIDE[place] = folder
        except (ImportError, AttributeError, OSError) as error:
            raise InputError(f"{who} cannot be imported: {one_line(error)}; allowed: {_FORMS}") from error
    if not callable(function):
        raise InputError(f"{who} is not callable; allowed: {signature}")
    return function  # type: ignore[no-any-return]


def _module_of(file: Path) -> ModuleType:
    """The module in ``file``, under a name that no other module has."""
    file = file.resolve()
    if not file.is_file():  # a pipe would be waited for
        raise FileNotFoundError(f"{file} is no file")
    name = f"{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:10]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    _BESIDE[name] = file.parent
    try:
        with _searched(file.parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _searched(folder: Path) -> Iterator[Path]:
    """Inside, modules are looked for in ``folder`` too, after everywhere else."""
    importlib.invalidate_caches()
    sys.path.append(str(folder))
    try:
        yield folder
    finally:
        sys.path.reverse()
        sys.path.remove(str(folder))
        sys.path.reverse()


def check_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options of a built-in model, validated and completed; a person's own factory takes what it takes."""
    if name not in MODELS:
        return options
    return validate_as(MODELS[name][1], options, None, f"option of model {name}", "model_options.").model_dump()


def made_by(
    factory: ModelFactory, input_shape: tuple[int, ...], outputs: int, options: dict[str, Any], seed: int
) -> nn.Module:
    """The module that ``factory`` makes, with its own seeded initialisation: the same numbers on every device.

    Raises :class:`InputError` for whatever it raises, and for what cannot be trained: anything but a module, and
    parameters that are not there, not initialised, nowhere, or no real floating-point numbers.
    """
    who = f"model {one_line(getattr(factory, '__name__', factory))}"
    own = inspect.getmodule(factory)
    beside = _BESIDE.get(getattr(own, "__name__", ""))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            inspect.signature(factory).bind(input_shape, outputs, **options)
        except TypeError as error:
            raise InputError(f"{who}: {error}; it is called as (input_shape, outputs, **model_options)") from error
        except ValueError:
            pass  # written in C, without a signature: the call will tell
        with (
            blamed(who, file=getattr(own, "__file__", None)),
            _searched(beside) if beside else nullcontext(),
        ):
            module = factory(input_shape, outputs, **options)
    if not isinstance(module, nn.Module):
        kind = f"the class {module.__name__}" if isinstance(module, type) else f"a {type(module).__name__}"
        raise InputError(f"{who} gives {kind}; allowed: an nn.Module")
    for name, parameter in module.named_parameters():
        if fault := _fault_of(parameter):
            raise InputError(f"{who}: parameter {name!r} {fault}")
    if next(module.parameters(), None) is None:
        raise InputError(f"{who} has no parameters; allowed: an nn.Module with some to train")
    return module


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
) -> nn.Module:
    """A model as :func:`made_by` makes it, on ``device`` in ``dtype``.

    Layers that normalise are switched to the batch's own statistics (MAML's convention); layers
    that draw random numbers are refused, since a gradient evaluated twice would not be the same.
    A module that its owner keeps is lent: :func:`give_back` undoes all of it.
    """
    module = made_by(factory, input_shape, outputs, options, seed)
    vars(module)["as_given"] = _AsGiven(module)
    for name, layer in module.named_modules():
        if isinstance(layer, nn.modules.batchnorm._NormBase):  # of batch and of instance
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = layer.num_batches_tracked = None
        elif isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0:
            raise InputError(f"model layer {name!r} is dropout: allowed are layers without random numbers")
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
