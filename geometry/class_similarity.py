"""How alike the similarities of points and the classes of the points are: RSA and CKA."""

from __future__ import annotations

from typing import Any

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
from geometry.similarity import linear_cka
from geometry.spectrum import FloatArray

_DIGITS = 10  # to which dissimilarities, relative to the largest, are told apart
_NOTHING: Estimate[float] = Estimate(*(float("nan"),) * 4)


def class_rsa(x: ArrayLike, labels: ArrayLike, *, metric: str = "cosine") -> float:
    """Representational similarity analysis against the matrix of same and different classes.

    Parameters
    ----------
    x
        Points, shape (sample, feature), any real dtype.
    labels
        Class of each, shape (sample,).
    metric
        Dissimilarity of two points: `cosine`, 1 − cos of the centred points; `euclidean`, of half
        z-scores.

    Returns
    -------
    float
        Spearman's correlation, over pairs of samples, of dissimilarity with being of different classes.
        As one of the two takes two values, 1 is out of reach: with shares s and 1 − s of pairs the most
        is √(3 s (1 − s)). NaN as `gdv`, if all dissimilarities are equal, and for `cosine` if a point
        lies at the mean of all.

    Raises
    ------
    ValueError
        If the metric is unknown, `x` is not (sample, feature), or `labels` does not match.

    Notes
    -----
    Kriegeskorte et al. 2008. Time and memory of sorting sample²/2 numbers: take a subset of more than
    about 2000 samples.
    """
    return class_rsa_interval(x, labels, metric=metric).value


def class_rsa_interval(
    x: ArrayLike,
    labels: ArrayLike,
    *,
    metric: str = "cosine",
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate[float]:
    """`class_rsa` with an infinitesimal-jackknife interval by sample or by group.

    Parameters
    ----------
    x, labels, metric
        As in `class_rsa`.
    groups, level
        As in `geometry.separation.gdv_interval`.

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError
        As `class_rsa`.

    Notes
    -----
    The correlation is (A − ½) times a constant of the ranks, A the chance that a pair of different
    classes is further apart than a pair of one class; a sample pulls A through the placements of
    all pairs it is in (DeLong et al. 1988), each pair being one value. The features' means and
    deviations are taken as they are.
    """
    check_metric(metric)
    points, codes = labelled(x, labels)
    if not usable(points, np.bincount(codes)):
        return _NOTHING
    z = in_metric(points, metric)
    if z is None:
        return _NOTHING
    n = len(z)
    first, second = np.triu_indices(n, 1)
    apart = np.concatenate([distances(z, rows) for rows in blocks(n)])[first, second]
    # Copies of a point are equally far from any other, but for round-off.
    apart = np.round(apart / max(apart.max(), np.finfo(np.float64).tiny), _DIGITS)
    different = np.asarray(codes[first] != codes[second])
    placement, spread = _placements(apart, different)
    if spread == 0.0:
        return _NOTHING
    many, few = int(different.sum()), int((~different).sum())
    auc = float(placement[different].mean())
    pulled = (placement - auc) / np.where(different, many, few)
    factor = float(np.sqrt(float(many) * few)) / spread
    summed: Any = np.bincount(first, pulled, n) + np.bincount(second, pulled, n)
    influence = np.asarray(summed * (factor * n), np.float64)
    return interval_from_influence(factor * (auc - 0.5), influence, groups=groups, level=level)


def _placements(values: FloatArray, upper: Index) -> tuple[FloatArray, float]:
    """Share of the other kind each value is on the right side of, ties half; and the ranks' deviation.

    The mean over either kind is the chance that a value of the kind `upper` is the larger one.
    """
    order = np.argsort(values)
    ordered, flag = values[order], upper[order]
    tie = np.cumsum(np.concatenate([[False], ordered[1:] != ordered[:-1]]))
    of_upper, of_all = np.bincount(tie, flag), np.bincount(tie).astype(np.float64)
    of_lower = of_all - of_upper
    below_upper = np.cumsum(of_upper) - 0.5 * of_upper
    below_lower = np.cumsum(of_lower) - 0.5 * of_lower
    out = np.empty(len(values))
    out[order] = np.where(
        flag, (below_lower / of_lower.sum())[tie], 1.0 - (below_upper / of_upper.sum())[tie]
    )
    rank = below_upper + below_lower
    mean = len(values) / 2
    return out, float(np.sqrt(of_all @ np.square(rank - mean) / len(values)))


def class_cka(x: ArrayLike, labels: ArrayLike, *, debiased: bool | None = None) -> float:
    """Linear centred kernel alignment of points with the matrix of their classes.

    Parameters
    ----------
    x
        Points, shape (sample, feature), any real dtype.
    labels
        Class of each, shape (sample,).
    debiased
        As in `geometry.similarity.linear_cka`; None: debiased if there are fewer samples than features,
        where the biased value of anything is near 1.

    Returns
    -------
    float
        ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) of centred X and one-hot Y; NaN as `gdv`.

    Raises
    ------
    ValueError
        If `x` is not (sample, feature), or `labels` does not match.

    Notes
    -----
    Kornblith et al. 2019, 1905.00414 §3.
    """
    return class_cka_interval(x, labels, debiased=debiased).value


def class_cka_interval(
    x: ArrayLike,
    labels: ArrayLike,
    *,
    debiased: bool | None = None,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate[float]:
    """`class_cka` with an infinitesimal-jackknife interval by sample or by group.

    Parameters
    ----------
    x, labels, debiased
        As in `class_cka`.
    groups, level
        As in `geometry.separation.gdv_interval`.

    Returns
    -------
    Estimate
        The debiased value has the error of the biased one, which differs from it by a term of order
        1/n.

    Raises
    ------
    ValueError
        As `class_cka`.
    """
    points, codes = labelled(x, labels)
    if not usable(points, np.bincount(codes)):
        return _NOTHING
    n, d = points.shape
    member = one_hot(codes)
    value = linear_cka(points, member, debiased=n < d if debiased is None else debiased)
    a, b = points - points.mean(axis=0), member - member.mean(axis=0)
    cross = a.T @ b / n
    # ‖C‖² of a covariance C: sample i pulls it by 2 (x_iᵀ C y_i − ‖C‖²).
    of_cross = ((a @ cross) * b).sum(axis=1)
    of_points = _own(a)
    of_classes = _own(b)
    if not (of_points.mean() > 0.0 and of_cross.mean() > 0.0):
        return _NOTHING
    relative = (
        2.0 * (of_cross / of_cross.mean() - 1.0)
        - (of_points / of_points.mean() - 1.0)
        - (of_classes / of_classes.mean() - 1.0)
    )
    biased = of_cross.mean() / np.sqrt(of_points.mean() * of_classes.mean())
    return interval_from_influence(value, float(biased) * relative, groups=groups, level=level)


def _own(a: FloatArray) -> FloatArray:
    """x_iᵀ C x_i of every sample, C = XᵀX / n, by the smaller of XᵀX and XXᵀ."""
    n, d = a.shape
    if d <= n:
        found: FloatArray = ((a @ (a.T @ a / n)) * a).sum(axis=1)
    else:
        found = np.square(a @ a.T).sum(axis=1) / n
    return found
