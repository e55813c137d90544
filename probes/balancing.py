"""Classes made equally large, as measures that depend on their sizes need."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def balanced_subset(
    labels: ArrayLike, *, fewest: int = 2, most: int | None = None, seed: int = 0
) -> NDArray[np.intp]:
    """Row numbers of equally many samples of every class.

    Parameters
    ----------
    labels
        Class of each sample, shape (sample,).
    fewest
        Classes with fewer samples are left out, so that one rare class does not shrink all others.
    most
        Samples of a class at most.
    seed
        Of the choice.

    Returns
    -------
    int array
        Rising; as many of each class as the smallest one kept has, or `most`. All rows if they are
        balanced already.

    Raises
    ------
    ValueError
        If `labels` is not (sample,).
    """
    names = np.asarray(labels)
    if names.ndim != 1:
        raise ValueError(f"labels has shape {names.shape}; give (sample,)")
    codes = np.unique(names, return_inverse=True)[1]
    counts = np.bincount(codes)
    kept = np.flatnonzero(counts >= fewest)
    if not len(kept):
        return np.empty(0, np.intp)
    size = int(counts[kept].min())
    size = size if most is None else min(size, most)
    generator = np.random.default_rng(seed)
    rows = [generator.permutation(np.flatnonzero(codes == k))[:size] for k in kept]
    return np.sort(np.concatenate(rows))
