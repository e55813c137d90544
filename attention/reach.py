"""How far a head looks: its entropy against the length of the context."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr, softmax

FloatArray = NDArray[np.float64]
_ALIKE = 1e-12  # lengths this near to each other, relatively, are one


class Line(NamedTuple):
    """A weighted least-squares line."""

    slope: FloatArray
    intercept: FloatArray


def log_visible(start: ArrayLike, end: ArrayLike) -> FloatArray:
    """Mean of ln n over the rows of a bin of positions, where row i sees n = i + 1 keys.

    Parameters
    ----------
    start, end : int arrays (bin,)
        First position of each bin, from 0, and the one after its last.

    Returns
    -------
    float64 array (bin,)
        The mean entropy of uniform causal attention in the bin.

    Raises
    ------
    ValueError
        If a bin is empty.
    """
    first, last = np.asarray(start, dtype=np.int64), np.asarray(end, dtype=np.int64)
    if (last <= first).any():
        raise ValueError("a bin ends where it starts or before; give start < end")
    total = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, last.max() + 1)))])
    found: FloatArray = (total[last] - total[first]) / (last - first)
    return found


def entropy_line(entropy: ArrayLike, lengths: ArrayLike, weights: ArrayLike) -> Line:
    """Weighted least-squares line of entropy against ln n.

    Parameters
    ----------
    entropy : array (…, bin)
        Mean entropy of the rows of each bin, nats.
    lengths : array (bin,)
        `log_visible` of the bins. A row that sees one key (ln n = 0 and H = 0 by force) is left out.
    weights : array (…, bin)
        Rows in each bin; 0 leaves a bin out.

    Returns
    -------
    Line
        slope and intercept (…), NaN with fewer than two bins or where all are of one length up to
        rounding, or with a NaN in a bin with weight. The slope
        is 1 for uniform attention (its intercept 0), and 0 for a head whose reach does not grow.

    Notes
    -----
    Bins lose nothing where entropy is linear in ln n, as `lengths` is the mean of ln n. The length
    invariance of arXiv 2401.07004 §3.1 as a number.
    """
    y, x, w = np.broadcast_arrays(
        np.asarray(entropy, np.float64),
        np.asarray(lengths, np.float64),
        np.asarray(weights, np.float64),
    )
    w = np.where(x > 0, w, 0.0)
    y = np.where(w > 0, y, 0.0)
    total = w.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        x_mean, y_mean = (w * x).sum(-1) / total, (w * y).sum(-1) / total
        dx = x - x_mean[..., None]
        spread = (w * dx * dx).sum(-1)
        slope = (w * dx * (y - y_mean[..., None])).sum(-1) / spread
    # Bins of one length leave the rounding of their mean in the denominator.
    apart = np.where(w > 0, np.abs(dx), 0.0).max(-1, initial=0.0)
    alike = apart <= _ALIKE * np.where(w > 0, x, 0.0).max(-1, initial=0.0)
    slope = np.where(((w > 0).sum(-1) > 1) & ~alike, slope, np.nan)
    return Line(slope, y_mean - slope * x_mean)


def logit_scale(position: ArrayLike, context: float) -> FloatArray:
    """Factor t = max(log_c i, 1) on the logits of the query at position i.

    Parameters
    ----------
    position : int array (…)
        From 1: the keys that the query sees.
    context
        c, the context length of pre-training.

    Returns
    -------
    float64 array (…)
        1 up to c.

    Raises
    ------
    ValueError
        If c is not above 1.

    Notes
    -----
    Zhang, Li and Liu 2024, arXiv 2401.07004 §3.2; their code: ln(position + 1) / ln 4096, at least 1.
    """
    if not context > 1:
        raise ValueError(f"context={context} must be above 1")
    place = np.maximum(np.asarray(position, dtype=np.float64), 1.0)
    scale: FloatArray = np.maximum(np.log(place) / np.log(context), 1.0)
    return scale


def entropy_of_mean(p: ArrayLike) -> FloatArray:
    """Entropy of the mean over samples of one query's attention.

    Parameters
    ----------
    p : array (sample, …, key)
        Probabilities of the same query position in every sample.

    Returns
    -------
    float64 array (…)
        H(mean p) in nats: never below the mean over samples of H(p), by concavity.

    Notes
    -----
    What the code of arXiv 2401.07004 reports (retrieve_attn.py); its text has the mean of H.
    """
    found: FloatArray = entr(np.asarray(p, dtype=np.float64).mean(axis=0)).sum(axis=-1)
    return found


def double_softmax(p: ArrayLike) -> FloatArray:
    """Softmax of probabilities as if they were logits.

    Parameters
    ----------
    p : array (…, key)

    Returns
    -------
    float64 array (…, key)

    Notes
    -----
    What the code of arXiv 2401.07004 makes of a stock model's `output.attentions`, which are
    probabilities already. No row's entropy is then below `double_softmax_floor`.
    """
    found: FloatArray = softmax(np.asarray(p, dtype=np.float64), axis=-1)
    return found


def double_softmax_floor(length: ArrayLike) -> FloatArray:
    """Lowest entropy that a row of n keys can have after a second softmax: that of a one-hot row.

    Parameters
    ----------
    length : array (…)
        Keys n.

    Returns
    -------
    float64 array (…)
        ln(1 + (n−1)/e) + ((n−1)/e) / (1 + (n−1)/e) nats: 8.31752 at n = 4096, where ln n is 8.31777.
    """
    rest = (np.asarray(length, dtype=np.float64) - 1) / np.e
    found: FloatArray = np.log1p(rest) + rest / (1 + rest)
    return found
