"""Command-line options generated from RunConfig: one flag a field, with its description and default."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Annotated, Any

from cyclopts import Parameter

from harness.config import RunConfig, allowed


def with_run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give ``command(..., **flags)`` one option for every field of RunConfig.

    Only options that were given reach ``flags``, as text: RunConfig itself converts and checks
    them, so that flags, files and Python give the same messages.
    """
    own = [part for part in inspect.signature(command).parameters.values() if part.kind is not part.VAR_KEYWORD]
    hints = typing.get_type_hints(command, include_extras=True)
    own = [part.replace(annotation=hints[part.name]) for part in own]
    parameters = [*(_option(name) for name in RunConfig.model_fields), *own]

    def called(**values: Any) -> Any:
        return command(**{name: value for name, value in values.items() if value is not None})

    called.__name__, called.__doc__ = command.__name__, command.__doc__
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {part.name: part.annotation for part in parameters}
    return called


def _option(name: str) -> inspect.Parameter:
    field = RunConfig.model_fields[name]
    default = "" if field.default is None or field.default == {} else f" [default: {field.default}]"
    words = "" if (limits := allowed(field)) in (field.description, "mapping") else f" ({limits})"
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
