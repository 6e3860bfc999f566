"""Whether a training curve came down: what the paper means by diverging, beyond numbers that are not finite."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.report.findings.costs import chance
from harness.report.reading.runs import Run
from harness.store.records import Status

Losses = NDArray[np.float64]
Descent = Literal["came down", "did not come down", "not finite", "undecided"]
#: a tenth of the curve, and iterations enough that a test can tell anything
_SHARE, _LEAST = 0.1, 10
#: standard normal quantile of a one-sided test at 2.5 %
_FAR = 1.96


def descent(run: Run) -> Descent:
    """The training loss of the last tenth of ``run`` against its first tenth, and against chance where there is one.

    *Came down*: below both. *Did not come down*: above ln(ways), which knowing nothing gives, and not below the
    start; in regression, above the start. *Undecided* in between. Below and above mean a one-sided test at 2.5 %:
    Mann and Whitney's between the tenths, the sign test against chance. *Not finite* is a status of its own.
    """
    if "descent" not in run.cache:
        run.cache["descent"] = _descent(run)
    found: Descent = run.cache["descent"]
    return found


def _descent(run: Run) -> Descent:
    if run.summary.status == Status.DIVERGED:
        return "not finite"
    losses = run.metrics["loss"]
    count = max(_LEAST, int(_SHARE * losses.size))
    if losses.size < 2 * count or run.summary.status != Status.COMPLETED:
        return "undecided"
    start, end = losses[:count], losses[-count:]
    from_start = _mann_whitney(end, start)
    level = chance(run, "loss")
    if math.isnan(level):
        return "came down" if from_start < -_FAR else "did not come down" if from_start > _FAR else "undecided"
    from_chance = np.sign(end - level).sum() / math.sqrt(count)
    if from_start < -_FAR and from_chance < -_FAR:
        return "came down"
    return "did not come down" if from_chance > _FAR and from_start >= -_FAR else "undecided"


def _mann_whitney(a: Losses, b: Losses) -> float:
    """How far ``a`` ``[n]`` lies above ``b`` ``[n]``, in standard deviations of equal ones (Mann and Whitney 1947)."""
    n = a.size
    above = np.sign(a[:, None] - b).sum() / 2
    return float(above / math.sqrt(n * n * (2 * n + 1) / 12))
