"""Models by name, the project's own and a person's: found, made, checked, set up, and given back."""

from __future__ import annotations

import copy
import inspect
from typing import Any, Literal

import torch
from torch import nn

from harness.errors import InputError, unknown
from harness.problem.nets import MODELS, ModelFactory
from harness.store.foreign import one_line
from harness.strangers.blame import blamed
from harness.strangers.named import FORMS, found_beside, is_named, load_named
from harness.strangers.values import validate_as


def load_factory(name: str) -> ModelFactory:
    """Factory called ``name``: the project's, or a person's own (:mod:`harness.strangers.named`), or a module.

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
