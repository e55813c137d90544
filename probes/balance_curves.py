"""Where a falling curve of text-following crosses one half: logistic, isotonic and binned."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float64]

HALF = 0.5
_ROUNDING = 1e-9
_STEPS = 60  # of Newton's method; a handful are enough unless sides are nearly separated
_LONGEST = 3.0  # a step in standard units: further and the curve saturates


class Binned(NamedTuple):
    """A curve in bins: mean Δ, mean rate and weight of each (bin,)."""

    delta: Floats
    rate: Floats
    weight: Floats


def equal_count_bins(
    delta: Floats, follows: Floats, weights: Floats | None = None, *, bins: int = 10
) -> Binned:
    """Bins of Δ with about equally many cases, equal values of Δ never apart.

    Parameters
    ----------
    delta, follows, weights : float array (case,)
        Without NaN; weights are 1 by default.
    bins
        At most so many, and at most one for every 5 cases; ties can leave fewer.

    Returns
    -------
    Binned
        Sorted by Δ.
    """
    w = np.ones(len(delta)) if weights is None else weights
    if not (w > 0).any():
        return Binned(np.empty(0), np.empty(0), np.empty(0))
    place = equal_count_places(delta, w, bins=bins)
    weight = np.bincount(place, weights=w).astype(np.float64)
    sums, places = (np.bincount(place, weights=w * v) for v in (follows, delta))
    kept = weight > 0
    return Binned(places[kept] / weight[kept], sums[kept] / weight[kept], weight[kept])


def equal_count_places(
    delta: Floats, weights: Floats | None = None, *, bins: int = 10
) -> NDArray[np.int64]:
    """Number of each case's bin, as `equal_count_bins` makes them (case,)."""
    codes = np.unique(delta, return_inverse=True)[1]
    mass = np.bincount(codes, weights=weights)
    count = max(1, min(bins, len(delta) // 5))
    middle = (np.cumsum(mass) - mass / 2) / max(float(mass.sum()), 1e-300)
    place: NDArray[np.int64] = np.minimum((middle * count).astype(np.int64), count - 1)
    return place[codes]


def falls(delta: Floats, follows: Floats, weights: Floats) -> NDArray[np.int64]:
    """Sign of the covariance of Δ and following under each row of weights (draw, case): −1 falls.

    It is the sign of the slope of a logistic fit, and 0 where one side is never followed.
    """
    total = weights.sum(1)
    mean_x, mean_y = weights @ delta / total, weights @ follows / total
    covariance = weights @ (delta * follows) / total - mean_x * mean_y
    one_sided = (mean_y <= 0) | (mean_y >= 1)
    level = np.abs(covariance) < 1e-12 * max(1.0, float(np.abs(delta).max()))
    found: NDArray[np.int64] = np.where(one_sided | level, 0, np.sign(covariance)).astype(np.int64)
    return found


def logistic_crossings(delta: Floats, follows: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Where logistic curves P = σ(−k (Δ − b)) cross one half, under each row of weights.

    Parameters
    ----------
    delta, follows : float array (case,)
        Sorted by Δ.
    weights : float array (draw, case)
        At least 0.

    Returns
    -------
    tuple of float64 array (draw,)
        b, and the slope at it, dP/dΔ = −k/4. Where all that follow text lie below all that follow vision,
        maximum likelihood has no finite k: b is then the middle between them and the slope −∞. Rows that
        never follow one side, or do not fall, are NaN.

    Notes
    -----
    Newton's method for all draws at once, on Δ in standard units; memory a few arrays of (draw, case).
    """
    draws = len(weights)
    place, slope = np.full(draws, np.nan), np.full(draws, np.nan)
    falling = falls(delta, follows, weights) < 0
    used = weights > 0
    text_end = np.where(used & (follows > 0), delta, -np.inf).max(1, initial=-np.inf)
    vision_end = np.where(used & (follows < 1), delta, np.inf).min(1, initial=np.inf)
    apart = falling & (text_end <= vision_end)
    place[apart] = (text_end[apart] + vision_end[apart]) / 2
    slope[apart] = -np.inf
    rows = np.flatnonzero(falling & ~apart)
    if rows.size:
        centre, scale = float(delta.mean()), float(delta.std())
        intercept, gain = _fitted((delta - centre) / scale, follows, weights[rows])
        place[rows] = centre - scale * intercept / gain
        slope[rows] = gain / scale / 4
    return place, slope


def _fitted(x: Floats, y: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Intercept and slope of logistic regressions on one predictor, a row of weights each."""
    a, b = np.zeros(len(weights)), np.zeros(len(weights))
    rows = np.arange(len(weights))
    for _ in range(_STEPS):
        w = weights[rows]
        p = expit(a[rows, None] + b[rows, None] * x)
        left, v = w * (y - p), w * p * (1 - p)
        g0, g1 = left.sum(1), left @ x
        h0, h1, h2 = v.sum(1), v @ x, v @ (x * x)
        det = np.maximum(h0 * h2 - h1 * h1, 1e-300)
        da, db = (h2 * g0 - h1 * g1) / det, (h0 * g1 - h1 * g0) / det
        size = np.maximum(np.hypot(da, db), 1e-300)
        cut = np.minimum(1.0, _LONGEST / size)
        a[rows] += cut * da
        b[rows] += cut * db
        rows = rows[size > 1e-9 * (1 + np.hypot(a[rows], b[rows]))]
        if rows.size == 0:
            break
    return a, b


def isotonic_crossing(delta: Floats, follows: Floats, weights: Floats) -> float:
    """Where the best falling step curve, joined by lines, crosses one half.

    Parameters
    ----------
    delta, follows, weights : float array (case,)
        Sorted by Δ.

    Returns
    -------
    float
        +∞ if it stays above, −∞ if below; the middle where it runs level at one half.

    Notes
    -----
    Pool-adjacent-violators (scikit-learn) on the distinct values of Δ.
    """
    from sklearn.isotonic import isotonic_regression

    used = weights > 0
    values, codes = np.unique(delta[used], return_inverse=True)
    mass = np.bincount(codes, weights=weights[used])
    rate = np.bincount(codes, weights=weights[used] * follows[used]) / mass
    return _crossing(values, isotonic_regression(rate, sample_weight=mass, increasing=False))


def binned_crossing(delta: Floats, follows: Floats, weights: Floats, bins: int) -> float:
    """Where means of equal-count bins, joined by lines, cross one half.

    Parameters
    ----------
    delta, follows, weights : float array (case,)
        Sorted by Δ.
    bins
        As `equal_count_bins` takes it.

    Returns
    -------
    float
        The median of the crossings, an odd number, where the first bin lies above and the last below;
        ±∞ where all or the two outer ones lie above (+) or below (−); NaN where it goes from below to
        above.
    """
    curve = equal_count_bins(delta, follows, weights, bins=bins)
    if len(curve.rate) == 0:
        return float("nan")
    return _crossing(curve.delta, curve.rate)


def _crossing(x: Floats, y: Floats) -> float:
    """Where a curve through points crosses one half downwards, as `binned_crossing` says."""
    # A mean of exactly one half comes out a rounding off, to a side that depends on the order of summing.
    side = np.where(np.abs(y - HALF) < _ROUNDING, 0.0, np.sign(y - HALF))
    firm = np.flatnonzero(side)
    if firm.size == 0:
        return float("nan")
    first, last = side[firm[0]], side[firm[-1]]
    if first == last:
        return float(np.inf * first)
    if first < 0:
        return float("nan")
    places = []
    for left, right in pairwise(firm):
        if side[left] == side[right]:
            continue
        if right > left + 1:  # it runs level at one half in between
            places.append((x[left + 1] + x[right - 1]) / 2)
        else:
            share = (y[left] - HALF) / (y[left] - y[right])
            places.append(x[left] + share * (x[right] - x[left]))
    return float(np.median(places))
