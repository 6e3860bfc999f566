"""Values that people and files give, held to a schema: what is wrong, where it was given, what is allowed."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal, TypeVar

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from harness.errors import InputError, unknown

S = TypeVar("S", bound=BaseModel)
#: floats beyond it do not know their last digits
_WHOLE = 2.0**53


def validate_as(
    schema: type[S],
    values: Mapping[str, Any],
    origins: Mapping[str, str] | None = None,
    kind: str = "key",
    prefix: str = "",
) -> S:
    """``schema`` of ``values``, strictly: a value of another type is refused and not turned into one of this.

    Raises :class:`InputError` in one line that names where the value came from. ``origins`` maps a key (``inner_lr``,
    ``algo_options.l2``) to where it was given, such as ``--inner-lr`` or ``run.yaml:3: inner_lr``; ``prefix`` stands
    before the schema's names there.
    """
    try:
        # As JSON, whose lists are a schema's tuples and whose text its paths and enumerations.
        return schema.model_validate_json(json.dumps(with_integers(schema, values)), strict=True)
    except ValidationError as error:
        raise explain(error, schema, kind, origins, prefix) from None
    except (TypeError, ValueError, RecursionError) as error:
        where = origin(prefix.rstrip(".") or kind, origins)
        raise InputError(f"{where}: {error}; allowed: text, numbers, lists and mappings") from None


def with_integers(schema: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with 1e3 and 5.0 as integers where ``schema`` takes integers alone, and with its tuples for lists."""
    fields = schema.model_fields
    return {
        name: _integers(value, fields[name].annotation) if name in fields else value for name, value in values.items()
    }


def _integers(value: Any, annotation: Any) -> Any:
    kinds = [kind.__origin__ if typing.get_origin(kind) is Annotated else kind for kind in _kinds(annotation)]
    if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE and int in kinds and float not in kinds:
        return int(value)
    if isinstance(value, list | tuple):
        for kind in kinds:
            if (made := typing.get_origin(kind)) in (list, tuple):
                return made(_integers(part, typing.get_args(kind)[0]) for part in value)
    return value


def explain(
    error: ValidationError,
    model: type[BaseModel],
    kind: str,
    origins: Mapping[str, str] | None = None,
    prefix: str = "",
) -> InputError:
    """The first fault of ``error`` as one line: where, what, and what is allowed."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    # Of a value of several kinds, pydantic adds which kind it tried.
    either = name in model.model_fields and len(_kinds(model.model_fields[name].annotation)) > 1
    path = prefix + ".".join(str(part) for part in (first["loc"][:1] if either else first["loc"]))
    where = origin(path, origins)
    if first["type"] == "extra_forbidden":
        fault = unknown(kind, name, model.model_fields)
        return InputError(f"{where}: {fault}")
    if first["type"] == "missing":
        return InputError(f"{where}: missing; it is {_meaning(model.model_fields[name])}")
    if name not in model.model_fields:
        return InputError(f"{where}: {_lower(first['msg'])}")
    quotes = " (as text, in quotes)" if first["type"] == "string_type" else ""
    rule = allowed(model.model_fields[name])
    return InputError(f"{where}: {first['input']!r} is not allowed; allowed: {rule}{quotes}")


def origin(key: str, origins: Mapping[str, str] | None = None) -> str:
    """Where ``key`` was given; the key itself where that is not known."""
    while origins and key not in origins and "." in key:
        key = key.rpartition(".")[0]
    return (origins or {}).get(key, key)


@contextmanager
def blame(key: str, origins: Mapping[str, str] | None) -> Iterator[None]:
    """Say in every :class:`InputError` from inside where ``key`` was given, if it was."""
    try:
        yield
    except InputError as error:
        if origins and key in origins:
            raise type(error)(f"{origin(key, origins)}: {error}") from error
        raise


def _meaning(field: FieldInfo) -> str:
    """What a field is, and of what kind: ``text, what the suite shows``."""
    kind = next((_KINDS[part] for part in _kinds(field.annotation) if part in _KINDS), "")
    return ", ".join(part for part in (kind or allowed(field), field.description) if part)


_KINDS = {int: "integer", float: "number", str: "text", bool: "true or false", dict: "mapping", tuple: "list"}


def allowed(field: FieldInfo, upper: bool = True) -> str:
    """The values that ``field`` takes, in words: ``integer >= 1``, ``adam, sgd`` or ``integer >= 1 or auto``.

    ``upper=False``: without upper bounds, which are far beyond what anyone wants.
    """
    return " or ".join(_allowed(kind, field, upper) for kind in _kinds(field.annotation))


def _kinds(annotation: Any) -> list[Any]:
    """The types that a value may have, None left out."""
    either = typing.get_origin(annotation) in (types.UnionType, typing.Union)
    kinds = typing.get_args(annotation) if either else (annotation,)
    return [kind for kind in kinds if kind is not type(None)]


def _allowed(annotation: Any, field: FieldInfo, upper: bool) -> str:
    rules = list(field.metadata)
    if typing.get_origin(annotation) is Annotated:
        annotation, *more = typing.get_args(annotation)
        rules += [rule for part in more if isinstance(part, FieldInfo) for rule in part.metadata]
    if typing.get_origin(annotation) is Literal:
        return ", ".join(str(choice) for choice in typing.get_args(annotation))
    text = _KINDS.get(typing.get_origin(annotation) or annotation, str(annotation))
    bounds = []
    for rule in rules:
        for name, sign in (("gt", ">"), ("ge", ">="), *((("lt", "<"), ("le", "<=")) if upper else ())):
            if isinstance(rule, getattr(annotated_types, name.capitalize())):
                bounds.append(f"{sign} {getattr(rule, name)}")
    if text == "text":
        return field.description or text
    return " ".join([text, " and ".join(bounds)]).strip()


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
