"""The list of claims, as data: ``claims.yaml`` beside this file, read and checked."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.report.findings.targets import Falling
from harness.store.yaml_core import load

Quantity = Literal[
    "iterations",
    "gradient_entries",
    "second_order_entries",
    "seconds",
    "smoothness_w",
    "smoothness_phi",
    "error",
    "error_w",
    "error_phi",
    "diverged",
    "accuracy",
]
Geometry = Literal["convex", "nonconvex"]
#: how a quantity is called in a claim's sentence
WHAT = {
    "gradient_entries": "gradient entries",
    "second_order_entries": "second-order entries",
    "seconds": "seconds",
    "smoothness_w": "in w",
    "smoothness_phi": "in φ",
}


class Entry(BaseModel):
    """One claim; with several quantities or geometries one for each of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)
    name: str = Field(pattern=r"^[\w-]+$")
    #: the heading under which reports show it
    section: str
    #: where in the paper it stands, and its statement in the paper's symbols
    where: str
    says: str
    #: what a report calls it: {K}, {target}, {kind} of target, {what} and {geometry} are filled in
    sentence: str
    #: which runs it needs, a function of readers.py: a series over N, over B, ...
    read: Literal["series", "batches", "along_k", "along_epsilon", "step_sizes", "geometries", "factors", "best"]
    geometry: tuple[Geometry, ...] = ()
    quantity: tuple[Quantity, ...]
    targets: tuple[Falling, ...] = ()
    #: a function of trends.py or pairs.py, and what it takes
    statistic: str
    options: dict[str, float] = {}
    #: what the statistic's intervals are about where the claim just does not hold
    H0: str
    held: str
    refuted: str
    #: of which runs: those with all steps and the optimizer of the theorem, with its alpha, all others, or any
    steps: Literal["theorem", "alpha", "other", "any"] = "any"
    one_step_size: bool = False
    #: how many N at least; these N alone; from this N on; an N that has to be the first, or be reached
    fewest: int = 2
    points: tuple[float, ...] = ()
    from_point: float | None = None
    first_point: float | None = None
    reaches: float | None = None
    #: L/mu from and to
    condition_number: tuple[float, float] | None = None


@cache
def listed() -> tuple[Entry, ...]:
    """The list as it is written."""
    text = resources.files(__package__).joinpath("claims.yaml").read_text("utf-8")
    _, found = load(text, "claims.yaml")
    return tuple(map(Entry.model_validate, map(_several, found)))


@cache
def entries() -> tuple[Entry, ...]:
    """Every claim, one quantity and geometry each, in the order in which reports show them."""
    return tuple(
        entry.model_copy(update={"quantity": (quantity,), "geometry": geometry})
        for entry in listed()
        for geometry in ([entry.geometry[i : i + 1] for i in range(len(entry.geometry))] or [()])
        for quantity in entry.quantity
    )


def _several(entry: dict[str, object]) -> dict[str, object]:
    """One geometry, or one quantity, is written as it is."""
    return {
        name: [value] if name in ("geometry", "quantity") and isinstance(value, str) else value
        for name, value in entry.items()
    }
