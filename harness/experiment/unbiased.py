"""The squared norm of a mean gradient without the noise of the sampled tasks, and how far it can be trusted.

The mean g of T task gradients has E|g|^2 = |grad L_meta|^2 + tr(Sigma)/T, where Sigma is their covariance: on few
tasks the second term is most of it. Products of different groups of tasks have no such term. With sums a_b of
n_b task gradients over m groups, and A their sum,

    U = (|A|^2 - sum_b |a_b|^2) / (T^2 - sum_b n_b^2) = (m |g|^2 - mean_b |g_b|^2) / (m - 1)  for groups of one size

has E U = |grad L_meta|^2 (a U-statistic of degree 2, Hoeffding 1948). It may be negative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


def pair_products(sums: Tensor, sizes: Sequence[int]) -> Tensor:
    """x_b = m <a_b, A - a_b> / (T^2 - sum n_b^2) ``[m]`` of ``sums`` a_b ``[m, n]``; their mean is U.

    Parts of the parameters add up, so U on a block is the mean of the sum of its parts' products. Needs m >= 2.
    """
    import torch

    sums = sums.double()
    of_each = torch.mv(sums, sums.sum(0)) - sums.square().sum(1)
    return of_each * (len(sizes) / (sum(sizes) ** 2 - sum(size**2 for size in sizes)))


def mean_and_error(products: Sequence[float]) -> tuple[float, float]:
    """U and its standard error from m :func:`pair_products`; NaN for m < 2, and the error for m < 3.

    The jackknife over groups: right for a gradient that stands out of the noise, and about 1.4 times too large where
    the gradient is zero, so on the safe side (Efron and Stein 1981: its variance is never too small on average).
    """
    m = len(products)
    value = sum(products) / m if m > 1 else math.nan
    if m < 3:
        return value, math.nan
    spread = sum((product - value) * (product - value) for product in products)
    return value, math.sqrt(4 * (m - 1) / m * spread) / (m - 2)


def smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Medians of three measurements in a row ``[lines, ...] -> [lines, ...]``, the larger of two at the ends.

    K(epsilon) is decided on them. The first of many noisy values below epsilon comes the earlier the noisier they
    are, and so would favour the method with the larger variance. A course that falls keeps its values, whatever the
    method, but for the last. NaN stays.
    """
    if len(values) < 2:
        return values
    inside = np.median(np.stack([values[:-2], values[1:-1], values[2:]]), axis=0)
    return np.concatenate([values[:2].max(axis=0, keepdims=True), inside, values[-2:].max(axis=0, keepdims=True)])
