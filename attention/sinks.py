"""Attention sinks: keys that nearly every query of a head attends to."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

THRESHOLD = 0.3


def key_importance(
    sums: ArrayLike, length: ArrayLike, *, first_row: bool = True, keys: ArrayLike | None = None
) -> FloatArray:
    """Mean attention that each key receives from the queries that come with or after it.

    Parameters
    ----------
    sums : array (…, key)
        Σ_i p_ik, `attention.columns.column_sums`.
    length : array broadcastable to (…)
        Queries T that were summed.
    first_row
        Whether row 0 counts, whose one entry is 1 by force: as in the code of Gu et al., where it adds
        1/T to the first key.
    keys : int array (key,), optional
        Positions of the keys, from 0; by default 0, 1, 2, ….

    Returns
    -------
    float64 array (…, key)
        α_k = 1/(T − k + 1) Σ_{i ≥ k} p_ik with k from 1; NaN where no query comes.

    Notes
    -----
    Gu et al. 2025, arXiv 2410.10781 §3 (their code divides by T, T − 1, …, 1 and sums columns). Uniform
    causal attention gives `uniform_importance`; all mass on the first key gives 1 there.
    """
    total = np.asarray(sums, dtype=np.float64)
    place = np.arange(total.shape[-1]) if keys is None else np.asarray(keys)
    rows = np.asarray(length, dtype=np.float64)[..., None] - place
    if not first_row:
        total, rows = total - (place == 0), rows - (place == 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(rows > 0, total / rows, np.nan)


def uniform_column_sums(length: int) -> FloatArray:
    """Column sums of uniform causal attention, Σ_{i ≥ k} 1/i with k from 1.

    Parameters
    ----------
    length
        Positions T.

    Returns
    -------
    float64 array (position,)
        They sum to T; the first is the harmonic number H_T.
    """
    share = 1 / np.arange(1, length + 1)
    return np.cumsum(share[::-1])[::-1]


def uniform_importance(length: int) -> FloatArray:
    """`key_importance` of uniform causal attention: α_1 = H_T / T.

    Parameters
    ----------
    length
        Positions T.

    Returns
    -------
    float64 array (position,)
    """
    return key_importance(uniform_column_sums(length), length)


def is_sink(importance: ArrayLike, *, threshold: float = THRESHOLD) -> FloatArray:
    """Whether a key is a sink, 1 or 0: α_k > ε.

    Parameters
    ----------
    importance : array (…)
        `key_importance`.
    threshold
        ε; 0.3 in Gu et al. 2025.

    Returns
    -------
    float64 array (…)
        NaN where the importance is. The sink rate is its mean: over samples, and over heads and blocks.
    """
    alpha = np.asarray(importance, dtype=np.float64)
    return np.where(np.isnan(alpha), np.nan, alpha > threshold)


def relative_output_norm(norms: ArrayLike, axis: int = -1) -> FloatArray:
    """Norm of each head's output over the mean of its block's heads.

    Parameters
    ----------
    norms : array (…)
        Mean norm of a head's output, heads along `axis`.
    axis
        The axis of heads.

    Returns
    -------
    float64 array (…)
        1 where all heads of the block are alike; NaN for every head of a block with a NaN or without
        any output.
    """
    values = np.asarray(norms, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: FloatArray = values / values.mean(axis=axis, keepdims=True)
    return found
