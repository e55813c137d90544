"""What the generalised discrimination value would be if labels said nothing: labels dealt out anew."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geometry.separation import (
    blocks,
    distances,
    gdv_parts,
    half_z_scores,
    labelled,
    one_hot,
    usable,
)
from geometry.spectrum import FloatArray


def permuted_labels(
    labels: ArrayLike, *, groups: ArrayLike | None = None, count: int = 99, seed: int = 0
) -> NDArray[np.intp]:
    """Class numbers dealt out anew among the samples.

    Parameters
    ----------
    labels
        Class of each sample, shape (sample,).
    groups
        Label of each sample's group (a document). Labels then stay within their group, so that what the
        groups themselves have in common is kept under the null; samples alone in their group exchange
        labels with one another. None: all exchange.
    count
        How many times.
    seed
        Of the generator.

    Returns
    -------
    int array (count, sample)
        Numbers of the sorted classes.

    Raises
    ------
    ValueError
        If `groups` does not match `labels`.
    """
    codes = np.unique(np.asarray(labels), return_inverse=True)[1]
    stratum = np.zeros(len(codes), np.intp)
    if groups is not None:
        names = np.asarray(groups)
        if names.shape != codes.shape:
            raise ValueError(
                f"groups has shape {names.shape}; give one label for each of {len(codes)}"
            )
        _, stratum, size = np.unique(names, return_inverse=True, return_counts=True)
        stratum = np.where(size[stratum] == 1, -1, stratum)
    generator = np.random.default_rng(seed)
    home = np.argsort(stratum, kind="stable")
    out = np.empty((count, len(codes)), np.intp)
    # Sorted by stratum and, within it, by chance: a random order of every stratum at once.
    out[:, home] = codes[np.argsort(stratum + generator.random(out.shape), axis=1)]
    return out


def gdv_null(
    x: ArrayLike,
    labels: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    count: int = 99,
    seed: int = 0,
) -> FloatArray:
    """`gdv` of the same points under labels dealt out anew.

    Parameters
    ----------
    x, labels
        As in `geometry.separation.gdv`.
    groups, count, seed
        As in `permuted_labels`.

    Returns
    -------
    numpy.ndarray
        Shape (count,); NaN where `gdv` is.

    Raises
    ------
    ValueError
        As `gdv` and `permuted_labels`.

    Notes
    -----
    Distances are made once, 256 rows at a time; time sample²·(feature + count·class), memory
    three times sample·count·class float64.
    """
    points, codes = labelled(x, labels)
    counts = np.bincount(codes)
    if not usable(points, counts):
        return np.full(count, np.nan)
    drawn = permuted_labels(codes, groups=groups, count=count, seed=seed)
    n, classes = len(points), len(counts)
    z = half_z_scores(points)
    member = one_hot(drawn.ravel()).reshape(count, n, classes)
    # Single precision: the null is only counted, and its values differ from each other far more.
    flat = member.transpose(1, 0, 2).reshape(n, count * classes).astype(np.float32)
    between = np.zeros((count, classes, classes))
    for rows in blocks(n):
        sums = (distances(z, rows).astype(np.float32) @ flat).reshape(-1, count, classes)
        between += member[:, rows].transpose(0, 2, 1) @ sums.transpose(1, 0, 2)
    means = between / (np.outer(counts, counts) - np.diag(counts))
    intra = np.trace(means, axis1=1, axis2=2)
    inter = (means.sum(axis=(1, 2)) - intra) / (classes * (classes - 1))
    found: FloatArray = (intra / classes - inter) / np.sqrt(points.shape[1])
    return found


def p_value(observed: float, null: ArrayLike, *, larger: bool = True) -> float:
    """Share of values, the observed one among them, at least as extreme as it.

    Parameters
    ----------
    observed
        The value under the labels as they are.
    null
        Values under permuted labels, shape (count,).
    larger
        Whether large values speak against the null; small ones do for `gdv`.

    Returns
    -------
    float
        (1 + #{null ≥ observed}) / (1 + count): valid for any count (Phipson & Smyth 2010); NaN if
        anything is NaN.
    """
    values = np.asarray(null, np.float64)
    if np.isnan(observed) or np.isnan(values).any():
        return float("nan")
    # Round-off must not decide between equal values.
    room = 1e-6 * max(1e-3, abs(observed))
    extreme = values >= observed - room if larger else values <= observed + room
    return float((1 + extreme.sum()) / (1 + len(values)))


def gdv_p_value(
    x: ArrayLike,
    labels: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    count: int = 99,
    seed: int = 0,
) -> float:
    """Permutation p-value of `gdv` against labels that say nothing; small where classes stand apart."""
    null = gdv_null(x, labels, groups=groups, count=count, seed=seed)
    return p_value(gdv_parts(x, labels).gdv, null, larger=False)
