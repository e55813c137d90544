"""Means over tokens, with an interval that knows tokens of one sample are not independent."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit


class Mean(NamedTuple):
    """A mean with its standard error and interval."""

    value: float
    standard_error: float
    lower: float
    upper: float


def clustered_mean(values: NDArray[Any], groups: NDArray[Any], *, level: float = 0.95) -> Mean:
    """Mean of all values that are there, with a standard error clustered by group.

    Parameters
    ----------
    values : float array (sample, position)
        NaN where there is no value.
    groups : int array (sample,)
        The unit of resampling; samples of one group are summed before they are compared.
    level
        Of the interval.

    Returns
    -------
    Mean
        value = Σx / n; standard error of that ratio by linearisation over G groups,
        sqrt(G/(G−1) Σ_g (Σ_{i∈g} (x_i − value))²) / n; Student t with G − 1 degrees of freedom. All NaN
        without a value; the error is NaN with fewer than two groups.

    Notes
    -----
    Liang & Zeger 1986, with the usual G/(G − 1). Copies the values once in float64.
    """
    x = np.asarray(values, dtype=np.float64)
    there = ~np.isnan(x)
    n = int(there.sum())
    if n == 0:
        return Mean(*(float("nan"),) * 4)
    mean = float(np.where(there, x, 0.0).sum() / n)
    residual = np.where(there, x - mean, 0.0).sum(axis=1)
    rows = there.any(axis=1)
    _, codes = np.unique(np.asarray(groups)[rows], return_inverse=True)
    sums = np.bincount(codes, weights=residual[rows])
    if len(sums) < 2:
        return Mean(mean, *(float("nan"),) * 3)
    error = float(np.sqrt(len(sums) / (len(sums) - 1) * np.square(sums).sum()) / n)
    reach = float(stdtrit(len(sums) - 1, 0.5 + level / 2)) * error
    return Mean(mean, error, mean - reach, mean + reach)
