"""A direction between two kinds of state, and random ones as long to compare it with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def difference_of_means(states: NDArray[Any], positive: NDArray[np.bool_]) -> Floats:
    """Mean state of the positive samples less that of the others.

    Parameters
    ----------
    states : float array (sample, …, feature)
    positive : bool array (sample,)

    Returns
    -------
    float64 array (…, feature)
        NaN if either kind is missing.

    Notes
    -----
    Difference-in-means steering, arXiv 2310.06824 §5 and 2312.06681. One copy in float64.
    """
    x = np.asarray(states, np.float64)
    chosen = np.asarray(positive, bool)
    if not chosen.any() or chosen.all():
        return np.full(x.shape[1:], np.nan)
    found: Floats = x[chosen].mean(axis=0) - x[~chosen].mean(axis=0)
    return found


def random_directions(direction: NDArray[Any], count: int, seed: int) -> Floats:
    """Directions drawn evenly from the sphere, each as long as the one given.

    Parameters
    ----------
    direction : float array (feature,)
    count, seed
        How many are drawn, and from which seed.

    Returns
    -------
    float64 array (count, feature)
    """
    drawn = np.random.default_rng(seed).standard_normal((count, len(direction)))
    length = np.linalg.norm(np.asarray(direction, np.float64))
    found: Floats = drawn * (length / np.linalg.norm(drawn, axis=1, keepdims=True))
    return found
