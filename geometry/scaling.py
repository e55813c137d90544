"""Clouds drawn on a plane: classical multidimensional scaling, SMACOF and t-SNE, all repeatable."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import pdist, squareform

from geometry.spectrum import FloatArray

SCALING_METHODS = {
    "classical": "classical multidimensional scaling, Torgerson 1952, of Euclidean distances",
    "smacof": "metric multidimensional scaling by SMACOF (de Leeuw 1977), from the classical solution, "
    "at most 300 steps, relative tolerance 1e-6",
    "tsne": "t-SNE (van der Maaten & Hinton 2008), Barnes–Hut, perplexity 30, from the "
    "classical solution",
}
_STEPS, _TOLERANCE = 300, 1e-6
_PERPLEXITY, _SPREAD = 30.0, 1e-4


class Scaled(NamedTuple):
    """Positions (sample, dimension), and the stress-1 they have left."""

    positions: FloatArray
    stress: float


def scale(x: ArrayLike, *, method: str = "classical", dimensions: int = 2, seed: int = 0) -> Scaled:
    """Lay a cloud out in few dimensions.

    Parameters
    ----------
    x
        Points, shape (sample, feature), any real dtype.
    method
        A key of `SCALING_METHODS`. `classical` has no chance in it; `smacof` begins at the classical
        solution and has none either; `tsne` begins there too and takes `seed`.
    dimensions
        Of the positions; 2 or 3 for t-SNE.
    seed
        Of t-SNE.

    Returns
    -------
    Scaled
        Every axis is turned so that its entry of largest size is positive. All NaN if `x` holds NaN or
        Inf.

    Raises
    ------
    ValueError
        If the method is unknown, or `x` is not (sample, feature) with more samples than `dimensions`.

    Notes
    -----
    Time: `classical` sample·feature² or sample²·feature, whichever is less; `smacof` up to 300 times
    sample². Memory: sample² float64 (the stress compares all pairs), three times that for SMACOF. Take a
    subset of more than about 2000 samples.
    """
    if method not in SCALING_METHODS:
        raise ValueError(f"method is {method!r}; give one of {', '.join(SCALING_METHODS)}")
    points = np.asarray(x, np.float64)
    if points.ndim != 2 or len(points) <= dimensions:
        raise ValueError(
            f"x has shape {points.shape}; give (sample, feature) with more than {dimensions} samples"
        )
    if not np.isfinite(points).all():
        return Scaled(np.full((len(points), dimensions), np.nan), float("nan"))
    start = _leading_scores(points, dimensions)
    distances = pdist(points)
    if method == "classical" or not distances.any():
        positions = start
    elif method == "smacof":
        positions = _smacof(squareform(distances), start)
    else:
        positions = _tsne(points, start, seed)
    return Scaled(positions, _stress(distances, pdist(positions)))


def classical_mds(distances: ArrayLike, *, dimensions: int = 2) -> FloatArray:
    """Classical multidimensional scaling of any dissimilarities.

    Parameters
    ----------
    distances
        Symmetric, 0 on the diagonal, shape (sample, sample).
    dimensions
        Of the positions.

    Returns
    -------
    numpy.ndarray
        Shape (sample, dimension): eigenvectors of −½ J D² J times the roots of their eigenvalues, the
        largest first; 0 where an eigenvalue is not positive. For Euclidean distances these are the
        principal components' scores. The entry of largest size of each is positive.

    Raises
    ------
    ValueError
        If `distances` is not a symmetric matrix of more than `dimensions` samples.

    Notes
    -----
    Torgerson 1952; Gower 1966. Memory: two (sample, sample) float64.
    """
    d = np.asarray(distances, np.float64)
    if d.ndim != 2 or d.shape[0] != d.shape[1] or len(d) <= dimensions:
        raise ValueError(
            f"distances has shape {d.shape}; give (n, n) with n more than {dimensions}"
        )
    if not np.allclose(d, d.T):
        raise ValueError("distances is not symmetric")
    gram = -0.5 * np.square(d)
    gram -= gram.mean(axis=0)
    gram -= gram.mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[::-1][:dimensions], vectors[:, ::-1][:, :dimensions]
    return _turned(vectors * np.sqrt(np.maximum(values, 0.0)))


def stress_1(x: ArrayLike, positions: ArrayLike) -> float:
    """Kruskal's stress-1 of positions for the distances of a cloud, at the positions' best scale.

    Parameters
    ----------
    x
        Points, shape (sample, feature).
    positions
        Shape (sample, dimension).

    Returns
    -------
    float
        min_b √(Σ (b d − δ)² / Σ (b d)²) = √(1 − (Σ dδ)² / (Σ d² Σ δ²)) over pairs, with δ the distances
        of `x` and d those of `positions`: 0 where distances are kept up to scale. The same minimum is had
        by dividing by Σ δ², so the two forms in use agree. NaN if either has no distances.

    Notes
    -----
    Kruskal 1964, with metric disparities; the best scale makes methods without a unit (t-SNE) comparable.
    """
    return _stress(pdist(np.asarray(x, np.float64)), pdist(np.asarray(positions, np.float64)))


def _stress(wanted: NDArray[np.float64], drawn: NDArray[np.float64]) -> float:
    sizes = float(np.linalg.norm(wanted)), float(np.linalg.norm(drawn))
    if not min(sizes) > 0.0:  # NaN included
        return float("nan")
    # The residual itself: 1 − cos² would lose all below the root of the rounding.
    one, two = wanted / sizes[0], drawn / sizes[1]
    return min(1.0, float(np.linalg.norm(one - float(one @ two) * two)))


def _leading_scores(points: FloatArray, dimensions: int) -> FloatArray:
    """Classical solution of Euclidean distances, from the smaller of scatter and Gram matrix."""
    centred = points - points.mean(axis=0)
    n, d = centred.shape
    out = np.zeros((n, dimensions))
    count = min(dimensions, d)
    if d <= n:
        _, vectors = np.linalg.eigh(centred.T @ centred)
        out[:, :count] = centred @ vectors[:, ::-1][:, :count]
    else:
        values, vectors = np.linalg.eigh(centred @ centred.T)
        roots = np.sqrt(np.maximum(values[::-1][:count], 0.0))
        out[:, :count] = vectors[:, ::-1][:, :count] * roots
    return _turned(out)


def _turned(positions: FloatArray) -> FloatArray:
    """Each axis with its entry of largest size positive: eigenvectors have no sign of their own."""
    largest = np.abs(positions).argmax(axis=0)
    signs = np.sign(positions[largest, np.arange(positions.shape[1])])
    turned: FloatArray = positions * np.where(signs == 0.0, 1.0, signs)
    return turned


def _smacof(distances: FloatArray, start: FloatArray) -> FloatArray:
    # Slow to load, and only here is it needed.
    from sklearn.manifold import smacof

    positions, _ = smacof(
        distances,
        n_components=start.shape[1],
        init=start,
        n_init=1,
        max_iter=_STEPS,
        eps=_TOLERANCE,
        normalized_stress=False,
    )
    return _turned(np.asarray(positions, np.float64))


def _tsne(points: FloatArray, start: FloatArray, seed: int) -> FloatArray:
    from sklearn.manifold import TSNE

    spread = start[:, 0].std()
    found = TSNE(
        n_components=start.shape[1],
        perplexity=min(_PERPLEXITY, (len(points) - 1) / 3),
        early_exaggeration=12.0,
        learning_rate="auto",
        max_iter=1000,
        init=(start / spread * _SPREAD).astype(np.float32),
        random_state=seed,
        method="barnes_hut",
        angle=0.5,
        n_jobs=1,
    ).fit_transform(points.astype(np.float32))
    return _turned(np.asarray(found, np.float64))
