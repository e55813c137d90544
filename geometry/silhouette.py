"""Silhouette of classes: whether points are nearer to their own class than to the next."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from geometry.jackknife import Estimate, interval_from_influence
from geometry.separation import (
    Index,
    blocks,
    check_metric,
    distances,
    in_metric,
    labelled,
    one_hot,
    usable,
)
from geometry.spectrum import FloatArray


def silhouette(x: ArrayLike, labels: ArrayLike, *, metric: str = "cosine") -> float:
    """Mean silhouette of labelled points.

    Parameters
    ----------
    x
        Points, shape (sample, feature), any real dtype.
    labels
        Class of each, shape (sample,).
    metric
        `cosine`: 1 − cos of the centred points; `euclidean`: between half z-scores, as `gdv` has them.

    Returns
    -------
    float
        Mean of (b − a) / max(a, b): a the mean distance to the other points of one's class, b the least
        mean distance to another class; 0 where both are 0. From −1 to 1. NaN as `gdv`, and for `cosine`
        if a point lies at the mean of all.

    Raises
    ------
    ValueError
        If the metric is unknown, `x` is not (sample, feature), or `labels` does not match.

    Notes
    -----
    Rousseeuw 1987. Hidden states share a large mean direction, so the cosine is of centred points.
    Time sample²·feature; memory that of the points, twice.
    """
    return silhouette_interval(x, labels, metric=metric).value


def silhouette_interval(
    x: ArrayLike,
    labels: ArrayLike,
    *,
    metric: str = "cosine",
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate[float]:
    """`silhouette` with an infinitesimal-jackknife interval by sample or by group.

    Parameters
    ----------
    x, labels, metric
        As in `silhouette`.
    groups, level
        As in `geometry.separation.gdv_interval`.

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError
        As `silhouette`.

    Notes
    -----
    A sample moves the mean by its own silhouette and by what it adds to the mean distances a and b of all
    others. Mean and standard deviations of features, and which class is the next, are taken as they are.
    """
    check_metric(metric)
    points, codes = labelled(x, labels)
    if not usable(points, np.bincount(codes)):
        return Estimate(*(float("nan"),) * 4)
    z = in_metric(points, metric)
    if z is None:
        return Estimate(*(float("nan"),) * 4)
    value, influence = _influence(z, codes, squared=metric == "cosine")
    return interval_from_influence(value, influence, groups=groups, level=level)


def _influence(z: FloatArray, codes: Index, *, squared: bool) -> tuple[float, FloatArray]:
    """Mean silhouette and how far each sample pulls it; half squared distances are 1 − cos."""
    n, member = len(z), one_hot(codes)
    counts = member.sum(axis=0)
    sums = np.concatenate([_between(z, rows, squared) @ member for rows in blocks(n)])
    own = np.arange(n), codes
    means = sums / (counts - member)  # mean distance to each class, oneself left out
    a = means[own]
    means[own] = np.inf
    following = means.argmin(axis=1)
    b = means[np.arange(n), following]
    most = np.maximum(a, b)
    safe = np.where(most > 0.0, most, 1.0)
    s = np.where(most > 0.0, (b - a) / safe, 0.0)
    # ∂s/∂a and ∂s/∂b: s is 1 − a/b where a is less, and b/a − 1 where it is more.
    less = a < b
    by_a = np.where(less, -1.0 / safe, -b / safe**2)
    by_b = np.where(less, a / safe**2, 1.0 / safe)
    # Sample i moves a of a point j of its class by (D_ij − a_j)/N, and b_j of those it is next to.
    slope = np.zeros_like(member)
    slope[own] = by_a / (counts[codes] - 1)
    slope[np.arange(n), following] = by_b / counts[following]
    levels = np.where(np.arange(len(counts)) == codes[:, None], a[:, None], b[:, None])
    pulled = -(slope * levels).sum(axis=0)[codes]
    for rows in blocks(n):
        pulled[rows] += (_between(z, rows, squared) * slope[:, codes[rows]].T).sum(axis=1)
    pulled += slope[own] * a  # not by itself
    return float(s.mean()), s - s.mean() + pulled


def _between(z: FloatArray, rows: slice, squared: bool) -> FloatArray:
    found = distances(z, rows)
    return 0.5 * np.square(found) if squared else found
