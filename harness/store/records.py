"""What a run says when it ends, typed once for who writes it and for who reads it: ``summary.json``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WrapValidator

#: raised whenever a key of the summary changes its meaning or goes
SCHEMA = 2

#: kinds of work whose seconds add up over a run: an oracle's, the outer loop's step, and what several ranks wait for
#: each other and sum up
PHASES = ("features", "inner_gradient", "outer_gradient", "second_order", "outer_update", "exchange")


class Status(StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    INTERRUPTED = "interrupted"
    STOPPED = "stopped"
    # without a summary of its own: its process went, its settings were refused, its files are others now
    CRASHED = "crashed"
    REFUSED = "refused"
    CHANGED = "changed"


#: not done again
FINISHED = (Status.COMPLETED, Status.DIVERGED)
#: a result, which reports show; an interrupted or stopped run is none
RESULTS = (*FINISHED, Status.OUT_OF_MEMORY)
#: done again only where somebody asks for it
FAILED = (Status.DIVERGED, Status.OUT_OF_MEMORY, Status.CRASHED, Status.REFUSED, Status.CHANGED)

T = TypeVar("T")


def _or_none(value: Any, handler: Any) -> Any:
    try:
        return handler(value)
    except ValidationError:
        return None


def _or_empty(value: Any, handler: Any) -> Any:
    try:
        return handler(value)
    except ValidationError:
        return handler({})


def _or_unknown(value: Any, handler: Any) -> Any:
    try:
        return handler(value)
    except ValidationError:
        return ["unknown"]


Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[int, Field(ge=1, lt=2**63)]
#: what was not measured, or cannot be what it says, is None
Maybe = Annotated[T | None, WrapValidator(_or_none)]
Part = Annotated[T, WrapValidator(_or_empty)]
Number = Maybe[Annotated[float | int, Field(ge=-sys.float_info.max, le=sys.float_info.max)]]
Measured = Maybe[Annotated[float | int, Field(ge=0, le=sys.float_info.max)]]


class Record(BaseModel):
    """Read as strictly as it is written: true is no number, text is none, and no number is infinite."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)


class HeldOut(Record):
    """A mean over held-out tasks after adaptation and before, each with half its 95 % interval."""

    mean: Number = None
    ci95: Measured = None
    before_adaptation: Number = None
    before_adaptation_ci95: Measured = None


class Accuracy(HeldOut):
    """The same of shares between 0 and 1, and of how many tasks."""

    mean: Measured = None
    before_adaptation: Measured = None
    tasks: Measured = None


class Seconds(Record):
    """``train`` is all training, the first iteration included; ``wall`` has evaluation, logging and checkpoints too.

    Phases stay None for engines on other libraries, whose inside no clock can see. Of several ranks they are the first
    one's, which waits for the others in ``exchange``.
    """

    train: Measured = None
    first_iteration: Measured = None
    features: Measured = None
    inner_gradient: Measured = None
    outer_gradient: Measured = None
    second_order: Measured = None
    outer_update: Measured = None
    exchange: Measured = None
    wall: Measured = None


def _known(counts: dict[str, Any]) -> dict[str, Any]:
    return dict.fromkeys(COUNTED) | counts


#: what an oracle counts (docs/counts.md)
COUNTED = (
    *("gradient_entries", "second_order_entries", "hessian_vector_products", "mixed_products"),
    *("query_gradients", "solves", "pseudo_gradients"),
)
Counts = Annotated[Part[dict[str, Measured]], AfterValidator(_known)]


class Summary(Record):
    """Every number of a run; None for what was not measured or is not finite.

    What names a run and what its entries follow from has to be there. ``counts`` are totals, ``counts_per_task`` those
    of one task and meta-iteration. ``unknown`` says why ``counts`` or Definition 1 (``definition_1``) are not known,
    where they were asked for and are not, and what is not known of the inner loop (``convexity``) or the tasks
    (``task_stream``). ``resumed_elsewhere`` says what was different where the run went on (a version, a GPU): its
    seconds and memory are then those of no one machine. ``trial``: a study chose among such runs. ``route``: whether
    the oracles' layers are written out (and why not), whether features of a shared body are computed once a task, and
    how far that was from the model's own forward before the first iteration. ``files``: digests of what it belongs to,
    see :func:`harness.store.directory.changed`. ``plain_inner_loop``: whether L_meta is L_D after N steps of gradient
    descent on L_S, and no other function.
    """

    status: Annotated[Status, Field(strict=False)]
    algorithm: Name
    geometry: Name
    benchmark: Name
    inner_steps: Count
    inner_lr: Annotated[float | int, Field(gt=0)]
    meta_batch: Positive
    iterations: Positive
    iterations_done: Count
    seed: Count
    n_w: Count
    n_phi: Count
    w: list[Name]

    schema_: int = Field(SCHEMA, alias="schema")
    run_dir: Maybe[str] = None
    files: Maybe[dict[str, str]] = None
    key: Maybe[str] = None
    engine: Maybe[str] = None
    strategy: Maybe[str] = None
    route: Part[dict[str, Any]] = {}
    model: Maybe[str] = None
    adapt: Maybe[str] = None
    plain_inner_loop: Maybe[bool] = None
    loss_function: Maybe[str] = None
    loss_options: Part[dict[str, Any]] = {}
    ways: Maybe[Count] = None
    shots: Maybe[Count] = None
    queries: Maybe[Count] = None
    task_chunk: Maybe[Count] = None
    device: Maybe[str] = None
    ranks: Maybe[Count] = None
    dtype: Maybe[str] = None
    counts: Counts = {}
    counts_per_task: Counts = {}
    train_loss: Number = None
    accuracy: Part[Accuracy] = Accuracy()
    loss: Part[HeldOut] = HeldOut()
    metrics: Part[dict[str, HeldOut]] = {}
    diverged: Maybe[dict[str, Any]] = None
    unknown: Part[dict[str, Any]] = {}
    resumed_elsewhere: Annotated[list[str], WrapValidator(_or_unknown)] = []
    trial: Maybe[bool] = None
    out_of_memory: Maybe[dict[str, Any]] = None
    stopped: Maybe[str] = None
    seconds: Part[Seconds] = Seconds()
    flops_per_iteration: Measured = None
    peak_memory_bytes: Measured = None

    def document(self) -> dict[str, Any]:
        """As ``summary.json`` holds it."""
        return self.model_dump(mode="json", by_alias=True)


def flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """What is nested, by names joined with dots."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
