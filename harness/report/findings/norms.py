"""Squared norms of the partial meta-gradients along a run, on its own (w, phi) or on another: Definition 1."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import InputError
from harness.experiment.unbiased import mean_and_error, smoothed
from harness.report.reading.documents import number
from harness.report.reading.runs import Run


def has_block(run: Run, w: Iterable[str]) -> bool:
    """Whether the partial norms of ``run`` can be taken on the block of these parameters."""
    return bool(block := frozenset(w)) and all(block <= line["squared_norms"].keys() for line in run.stationarity[:1])


@dataclass(frozen=True)
class Norms:
    """Squared norms of both partial meta-gradients at each measurement, w and phi: ``[lines, 2]``."""

    values: NDArray[np.float64]
    #: standard errors; NaN in runs of older versions, whose values hold the noise of the sampled tasks
    errors: NDArray[np.float64]
    #: whether ``values`` are estimates for all tasks, see :mod:`harness.experiment.unbiased`
    unbiased: bool

    @property
    def error(self) -> NDArray[np.float64]:
        """The larger of both standard errors ``[lines]``."""
        found: NDArray[np.float64] = self.errors.max(axis=1)
        return found


def is_unbiased(run: Run) -> bool:
    """Whether Definition 1 was measured without the noise of the sampled tasks: not so in older versions."""
    return bool(run.stationarity) and all(line["products"] is not None for line in run.stationarity)


def partial_norms(run: Run, w: frozenset[str] | None = None) -> Norms:
    """Squared norms on ``w`` and the rest, on the run's own block by default; NaN where not finite."""
    key = ("partial_norms", w)
    if key not in run.cache:
        if w is not None and run.stationarity and not has_block(run, w):
            raise InputError(f"{run.path}: parameters {', '.join(sorted(w))} are not those of this run's model")
        run.cache[key] = _unbiased_norms(run, w) if is_unbiased(run) else _norms_with_noise(run, w)
    found: Norms = run.cache[key]
    return found


def _unbiased_norms(run: Run, w: frozenset[str] | None) -> Norms:
    block = frozenset(run.summary.w) if w is None else w
    pairs = []
    for line in run.stationarity:
        sides: list[list[NDArray[np.float64]]] = [[], []]
        for name, products in line["products"].items():
            sides[name not in block].append(products)
        pairs.append([mean_and_error(sum(side).tolist()) if side else (0.0, 0.0) for side in sides])  # type: ignore[union-attr]
    found = np.array(pairs, dtype=float)
    return Norms(found[..., 0], found[..., 1], True)


def _norms_with_noise(run: Run, w: frozenset[str] | None) -> Norms:
    values = np.array([_squared_norms(line, w) for line in run.stationarity], dtype=float).reshape(-1, 2)
    return Norms(values, np.full_like(values, math.nan), False)


def _squared_norms(line: Mapping[str, Any], w: frozenset[str] | None) -> tuple[float, float]:
    if w is None:
        return number(line["grad_w_squared_norm"]), number(line["grad_phi_squared_norm"])
    parts = {name: number(value) for name, value in line["squared_norms"].items()}
    if not w <= parts.keys():
        return math.nan, math.nan
    in_w = math.fsum(value for name, value in parts.items() if name in w)
    return in_w, math.fsum(value for name, value in parts.items() if name not in w)


def larger_norms(run: Run, w: frozenset[str] | None = None) -> NDArray[np.float64]:
    """The larger of both squared norms around each measurement ``[lines]``: Definition 1 asks that it be below epsilon.

    See :func:`smoothed`: one low value among noisy ones does not count.
    """
    key = ("larger_norms", w)
    if key not in run.cache:
        run.cache[key] = smoothed(partial_norms(run, w).values).max(axis=1, initial=-math.inf)
    found: NDArray[np.float64] = run.cache[key]
    return found
