"""Clusters found without labels, and how well they agree with classes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import xlogy

from geometry.jackknife import Estimate, t_quantile
from geometry.separation import half_z_scores

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

CLUSTERINGS = {
    "kmeans": "k-means, k-means++ starts, best of 5",
    "agglomerative": "agglomerative, Ward's criterion",
}
AGREEMENTS = ("nmi", "ari", "v", "homogeneity", "completeness")


class Confusion(NamedTuple):
    """Classes against clusters matched to them.

    Attributes
    ----------
    counts : float64 array (class, cluster)
        Samples of a class in the cluster matched to class j; clusters left over come last.
    matched : float
        Share of all samples in the cluster of their class.
    """

    counts: Floats
    matched: float


def clusters(x: ArrayLike, count: int, *, method: str = "kmeans", seed: int = 0) -> Index:
    """Cluster number of each point.

    Parameters
    ----------
    x
        Points, shape (sample, feature); z-scored by feature, as `gdv` does.
    count
        How many clusters; no more than there are distinct points.
    method
        A key of `CLUSTERINGS`.
    seed
        Of k-means' starts.

    Returns
    -------
    int array (sample,)
        −1 for all if `x` holds NaN or Inf.

    Raises
    ------
    ValueError
        If the method is unknown or `x` is not (sample, feature).

    Notes
    -----
    Time of Ward's criterion and memory sample² float64; k-means some hundred times sample·feature·count.
    """
    from sklearn.cluster import AgglomerativeClustering, KMeans  # slow to load

    if method not in CLUSTERINGS:
        raise ValueError(f"method is {method!r}; give one of {', '.join(CLUSTERINGS)}")
    points = np.asarray(x, np.float64)
    if points.ndim != 2:
        raise ValueError(f"x has shape {points.shape}; give (sample, feature)")
    if not np.isfinite(points).all():
        return np.full(len(points), -1)
    # Copies that differ by round-off are one point, or k-means would be asked for too many clusters.
    z = half_z_scores(points).astype(np.float32)
    count = min(count, len(np.unique(z, axis=0)))
    if method == "kmeans":
        found = KMeans(count, n_init=5, random_state=seed).fit_predict(z)
    else:
        found = AgglomerativeClustering(count, linkage="ward").fit_predict(z)
    return np.asarray(found, np.intp)


def contingency(found: ArrayLike, labels: ArrayLike) -> Floats:
    """Samples of each class in each cluster, shape (class, cluster)."""
    one, two = (np.unique(np.asarray(a), return_inverse=True)[1] for a in (labels, found))
    shape = int(one.max(initial=-1)) + 1, int(two.max(initial=-1)) + 1
    counts = np.bincount(one * shape[1] + two, minlength=shape[0] * shape[1])
    return counts.reshape(shape).astype(np.float64)


def contingencies(found: ArrayLike, drawn: ArrayLike) -> Floats:
    """`contingency` for many sets of class numbers (set, sample) at once, shape (set, class, cluster)."""
    numbers = np.asarray(drawn)
    cluster = np.unique(np.asarray(found), return_inverse=True)[1]
    shape = len(numbers), int(numbers.max()) + 1, int(cluster.max()) + 1
    at = (np.arange(shape[0])[:, None] * shape[1] + numbers) * shape[2] + cluster
    counts = np.bincount(at.ravel(), minlength=int(np.prod(shape)))
    return counts.reshape(shape).astype(np.float64)


def agreement(table: ArrayLike, measure: str) -> Floats:
    """Agreement of classes and clusters from their contingency table.

    Parameters
    ----------
    table
        Counts, shape (…, class, cluster).
    measure
        `homogeneity` h = 1 − H(class | cluster) / H(class), `completeness` c = 1 − H(cluster | class) /
        H(cluster), `v` = 2hc / (h + c) (Rosenberg & Hirschberg 2007), `nmi`, mutual information over the
        arithmetic mean of the entropies, which equals `v`, or `ari`, the adjusted Rand index (Hubert &
        Arabie 1985).

    Returns
    -------
    numpy.ndarray
        Shape (…,): 1 where both are the same partition. An entropy of 0 counts as fully explained, as in
        scikit-learn.

    Raises
    ------
    ValueError
        If the measure is unknown.
    """
    if measure not in AGREEMENTS:
        raise ValueError(f"measure is {measure!r}; give one of {', '.join(AGREEMENTS)}")
    counts = np.asarray(table, np.float64)
    rows, columns = counts.sum(axis=-1), counts.sum(axis=-2)
    n = rows.sum(axis=-1)
    if measure == "ari":
        return _adjusted_rand(counts, rows, columns, n)
    of_class, of_cluster = _entropy(rows, n), _entropy(columns, n)
    both = _entropy(counts.reshape(*counts.shape[:-2], -1), n)
    shared = np.maximum(of_class + of_cluster - both, 0.0)
    homogeneity = _over(shared, of_class)
    completeness = _over(shared, of_cluster)
    if measure == "homogeneity":
        return homogeneity
    if measure == "completeness":
        return completeness
    total = homogeneity + completeness
    return np.asarray(
        np.where(total > 0, 2 * homogeneity * completeness / np.where(total > 0, total, 1), 0.0)
    )


def agreement_interval(
    found: ArrayLike,
    labels: ArrayLike,
    measure: str,
    *,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate[float]:
    """Agreement of clusters with classes, with a jackknife interval by document.

    Parameters
    ----------
    found
        Clusters, shape (sample,); any −1 makes all NaN.
    labels
        Class of each, shape (sample,).
    measure
        One of `AGREEMENTS`.
    groups, level
        As in `geometry.separation.gdv_interval`.

    Returns
    -------
    Estimate
        Each document is left out of the table, not of the clustering, which is taken as it is.
    """
    cluster, names = np.asarray(found), np.asarray(labels)
    if (cluster == -1).any() or not len(cluster):
        return Estimate(*(float("nan"),) * 4)
    one, two = (np.unique(a, return_inverse=True)[1] for a in (names, cluster))
    unit = (
        np.arange(len(one))
        if groups is None
        else np.unique(np.asarray(groups), return_inverse=True)[1]
    )
    count = int(unit.max()) + 1
    parts = np.zeros((count, int(one.max()) + 1, int(two.max()) + 1))
    np.add.at(parts, (unit, one, two), 1.0)
    whole = parts.sum(axis=0)
    value = float(agreement(whole, measure))
    if count < 2:
        return Estimate(value, *(float("nan"),) * 3)
    without = agreement(whole - parts, measure)
    error = float(np.sqrt((count - 1) / count * np.square(without - without.mean()).sum()))
    half = t_quantile(count, level) * error
    return Estimate(value, error, value - half, value + half)


def matched_confusion(found: ArrayLike, labels: ArrayLike) -> Confusion:
    """Classes against clusters, each cluster matched to the class that makes most samples agree.

    Parameters
    ----------
    found, labels
        Shape (sample,).

    Returns
    -------
    Confusion
        Has at least as many columns as classes: a class without a cluster has a column of zeros.

    Notes
    -----
    Hungarian algorithm (Kuhn 1955).
    """
    table = contingency(found, labels)
    classes, clusters_ = table.shape
    square = np.zeros((classes, max(classes, clusters_)))
    square[:, :clusters_] = table
    _, mine = linear_sum_assignment(square, maximize=True)
    rest = np.setdiff1d(np.arange(square.shape[1]), mine)
    counts = square[:, np.concatenate([mine, rest]).astype(np.intp)]
    return Confusion(counts, float(np.trace(counts[:, :classes]) / table.sum()))


def _entropy(counts: Floats, n: Floats) -> Floats:
    """Entropy in nats of counts (…, part) that sum to n (…,)."""
    found: Floats = np.log(n) - xlogy(counts, counts).sum(axis=-1) / n
    return found


def _over(shared: Floats, entropy: Floats) -> Floats:
    there = entropy > 1e-12
    return np.asarray(np.where(there, shared / np.where(there, entropy, 1.0), 1.0))


def _adjusted_rand(counts: Floats, rows: Floats, columns: Floats, n: Floats) -> Floats:
    same, of_class, of_cluster = (
        (a * (a - 1.0) / 2.0).sum(axis=-1)
        for a in (counts.reshape(*counts.shape[:-2], -1), rows, columns)
    )
    pairs = n * (n - 1.0) / 2.0
    expected = of_class * of_cluster / pairs
    most = (of_class + of_cluster) / 2.0
    there = most != expected
    return np.asarray(
        np.where(there, (same - expected) / np.where(there, most - expected, 1.0), 1.0)
    )
