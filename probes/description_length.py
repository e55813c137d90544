"""Description length of classes given points: bits to send the classes to one who has the points."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geometry.jackknife import Estimate, interval_from_influence
from probes.classifiers import STRENGTHS, linear, standardised

Floats = NDArray[np.float64]

FRACTIONS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)
"""Of all samples, after each of which the code's probe is trained anew (Voita & Titov 2020)."""


class OnlineCode(NamedTuple):
    """Length of an online code.

    Attributes
    ----------
    bits : float64 array (sample,)
        What sending each sample's class costs.
    per_sample : Estimate
        Mean of `bits`, with an interval by document.
    compression : float
        Of the code that gives every class equal probability: log2 K over the mean of `bits`.
    """

    bits: Floats
    per_sample: Estimate[float]
    compression: float


def online_code(
    x: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    fractions: tuple[float, ...] = FRACTIONS,
    seed: int = 0,
    level: float = 0.95,
) -> OnlineCode:
    """Online (prequential) code length of classes under a linear probe.

    Parameters
    ----------
    x
        Points, shape (sample, feature), any real dtype.
    labels
        Class of each, shape (sample,).
    groups
        Document of each, shape (sample,): documents are sent one after another, in an order by `seed`.
    fractions
        Rising, the last 1: after each, the probe is trained on all that was sent.
    seed
        Of the order.
    level
        Of the interval.

    Returns
    -------
    OnlineCode
        All NaN if `x` holds NaN or Inf.

    Raises
    ------
    ValueError
        If shapes do not match, there are fewer than two classes, or `fractions` do not rise to 1.

    Notes
    -----
    Voita & Titov 2020, 2003.12298: t_1 log2 K − Σ_i log2 p_θi(y of block i + 1 | x), θ_i trained on the
    first t_i samples. The penalty of each block's probe is the one that would have coded the block before
    it best, which the receiver knows; its probabilities are mixed with equal ones as `linear` says. Parts
    of a few samples are joined where two fractions round to one count.
    """
    points, names = np.asarray(x), np.asarray(labels)
    if points.ndim != 2 or names.shape != (len(points),):
        raise ValueError(
            f"x has shape {points.shape} and labels {names.shape}; give (n, d) and (n,)"
        )
    classes, truth = np.unique(names, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"{len(classes)} classes; give at least 2")
    if fractions[-1] != 1.0 or (np.diff(fractions) <= 0).any():
        raise ValueError("fractions do not rise to 1")
    order = _documents_in_order(np.asarray(groups), seed)
    bits = np.full(len(points), np.nan)
    if np.isfinite(points).all():
        bits[order] = _send(points[order], truth[order], len(classes), fractions)
    mean = float(bits.mean())
    estimate = interval_from_influence(mean, bits - mean, groups=groups, level=level)
    return OnlineCode(bits, estimate, float(np.log2(len(classes)) / mean))


def _send(
    points: Floats, truth: NDArray[np.intp], classes: int, fractions: tuple[float, ...]
) -> Floats:
    """Bits of each sample, sent in this order."""
    n = len(points)
    ends = np.unique(np.maximum(np.round(np.asarray(fractions) * n).astype(int), 1))
    bits = np.full(n, np.log2(classes))
    used = 0
    for start, end in pairwise(ends):
        train, block = standardised(points[:start], points[start:end])
        rows = np.arange(end - start), truth[start:end]
        tried = [
            -linear(train, truth[:start], block, classes, strength=c)[rows] / np.log(2.0)
            for c in STRENGTHS
        ]
        bits[start:end] = tried[used]
        used = int(np.argmin([one.sum() for one in tried]))
    return bits


def _documents_in_order(groups: NDArray[np.generic], seed: int) -> NDArray[np.intp]:
    """Samples of whole documents, the documents shuffled."""
    inverse = np.unique(groups, return_inverse=True)[1]
    place = np.random.default_rng(seed).permutation(int(inverse.max(initial=-1)) + 1)
    return np.argsort(place[inverse], kind="stable")
