"""The generalised discrimination value: how far classes of points stand apart, without a classifier."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geometry.jackknife import Estimate, interval_from_influence
from geometry.spectrum import FloatArray

Index = NDArray[np.intp]
METRICS = ("cosine", "euclidean")

_BLOCK = 256
_ROUNDING = 64.0 * float(np.finfo(np.float64).eps)  # of a squared distance, relative to the norms
_CONSTANT = 1e-12  # a feature that varies less than this, relative to its size, is constant


class GdvParts(NamedTuple):
    """The generalised discrimination value and what it is the difference of, all divided by √D."""

    gdv: float
    intra: float
    inter: float


def gdv(x: ArrayLike, labels: ArrayLike) -> float:
    """Generalised discrimination value of labelled points.

    Parameters
    ----------
    x
        Points, shape (sample, feature), any real dtype.
    labels
        Class of each, shape (sample,), of any dtype that can be sorted.

    Returns
    -------
    float
        0 for classes that do not stand apart; the more negative, the further apart: as far as
        `gdv_bound` for as many classes of equal size. NaN with fewer than two classes of at least two
        points each (a class of one has no distance within), or if `x` holds NaN or Inf.

    Raises
    ------
    ValueError
        If `x` is not (sample, feature), or `labels` does not match it.

    Notes
    -----
    Schilling et al. 2021, Neural Networks 139:278 (arXiv 1811.01753), and as the authors' routine has it:
    features are z-scored over all points with the population's standard deviation and halved, constant
    ones become 0 and still count in D; 1/√D · [mean over classes of the mean distance within − mean over
    pairs of classes of the mean distance between]. Means over classes, not over points. The value does
    not change when features are shifted, scaled or permuted, but does when they are rotated; classes of
    unequal size may lie below the bound. Time sample²·feature; memory that of the points, twice.
    """
    return gdv_parts(x, labels).gdv


def gdv_parts(x: ArrayLike, labels: ArrayLike) -> GdvParts:
    """As `gdv`, with the mean distances within and between classes, each over √D, beside it."""
    points, codes = labelled(x, labels)
    counts = np.bincount(codes)
    if not usable(points, counts):
        return GdvParts(*(float("nan"),) * 3)
    sums = distances_to_classes(half_z_scores(points), codes)
    return _parts(class_means(sums, codes), points.shape[1])


def gdv_bound(n_classes: int) -> float:
    """The value of classes of equal size, each one point, all equally far apart: −√(L / (2(L − 1))).

    Values with different numbers of classes are not comparable until divided by it. It bounds balanced
    classes only: two clusters with shares p and 1 − p reach −0.5 / √(p(1 − p)).

    Raises
    ------
    ValueError
        With fewer than two classes.
    """
    if n_classes < 2:
        raise ValueError(f"n_classes is {n_classes}; give at least 2")
    return -float(np.sqrt(n_classes / (2.0 * (n_classes - 1))))


def scaled_gdv(x: ArrayLike, labels: ArrayLike) -> float:
    """`gdv` over the size of its bound for this number of classes: −1 is as far as equal classes go."""
    value = gdv(x, labels)
    if np.isnan(value):
        return value
    return value / abs(gdv_bound(len(np.unique(np.asarray(labels)))))


def gdv_interval(
    x: ArrayLike,
    labels: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate[float]:
    """`gdv` with an infinitesimal-jackknife interval by sample or by group.

    Parameters
    ----------
    x, labels
        As in `gdv`.
    groups
        Label of each sample's group (a document), the unit that could have been drawn otherwise. None:
        every sample its own.
    level
        Coverage, by Student's t with one degree less than groups.

    Returns
    -------
    Estimate
        In the value's unit; all NaN where `gdv` is NaN.

    Notes
    -----
    Influence of a sample: through the pairs it is in, by what its mean distances differ from its class's,
    and through the features' variances that scale every distance. Two products of sample²·feature.
    """
    points, codes = labelled(x, labels)
    if not usable(points, np.bincount(codes)):
        return Estimate(*(float("nan"),) * 4)
    value, influence = gdv_influence(points, codes)
    return interval_from_influence(value, influence, groups=groups, level=level)


def gdv_influence(points: FloatArray, codes: Index) -> tuple[float, FloatArray]:
    """The value, and n ∂/∂w_i of it at equal weights, (sample,), for classes 0…L−1 of ≥ 2 points."""
    n, d = points.shape
    z, member = half_z_scores(points), one_hot(codes)
    counts = member.sum(axis=0)
    classes = len(counts)
    # ∂GDV/∂(mean distance of two classes): each entry of the symmetric matrix has half of a pair's.
    weight = np.full((classes, classes), -1.0 / (classes * (classes - 1)))
    np.fill_diagonal(weight, 1.0 / classes)
    share = (weight / (np.outer(counts, counts) - np.diag(counts)))[:, codes]
    sums, slope = np.empty((n, classes)), np.zeros(d)
    for rows in blocks(n):
        near = distances(z, rows)
        sums[rows] = near @ member
        # Through σ: D_ij changes with the variance v_d by −(z_id − z_jd)² / (2 D_ij v_d).
        kernel = share[codes[rows]]
        np.divide(kernel, near, out=kernel, where=near > 0.0)
        slope += kernel.sum(axis=1) @ np.square(z[rows]) - (z[rows] * (kernel @ z)).sum(axis=0)
    means = class_means(sums, codes)
    pulled = sums / (counts - member) - means[codes]  # a point is none of its own distances
    influence = 2.0 * n / counts[codes] * (weight[codes] * pulled).sum(axis=1)
    varying = z.any(axis=0)
    influence -= (4.0 * np.square(z) - 1.0)[:, varying] @ slope[varying]
    return _parts(means, d).gdv, influence / np.sqrt(d)


def half_z_scores(points: FloatArray) -> FloatArray:
    """Half the z-score of every feature over all points, population deviation; constants become 0."""
    centred = points - points.mean(axis=0)
    spread = centred.std(axis=0)
    varying = spread > _CONSTANT * np.abs(points).max(axis=0, initial=0.0)
    out: FloatArray = np.where(varying, centred / (2.0 * np.where(varying, spread, 1.0)), 0.0)
    return out


def in_metric(points: FloatArray, metric: str) -> FloatArray | None:
    """Points whose Euclidean distances are those of a metric of `METRICS`, up to a monotone map.

    `euclidean`: half z-scores; `cosine`: unit vectors around the mean, None if a point lies at it.
    """
    if metric == "euclidean":
        return half_z_scores(points)
    centred = points - points.mean(axis=0)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    away = norms > _CONSTANT * np.abs(points).max(initial=0.0) * np.sqrt(points.shape[1])
    return centred / norms if away.all() else None


def check_metric(metric: str) -> None:
    """Raise ValueError for a metric that is not of `METRICS`."""
    if metric not in METRICS:
        raise ValueError(f"metric is {metric!r}; give one of {', '.join(METRICS)}")


def blocks(n: int) -> Iterator[slice]:
    """Rows taken together, so that their distances to all others stay in the cache."""
    for start in range(0, n, _BLOCK):
        yield slice(start, start + _BLOCK)


def distances(z: FloatArray, rows: slice) -> FloatArray:
    """Euclidean distances of some points to all, by their products; 0 where only round-off is left."""
    norms = np.square(z).sum(axis=1)
    found: FloatArray = z[rows] @ z.T
    found *= -2.0
    found += norms
    found += norms[rows, None]
    found[found <= _ROUNDING * (norms + norms[rows, None])] = 0.0
    return np.sqrt(found, out=found)


def distances_to_classes(z: FloatArray, codes: Index) -> FloatArray:
    """Sum of each point's distances to every class's points, shape (sample, class)."""
    member = one_hot(codes)
    return np.concatenate([distances(z, rows) @ member for rows in blocks(len(z))])


def class_means(sums: FloatArray, codes: Index) -> FloatArray:
    """Mean distance between two classes, (class, class); on the diagonal of distinct pairs within."""
    member = one_hot(codes)
    counts = member.sum(axis=0)
    pairs = np.outer(counts, counts) - np.diag(counts)
    means: FloatArray = member.T @ sums / pairs
    return means


def one_hot(codes: Index) -> FloatArray:
    """Membership (sample, class) of classes 0…L−1."""
    return np.eye(int(codes.max(initial=-1)) + 1)[codes]


def labelled(x: ArrayLike, labels: ArrayLike) -> tuple[FloatArray, Index]:
    """Points in float64 and the number of each one's class.

    Raises
    ------
    ValueError
        If `x` is not (sample, feature), or `labels` does not match it.
    """
    points, names = np.asarray(x, np.float64), np.asarray(labels)
    if points.ndim != 2:
        raise ValueError(f"x has shape {points.shape}; give (sample, feature)")
    if names.shape != (len(points),):
        raise ValueError(
            f"labels has shape {names.shape}; give one label for each of {len(points)}"
        )
    return points, np.unique(names, return_inverse=True)[1]


def usable(points: FloatArray, counts: Index) -> bool:
    """Whether there are two classes, two points in each, and finite numbers alone."""
    return len(counts) >= 2 and int(counts.min()) >= 2 and bool(np.isfinite(points).all())


def _parts(means: FloatArray, features: int) -> GdvParts:
    classes = len(means)
    intra = float(np.trace(means)) / classes
    inter = float(means.sum() - np.trace(means)) / (classes * (classes - 1))
    root = float(np.sqrt(features))
    return GdvParts((intra - inter) / root, intra / root, inter / root)
