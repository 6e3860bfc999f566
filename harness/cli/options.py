"""Command-line options generated from a schema: one flag a field, with its description and default."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter, Token
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from harness.settings.config import RunConfig
from harness.settings.registry import defaults_of
from harness.store.yaml_core import parse
from harness.strangers.values import allowed

#: what settings are about, in the order of --help; those of one command alone come after them
_GROUPS = {
    "Method": ("algo", "geometry", "inner_steps", "inner_lr", "algo_options", "adapt", "norm_statistics"),
    "Tasks": ("benchmark", "benchmark_options", "ways", "shots", "queries", "meta_batch", "seed", "seeds"),
    "Model and loss": ("model", "model_options", "model_mode", "loss", "loss_options"),
    "Outer loop": ("iterations", "outer_optimizer", "outer_schedule", "outer_lr_w", "outer_lr_phi"),
    "Engine and device": ("engine", "strategy", "device", "dtype", "tf32", "threads", "task_chunk"),
    "Measuring": (
        *("eval_tasks", "eval_every", "eval_ways", "eval_shots", "eval_queries", "eval_inner_steps"),
        *("stationarity_every", "stationarity_tasks", "checkpoint_every", "label"),
    ),
}
_ORDER = [*_GROUPS, "This command", "Files and output"]
_GROUP = {name: Group(name, sort_key=at) for at, name in enumerate(_ORDER)}
_GROUP_OF = {field: _GROUP[name] for name, fields in _GROUPS.items() for field in fields}
#: kinds of values as --help shows them
_KINDS = {"integer": "INT", "number": "FLOAT", "true or false": "BOOL", "mapping": "MAPPING", "list": "LIST"}
_PLACES = {field: at for at, field in enumerate(_GROUP_OF)}


def with_options(
    schema: type[BaseModel], unused: Collection[str] = (), **own: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a ``command(..., **flags)`` one option for every field of ``schema``.

    Only options that were given reach ``flags``, as text: they are read as files are, and the schema itself checks
    them, so that flags, files and Python give the same messages. Defaults shown are those of the default benchmark,
    and the command's ``own``. ``unused`` are settings that say nothing here: they are taken, as a run's file may hold
    them, and not shown.
    """
    return functools.partial(_with_options, schema, unused, own)


def _with_options(
    schema: type[BaseModel], unused: Collection[str], own: Mapping[str, Any], command: Callable[..., Any]
) -> Callable[..., Any]:
    parts = [part for part in inspect.signature(command).parameters.values() if part.kind is not part.VAR_KEYWORD]
    hints = typing.get_type_hints(command, include_extras=True)
    parts = [part.replace(annotation=Annotated[hints[part.name], Parameter(group=_group(part.name))]) for part in parts]
    fields, benchmark = schema.model_fields, str(schema.model_fields["benchmark"].default)
    defaults = {**{name: field.default for name, field in fields.items()}, **own}
    shown = {name: _in_words(value) for name, value in defaults.items() if value not in (None, {})}
    for name, value in defaults_of(benchmark).items():
        if name in fields and defaults[name] == RunConfig.model_fields[name].default:  # else the command has its own
            shown[name] = f"{_in_words(value)} ({benchmark})"
    parameters = [
        *(_option(name, fields[name], shown.get(name), name not in unused) for name in sorted(fields, key=_place)),
        *parts,
    ]

    def called(**values: Any) -> Any:
        return command(**{name: value for name, value in values.items() if value is not None})

    called.__name__, called.__doc__ = command.__name__, command.__doc__
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {part.name: part.annotation for part in parameters}
    return called


def read_as(kind: Any, tokens: Sequence[Token]) -> Any:
    """What the words of an option without a schema say, read as files are; a converter of cyclopts."""
    values = [parse(token.value, token.keyword or "") for token in tokens]
    several = typing.get_origin(kind) is tuple
    try:
        return TypeAdapter(kind).validate_python(tuple(values) if several else values[-1], strict=True)
    except ValidationError as error:
        found = error.errors()[0]
        raise ValueError(f"{found['input']!r} is not allowed; {found['msg'].lower()}") from None


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {part}" for name, part in value.items()) + "}"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _place(name: str) -> int:
    return _PLACES.get(name, len(_PLACES))


def _group(name: str) -> Group:
    return _GROUP_OF.get(name, _GROUP["Files and output" if name in _FILES else "This command"])


def _kind(field: FieldInfo, limits: str) -> tuple[str, str]:
    """The kind of an option, and what that leaves to be said of ``limits``, the values that it takes, in words."""
    if limits in _KINDS:
        return _KINDS[limits], ""
    if typing.get_origin(field.annotation) is typing.Literal:
        return "CHOICE", limits
    word, _, rest = limits.partition(" ")
    return (_KINDS[word], rest) if word in ("integer", "number") else ("TEXT", "")


def _option(name: str, field: FieldInfo, shown: str | None, is_shown: bool) -> inspect.Parameter:
    default = f" [default: {shown}]" if shown else ""
    limits = allowed(field, upper=False)
    kind, rest = _kind(field, limits)
    parameter = Parameter(
        name="--" + name.replace("_", "-"),
        help=f"{field.description}{f' ({rest})' if rest else ''}{default}",
        group=_group(name),
        metavar=kind,
        show=is_shown,
        show_default=False,
        negative=(),
        allow_leading_hyphen=limits.startswith(("integer", "number")),
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, parameter]
    )


#: parameters of commands that are about files, and about what is shown
_FILES = ("config", "set_", "results", "out", "log", "json")
#: of an option that is given or not
flag = functools.partial(Parameter, negative=(), show_default=False)
Json = Annotated[bool, flag(name="--json", help="print one JSON document on stdout")]
Set = Annotated[
    tuple[str, ...],
    Parameter(name="--set", negative=(), show_default=False, help="KEY=VALUE, such as algo_options.l2=0.01"),
]
Numbers = Annotated[tuple[float, ...], Parameter(negative=(), show_default=False, converter=read_as)]
Names = Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)]
Results = Annotated[Path, Parameter(name="--results", help="folder of run directories")]
Scheduler = Annotated[
    str | None,
    Parameter(
        name="--scheduler", show_default=False, help="of a Dask cluster that does the runs: its address, or its file"
    ),
]
Seeds = Annotated[str | None, Parameter(name="--seeds", help="several seeds, 0..4 or 0,1,2", show_default=False)]
Log = Annotated[
    tuple[str, ...],
    Parameter(name="--log", negative=(), show_default=False, help="tensorboard, wandb, mlflow, aim; commas between"),
]
Config = Annotated[Path | None, Parameter(name="--config", help="YAML file with any of these settings")]
