"""RunConfig: the one schema behind flags, YAML files and the run key. Importing it must not import torch."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import annotated_types
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from harness.errors import InputError, unknown

S = TypeVar("S", bound=BaseModel)
#: floats beyond it do not know their last digits
_WHOLE = 2.0**53

#: a number of tasks evaluated at once, or as many as fit in memory
TaskChunk = Annotated[int, Field(ge=1)] | Literal["auto"]


#: beyond these a number is a slip of the hand, or meant to fill the memory
MOST, MOST_ITERATIONS = 1_000_000, 1_000_000_000
#: a step size has to be a float32; Adam takes ten times its own first
MOST_STEP, MOST_OUTER_STEP = 1e38, 1e37


class Settings(BaseModel):
    """What a person sets: true is no number, text is neither, and 1e3 is an integer where one is asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, values: Any) -> Any:
        return with_integers(cls, values) if isinstance(values, Mapping) else values


class ProblemConfig(Settings):
    """What every command that takes a model and tasks asks for; symbols as in Ji et al. 2020.

    Fields left at None are filled by the algorithm or the benchmark; a benchmark's own ``defaults``
    replace the defaults below where the user has not set the field.
    """

    benchmark: str = Field(
        default="glyphs",
        min_length=1,
        description="family of tasks, see `harness list`; or module:Class, FILE.py:Class",
    )
    benchmark_options: dict[str, Any] = Field(default={}, description="options of the benchmark")
    model: str | None = Field(
        default=None,
        min_length=1,
        description="cnn, mlp, coupled, module:function or FILE.py:function; unset: the benchmark's",
    )
    model_options: dict[str, Any] = Field(default={}, description="options of the model, as {filters: 32}")
    adapt: str | None = Field(
        default=None, min_length=1, description="parameters in w: all, last:K or a regex; unset: the geometry's"
    )
    algo_options: dict[str, Any] = Field(default={}, description="options of the algorithm, as {l2: 0.01}")
    loss: str | None = Field(
        default=None,
        min_length=1,
        description="cross_entropy, mse, l1, huber, bce, or module:function, FILE.py:function of (prediction, target); "
        "unset: the benchmark's",
    )
    loss_options: dict[str, Any] = Field(default={}, description="options of the loss, as {label_smoothing: 0.1}")
    ways: int = Field(default=5, ge=1, le=MOST, description="classes in a task")
    shots: int = Field(default=5, ge=1, le=MOST, description="support examples of each class")
    queries: int = Field(default=5, ge=1, le=MOST, description="query examples of each class")
    inner_lr: float = Field(default=0.1, gt=0, le=MOST_STEP, description="alpha, step size of the inner loop")
    meta_batch: int = Field(default=8, ge=1, le=MOST, description="B, tasks in a meta-iteration")
    seed: int = Field(default=0, ge=0, lt=2**63, description="seed of the initialisation and of the task streams")
    device: str = Field(
        default="auto", pattern=r"^(auto|cpu|cuda|cuda:\d{1,3})$", description="auto, cpu, cuda or cuda:INDEX"
    )


class WorkConfig(ProblemConfig):
    """The same, and how the work on it is done."""

    norm_statistics: Literal["separate", "joint"] = Field(
        default="separate", description="batch norm sees support and query separately, or together in the shared body"
    )
    dtype: Literal["float32", "float64"] = Field(default="float32", description="type of parameters and inputs")
    tf32: bool | None = Field(
        default=None, description="whether CUDA may round factors of float32 products to TF32; unset: as torch has it"
    )
    threads: int | None = Field(default=None, ge=1, le=4096, description="CPU threads; unset: as torch chooses")


class RunConfig(WorkConfig):
    """One run: what is trained, on which tasks, how, and on what device."""

    algo: str = Field(default="anil", min_length=1, description="algorithm, NAME or NAME:GEOMETRY, see `harness list`")
    geometry: str | None = Field(
        default=None,
        min_length=1,
        description="shape of the inner loop (convex, nonconvex); unset: the algorithm's first",
    )
    inner_steps: int = Field(default=5, ge=0, le=MOST, description="N, steps of the inner loop")
    iterations: int = Field(default=100, ge=1, le=MOST_ITERATIONS, description="K, meta-iterations")
    outer_optimizer: Literal["adam", "sgd"] = Field(default="adam", description="optimizer of the outer loop")
    outer_lr_w: float = Field(default=1e-3, gt=0, le=MOST_OUTER_STEP, description="beta_w, outer step size of w")
    outer_lr_phi: float = Field(default=1e-3, gt=0, le=MOST_OUTER_STEP, description="beta_phi, outer step size of phi")
    engine: str = Field(default="native", min_length=1, description="library that computes meta-gradients")
    strategy: str = Field(default="auto", min_length=1, description="how the engine computes an exact meta-gradient")
    task_chunk: TaskChunk = Field(
        default="auto",
        description="tasks of a meta-batch evaluated at once; auto: as the strategy has it, halved until they fit",
    )
    eval_tasks: int = Field(default=600, ge=2, le=MOST, description="held-out tasks of an evaluation")
    eval_every: int = Field(
        default=0, ge=0, le=MOST_ITERATIONS, description="meta-iterations between validations; 0: only test at the end"
    )
    stationarity_every: int = Field(
        default=0,
        ge=0,
        le=MOST_ITERATIONS,
        description="meta-iterations between measurements of both partial meta-gradients (Definition 1); 0: none",
    )
    stationarity_tasks: int = Field(
        default=64, ge=1, le=MOST, description="fixed tasks that Definition 1 is measured on"
    )
    checkpoint_every: int = Field(
        default=50, ge=1, le=MOST_ITERATIONS, description="meta-iterations between checkpoints"
    )
    label: str | None = Field(
        default=None, min_length=1, max_length=40, description="what reports call this setting, such as tuned"
    )

    @model_validator(mode="before")
    @classmethod
    def _with_geometry(cls, values: Any) -> Any:
        """``anil:convex`` is an algorithm and its geometry, as in a list of algorithms."""
        algo = values.get("algo") if isinstance(values, Mapping) else None
        if not isinstance(algo, str) or ":" not in algo:
            return values
        name, _, geometry = algo.partition(":")
        if (given := values.get("geometry", geometry)) not in (geometry, None):
            raise InputError(f"algorithm {algo!r} with geometry {given!r}: two geometries; allowed: one")
        return {**values, "algo": name, "geometry": geometry}


def validate(values: Mapping[str, Any], origins: Mapping[str, str] | None = None) -> RunConfig:
    """``RunConfig(**values)``, see :func:`validate_as`."""
    return validate_as(RunConfig, values, origins)


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
