"""Spearman's rank correlation, with an interval that knows which pairs belong together."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit
from scipy.stats import rankdata

_FEWEST = 4


class Correlation(NamedTuple):
    """A correlation with its standard error, its interval, and the number of pairs."""

    value: float
    standard_error: float
    lower: float
    upper: float
    pairs: float


def spearman(
    x: NDArray[Any], y: NDArray[Any], groups: NDArray[Any] | None = None, *, level: float = 0.95
) -> Correlation:
    """Spearman's ρ of pairs, its standard error summed by group, and an interval on Fisher's scale.

    Parameters
    ----------
    x, y : float array (pair,)
        Values; ties share their mean rank, infinite values are ranked like others, pairs with a NaN
        are left out.
    groups : int array (pair,), optional
        The unit of resampling; by default every pair is its own.
    level
        Of the interval.

    Returns
    -------
    Correlation
        ρ is Pearson's correlation of mean ranks. Its error is the infinitesimal jackknife,
        sqrt(G/(G−1) Σ_g (Σ_{i∈g} u_i)²) / n with u the empirical influence of each pair on ρ, ties and
        both spreads of ranks included. The interval is tanh(atanh ρ ± t_{G−1} error / (1 − ρ²)). All
        but `pairs` is NaN with fewer than 4 pairs or where one side has a single value; the error is NaN
        with fewer than two groups, and the interval where |ρ| = 1.

    Notes
    -----
    Influence function of Spearman's ρ: Croux & Dehon 2010, §3, here for distributions with ties. For
    independent pairs it agrees with Bonett & Wright's 2000 variance (1 + ρ²/2)/(n − 3) where that is
    right (normal pairs, moderate ρ); unlike it, the sum over groups stays right where pairs of one
    document are alike. Costs two sorts and a few arrays of (pair,).
    """
    x, y = (np.asarray(v, np.float64) for v in (x, y))
    there = ~(np.isnan(x) | np.isnan(y))
    x, y, n = x[there], y[there], int(there.sum())
    nothing = Correlation(*(float("nan"),) * 4, float(n))
    if n < _FEWEST or x.min() == x.max() or y.min() == y.max():
        return nothing
    a, b = ((rankdata(v) - 0.5) / n - 0.5 for v in (x, y))  # mid-distribution, centred
    product, vx, vy = float((a * b).mean()), float((a * a).mean()), float((b * b).mean())
    rho = float(np.clip(product / np.sqrt(vx * vy), -1.0, 1.0))
    d_product = a * b - product + _moved(a, b) + _moved(b, a)
    d_vx = a * a - vx + 2 * _moved(a, a)
    d_vy = b * b - vy + 2 * _moved(b, b)
    influence = d_product / np.sqrt(vx * vy) - rho / 2 * (d_vx / vx + d_vy / vy)
    own = np.arange(n) if groups is None else np.asarray(groups)[there]
    _, codes = np.unique(own, return_inverse=True)
    sums = np.bincount(codes, weights=influence)
    if len(sums) < 2:
        return nothing._replace(value=rho)
    error = float(np.sqrt(len(sums) / (len(sums) - 1) * np.square(sums).sum()) / n)
    if 1 - abs(rho) < 1e-12:
        return nothing._replace(value=rho, standard_error=error)
    reach = float(stdtrit(len(sums) - 1, 0.5 + level / 2)) * error / (1 - rho * rho)
    z = np.arctanh(rho)
    return Correlation(rho, error, float(np.tanh(z - reach)), float(np.tanh(z + reach)), float(n))


def _moved(a: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    """What one more pair at each place moves the others' ranks by, weighted: E_j[(h_ij − F_j) w_j].

    h_ij is 1 if place i lies below j's, ½ if they are level, else 0; F the mid-distribution.
    """
    n = len(a)
    order = np.argsort(a, kind="stable")
    total = np.concatenate([[0.0], np.cumsum(weight[order])])
    below = np.searchsorted(a[order], a, side="left")
    upto = np.searchsorted(a[order], a, side="right")
    above = total[-1] - (total[below] + total[upto]) / 2
    moved: NDArray[Any] = above / n - float(((a + 0.5) * weight).mean())
    return moved
