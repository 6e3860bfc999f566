"""Command-line options generated from a schema: one flag a field, with its description and default."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from harness.config import allowed


def with_options(schema: type[BaseModel]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a ``command(..., **flags)`` one option for every field of ``schema``.

    Only options that were given reach ``flags``, as text: the schema itself converts and checks
    them, so that flags, files and Python give the same messages.
    """
    return functools.partial(_with_options, schema)


def _with_options(schema: type[BaseModel], command: Callable[..., Any]) -> Callable[..., Any]:
    own = [part for part in inspect.signature(command).parameters.values() if part.kind is not part.VAR_KEYWORD]
    hints = typing.get_type_hints(command, include_extras=True)
    own = [part.replace(annotation=hints[part.name]) for part in own]
    parameters = [*(_option(name, field) for name, field in schema.model_fields.items()), *own]

    def called(**values: Any) -> Any:
        return command(**{name: value for name, value in values.items() if value is not None})

    called.__name__, called.__doc__ = command.__name__, command.__doc__
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {part.name: part.annotation for part in parameters}
    return called


def _option(name: str, field: FieldInfo) -> inspect.Parameter:
    usual = ",".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
    default = "" if usual is None or usual == {} else f" [default: {usual}]"
    words = "" if (limits := allowed(field, upper=False)) in (field.description, "mapping", "list") else f" ({limits})"
    parameter = Parameter(
        name="--" + name.replace("_", "-"),
        help=f"{field.description}{words}{default}",
        show_default=False,
        negative=(),
        allow_leading_hyphen=limits.startswith(("integer", "number")),
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, parameter]
    )
