"""Principal angles between the leading eigenspaces of two clouds in one feature space.

The cosines of the angles between two k-dimensional subspaces are the singular values of QₐᵀQ_b;
taken so, an angle below 1e-8 is lost in the round-off of 1. `scipy.linalg.subspace_angles` takes
small angles from their sines (Björck & Golub 1973; Knyazev & Argentati 2002), and so does this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh, subspace_angles

FloatArray = NDArray[np.float64]

TOP = (1, 8, 32)
_EPS = float(np.finfo(np.float64).eps)


class Eigenspace(NamedTuple):
    """Leading eigenvectors of a covariance.

    Attributes
    ----------
    values : (k + 1,) leading eigenvalues, descending; fewer if there are fewer.
    vectors : (feature, k) orthonormal, one a column; NaN beyond the numerical rank.
    """

    values: FloatArray
    vectors: FloatArray


class Angles(NamedTuple):
    """How two eigenspaces lie to each other, for every number k of leading directions.

    Attributes
    ----------
    mean_squared_cosine : (k,) the share of one subspace that lies in the other: 1 the same, 0 at
        right angles.
    largest_angle : (k,) in radians.
    gap : (k,) the smaller of the two relative gaps 1 − λ_{k+1} / λ_k. Near 0, the k-th direction is
        arbitrary among its neighbours, and so are the angles.
    random : (k,) mean squared cosine of two random subspaces, k / features.
    """

    mean_squared_cosine: FloatArray
    largest_angle: FloatArray
    gap: FloatArray
    random: FloatArray


def eigenspace(x: ArrayLike, k: int) -> Eigenspace:
    """Leading k eigenvectors of the centred covariance of a cloud.

    Parameters
    ----------
    x
        Shape (sample, feature), any real dtype.
    k
        At least 1. Directions beyond the numerical rank (variance below 8 eps λ_1) are NaN.

    Returns
    -------
    Eigenspace

    Raises
    ------
    ValueError
        If `x` is not a matrix or k is below 1.

    Notes
    -----
    Decomposes the smaller of the two Gram matrices, m = min(sample, feature): sample·feature·m
    multiply-adds, about (4/3) m³ for its reduction and m² k for the vectors. Memory: a centred
    float64 copy and 2 m² float64.
    """
    array = np.asarray(x, dtype=np.float64)
    if array.ndim != 2 or k < 1:
        raise ValueError(f"x has shape {array.shape} and k is {k}; give (sample, feature), k >= 1")
    n, d = array.shape
    m, wanted = min(n, d), min(k + 1, n, d)
    vectors = np.full((d, k), np.nan)
    if not np.isfinite(array).all():
        return Eigenspace(np.full(wanted, np.nan), vectors)
    centred = array - array.mean(axis=0)
    size = np.abs(array).max(axis=0, initial=0.0)
    centred[:, np.abs(centred).max(axis=0, initial=0.0) <= n * _EPS * size] = 0.0
    gram = centred.T @ centred if d <= n else centred @ centred.T
    values, found = eigh(gram / n, subset_by_index=(m - wanted, m - 1))
    values, found = values[::-1], found[:, ::-1]
    good = min(int((values > 8 * m * _EPS * max(values[0], 0.0)).sum()), k)
    values = np.maximum(values, 0.0)
    if d > n:
        found = centred.T @ found[:, :good]
        # Near-equal directions come out of the product not quite at right angles.
        found = np.linalg.qr(found)[0]
    vectors[:, :good] = found[:, :good]
    return Eigenspace(values, vectors)


def eigenspace_angles(one: Eigenspace, two: Eigenspace, *, top: Sequence[int] = TOP) -> Angles:
    """Principal angles between the leading k eigenvectors of two covariances.

    Parameters
    ----------
    one, two
        From `eigenspace`, of clouds in the same feature space, with at least max(top) directions.
    top
        The numbers k of leading directions.

    Returns
    -------
    Angles
        Each (k,). NaN where a cloud has fewer than k directions with variance.

    Raises
    ------
    ValueError
        If the features differ or an eigenspace holds fewer than max(top) columns.

    Notes
    -----
    Angles know nothing of the eigenvalues: two spectra with the same leading eigenvectors are at
    angle 0 whatever their weights. Directions are compared in the coordinates of the residual
    stream; unlike CKA they move when these are rotated in one cloud only.
    """
    a, b = one.vectors, two.vectors
    if a.shape[0] != b.shape[0] or min(a.shape[1], b.shape[1]) < max(top):
        raise ValueError(
            f"eigenspaces are {a.shape} and {b.shape}; give as many features in both and at least "
            f"{max(top)} directions"
        )
    rows = [_angles(a[:, :k], b[:, :k]) for k in top]
    gaps = [min(_gap(one.values, k), _gap(two.values, k)) for k in top]
    cosines, largest = np.array(rows).T
    gaps_known = np.where(np.isnan(cosines), np.nan, gaps)
    return Angles(cosines, largest, gaps_known, np.array(top) / a.shape[0])


def random_largest_angle(k: int, features: int, *, draws: int = 200, seed: int = 0) -> float:
    """Mean largest angle, in radians, of two random k-dimensional subspaces, by simulation."""
    rng = np.random.default_rng(seed)
    smallest = []
    for _ in range(draws):
        # One of the two may be the first k axes, since the other is drawn uniformly.
        turned = np.linalg.qr(rng.standard_normal((features, k)))[0][:k]
        smallest.append(np.linalg.svd(turned, compute_uv=False)[-1])
    return float(np.arccos(np.clip(smallest, 0.0, 1.0)).mean())


def _angles(a: FloatArray, b: FloatArray) -> tuple[float, float]:
    if np.isnan(a).any() or np.isnan(b).any():
        return float("nan"), float("nan")
    angles = subspace_angles(a, b)
    return float((np.cos(angles) ** 2).mean()), float(angles.max())


def _gap(values: FloatArray, k: int) -> float:
    if values.size < k or not values[k - 1] > 0:
        return float("nan")
    return float(1.0 - values[k] / values[k - 1]) if values.size > k else 1.0
