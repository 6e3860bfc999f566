"""Fits of what the theory predicts to what was measured: K(N), and the decay of a smoothness constant with N."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from harness.errors import InputError

Array = NDArray[np.float64]
#: (value, low, high): a parameter with its 95 % interval
Parameter = tuple[float, float, float]

#: share of the variance that a form has to explain
MIN_R_SQUARED = 0.8


@dataclass(frozen=True)
class Fit:
    """A form fitted to data. Where nothing could be fitted, no parameters, and NaN for the rest."""

    form: str
    parameters: dict[str, Parameter]
    #: 1 - (residual sum of squares) / (sum of squares around the mean)
    r_squared: float
    holds: bool
    #: why it holds or does not, in words; names every point left out
    reason: str
    curve: Callable[..., Array] | None = field(default=None, repr=False, compare=False)

    def predict(self, inner_steps: float) -> float:
        """The form at N; NaN where nothing was fitted."""
        if self.curve is None:
            return math.nan
        return float(self.curve(np.float64(inner_steps), *(value for value, _, _ in self.parameters.values())))


def fit_convex(inner_steps: Sequence[float], iterations: Sequence[float]) -> Fit:
    """K(N) = a (1-xi)^{N/2} + c, the form of Theorem 1: falls exponentially, then saturates at c.

    Holds where 0 < xi < 1 and a > 0 with 95 % intervals that exclude a constant K (a = 0 or xi = 0), and R^2 is at
    least :data:`MIN_R_SQUARED`. Noise around a constant passes less often than once in a hundred. At least four
    different N, one more than parameters.
    Infinite K (a target never reached) are left out and named.
    """
    form = "a (1-xi)^(N/2) + c"
    N, K, left_out = _usable(inner_steps, iterations)
    if len(set(N.tolist())) < 4:
        return _unfitted(form, f"{len(set(N.tolist()))} different N, at least 4 are needed", left_out)
    if refusal := _flat(K):
        return _unfitted(form, refusal, left_out)
    fit = _curve_fit(form, _convex, ("a", "xi", "c"), N, K, _convex_start(N, K))
    if fit is None:
        return _unfitted(form, "the data do not determine the parameters", left_out)
    (a, a_low, _), (xi, xi_low, _) = fit.parameters["a"], fit.parameters["xi"]
    faults = [] if _explains(fit) else [_poor(fit)]
    if a < 0:
        faults.insert(0, "K rises with N")
    elif not a_low > 0:
        faults.append("the interval of a contains 0")
    if not 0 < xi < 1:
        faults.append("xi is not between 0 and 1")
    elif not xi_low > 0:
        faults.append("the interval of xi contains 0")
    if fit.parameters["c"][2] < 0:
        faults.append("K would saturate below 0")
    return _judged(fit, faults, left_out)


def fit_linear(inner_steps: Sequence[float], iterations: Sequence[float]) -> Fit:
    """K(N) = a N, the form of Theorem 2: proportional to N.

    Holds where the 95 % interval of a excludes 0 and R^2 is at least :data:`MIN_R_SQUARED`, which a K that does not
    depend on N, or depends on it less than proportionally, fails. At least two points, and two different N.
    """
    form = "a N"
    N, K, left_out = _usable(inner_steps, iterations)
    if len(set(N.tolist())) < 2:
        return _unfitted(form, f"{len(set(N.tolist()))} different N, at least 2 are needed", left_out)
    if refusal := _flat(K):
        return _unfitted(form, refusal, left_out)
    fit = _curve_fit(form, _linear, ("a",), N, K, [float((N @ K) / (N @ N))])
    if fit is None:
        return _unfitted(form, "the data do not determine the parameters", left_out)
    faults = [] if _explains(fit) else [_poor(fit)]
    if not fit.parameters["a"][1] > 0:
        faults.append("the interval of a contains 0")
    return _judged(fit, faults, left_out)


def fit_decay(inner_steps: Sequence[float], values: Sequence[float]) -> Fit:
    """value(N) = a rate^N, by linear regression of log value on N: Proposition 2 has the rate 1 - alpha mu.

    Holds where the 95 % interval of ``rate`` is below 1 and R^2, of the logarithms, is at least
    :data:`MIN_R_SQUARED`; growth is no decay. At least three different N; values that are not
    positive are left out and named.
    """
    form = "a rate^N"
    N, value, left_out = _usable(inner_steps, values, positive=True)
    if len(set(N.tolist())) < 3:
        return _unfitted(form, f"{len(set(N.tolist()))} different N, at least 3 are needed", left_out)
    if refusal := _flat(np.log(value)):
        return _unfitted(form, refusal, left_out)
    line = stats.linregress(N, np.log(value))
    t = float(stats.t.ppf(0.975, len(N) - 2))
    parameters = {
        name: (math.exp(at), math.exp(at - t * error), math.exp(at + t * error))
        for name, at, error in (("a", line.intercept, line.intercept_stderr), ("rate", line.slope, line.stderr))
    }
    fit = Fit(form, parameters, float(line.rvalue**2), False, "", lambda n, a, rate: a * rate**n)
    faults = [] if _explains(fit) else [_poor(fit)]
    if parameters["rate"][1] > 1:
        faults.insert(0, "it rises with N")
    elif parameters["rate"][2] >= 1:
        faults.append("the interval of the rate contains 1")
    return _judged(fit, faults, left_out)


def _convex(N: Array, a: float, xi: float, c: float) -> Array:
    return np.asarray(a * np.abs(1 - xi) ** (N / 2) + c)


def _linear(N: Array, a: float) -> Array:
    return np.asarray(a * N)


def _convex_start(N: Array, K: Array) -> list[float]:
    """For a given xi, a and c are a linear regression: the best over a grid of xi."""
    best = (math.inf, [0.0, 0.0, 0.0])
    for xi in -np.expm1(-np.geomspace(1e-3, 10, 200)):
        design = np.stack([_convex(N, 1, xi, 0), np.ones_like(N)], 1)
        (a, c), *_ = np.linalg.lstsq(design, K)
        error = float(((design @ [a, c] - K) ** 2).sum())
        best = min(best, (error, [float(a), float(xi), float(c)]))
    return best[1]


def _curve_fit(
    form: str, curve: Callable[..., Array], names: tuple[str, ...], N: Array, K: Array, start: list[float]
) -> Fit | None:
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("error", optimize.OptimizeWarning)  # the covariance could not be estimated
            values, covariance = optimize.curve_fit(curve, N, K, p0=start, maxfev=10_000)
    except (RuntimeError, optimize.OptimizeWarning):
        return None
    if not np.isfinite(values).all():
        return None
    half = stats.t.ppf(0.975, len(N) - len(names)) * np.sqrt(np.diag(covariance))
    parameters = {
        name: (float(value), float(value - h), float(value + h))
        for name, value, h in zip(names, values, half, strict=True)
    }
    r_squared = 1 - float(((curve(N, *values) - K) ** 2).sum() / ((K - K.mean()) ** 2).sum())
    return Fit(form, parameters, r_squared, False, "", curve)


def _explains(fit: Fit) -> bool:
    return fit.r_squared >= MIN_R_SQUARED


def _poor(fit: Fit) -> str:
    return f"R² = {fit.r_squared:.2f} is below {MIN_R_SQUARED}"


def _flat(K: Array) -> str:
    spread, size = float(np.ptp(K)), float(np.abs(K).max())
    return "K does not change with N" if spread <= 1e-12 * size else ""


def _usable(
    inner_steps: Sequence[float], values: Sequence[float], positive: bool = False
) -> tuple[Array, Array, list[str]]:
    """Finite points, and the N of the others."""
    if len(inner_steps) != len(values):
        raise InputError(f"{len(inner_steps)} N and {len(values)} values; allowed: as many of one as of the other")
    N, K = np.asarray(inner_steps, np.float64), np.asarray(values, np.float64)
    if not np.isfinite(N).all() or (N < 0).any():
        raise InputError(f"N {list(inner_steps)}: allowed: finite numbers >= 0")
    good = np.isfinite(K) & ((K > 0) | (not positive))
    kind = "not positive" if positive else "infinite"
    left_out = [
        f"N = {n:g} ({kind if not np.isnan(k) else 'not a number'})" for n, k in zip(N[~good], K[~good], strict=True)
    ]
    return N[good], K[good], left_out


def _unfitted(form: str, reason: str, left_out: list[str]) -> Fit:
    return _judged(Fit(form, {}, math.nan, False, ""), [reason], left_out)


def _judged(fit: Fit, faults: list[str], left_out: list[str]) -> Fit:
    reason = "; ".join(faults) or f"R² = {fit.r_squared:.2f}, and the dependence on N is beyond noise"
    if left_out:
        reason += f"; left out: {', '.join(left_out)}"
    return Fit(fit.form, fit.parameters, fit.r_squared, not faults, reason, fit.curve)
