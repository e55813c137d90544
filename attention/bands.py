"""Heads by the height of their entropy: quarters of a reference, and counts beyond a cut."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

FloatArray = NDArray[np.float64]

BANDS = ("0–¼", "¼–½", "½–¾", "¾–1")
"""Names of the quarters, lowest first; the last one holds what is above the reference too."""

ROUNDING = 1e-5
"""Nats that the entropy of a head may have by the rounding of its float32 rows alone."""

REFERENCES: Mapping[str, str] = MappingProxyType(
    {
        "observed_max": "the largest head entropy of the checkpoint, 2501.03489 §3",
        "causal_uniform": "uniform attention under a causal mask, ln(T!)/T over all rows",
        "log_length": "ln T of the longest sample, 2501.03489 Alg. 1: no causal head reaches it",
    }
)
"""What a quarter is a quarter of."""


class Counted(NamedTuple):
    """A number with the least and the most that intervals of single heads allow."""

    value: FloatArray
    lower: FloatArray
    upper: FloatArray


def reference_entropy(entropy: ArrayLike, lengths: ArrayLike, *, reference: str) -> FloatArray:
    """Entropy in nats that the bands are quarters of.

    Parameters
    ----------
    entropy : array (…, head)
        Mean entropies of all heads of a model, nats.
    lengths : int array (sample,)
        Tokens of each sample.
    reference
        A key of `REFERENCES`.

    Returns
    -------
    float64 array (…)
        `observed_max`: max over heads, NaN if one is, or if the largest is below 1e-5 nats.
        `causal_uniform`: Σ ln(T_s!) / Σ T_s, the mean of
        ln(visible keys) over all rows, which a sliding window would lower. `log_length`: ln max T_s.

    Raises
    ------
    ValueError
        If the reference is unknown or no sample is longer than one token.
    """
    values = np.asarray(entropy, dtype=np.float64)
    tokens = np.asarray(lengths, dtype=np.float64)
    if reference not in REFERENCES:
        raise ValueError(f"reference is {reference!r}; give one of {', '.join(REFERENCES)}")
    if not tokens.size or tokens.max() < 2:
        raise ValueError("lengths: no sample has two tokens or more, so every row's entropy is 0")
    if reference == "observed_max":
        highest: FloatArray = values.max(axis=-1)
        # Where no head has more than rounding, quarters of it would sort that.
        return np.where(highest < ROUNDING, np.nan, highest)
    uniform = float(gammaln(tokens + 1).sum() / tokens.sum())
    level = uniform if reference == "causal_uniform" else math.log(tokens.max())
    return np.full(values.shape[:-1], level)


def band_of(ratio: ArrayLike) -> FloatArray:
    """Quarter in which each ratio of an entropy to its reference lies.

    Parameters
    ----------
    ratio : array (…)
        Entropy over reference.

    Returns
    -------
    float64 array (…)
        0 … 3 for [0, ¼), [¼, ½), [½, ¾) and [¾, ∞); below 0, which is rounding, is 0; NaN stays NaN.
    """
    values = np.asarray(ratio, dtype=np.float64)
    return np.clip(np.floor(4 * values), 0, 3)


def band_shares(ratio: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> Counted:
    """Share of heads in each band.

    Parameters
    ----------
    ratio, lower, upper : arrays (head,)
        Each head's entropy over the reference, with the ends of its interval.

    Returns
    -------
    Counted of float64 arrays (band,)
        `value` sums to 1. `lower` counts the heads whose whole interval is in the band, `upper` those
        whose interval touches it. NaN if a head is NaN: a head that failed is in no band.
    """
    value, least, most = (band_of(x) for x in (ratio, lower, upper))
    bands = np.arange(len(BANDS))[:, None]
    heads = value.size
    spoilt = np.isnan(value).any()
    blurred = spoilt or np.isnan(least).any() or np.isnan(most).any()
    share = (value == bands).sum(1) / heads
    inside = ((least == bands) & (most == bands)).sum(1) / heads
    touching = ((least <= bands) & (bands <= most)).sum(1) / heads
    return Counted(
        np.where(spoilt, np.nan, share),
        np.where(blurred, np.nan, inside),
        np.where(blurred, np.nan, touching),
    )


def heads_beyond(
    ratio: ArrayLike, lower: ArrayLike, upper: ArrayLike, *, threshold: float, above: bool
) -> Counted:
    """How many heads are below a threshold, or at or above it.

    Parameters
    ----------
    ratio, lower, upper : arrays (head,)
        Each head's entropy over the reference, with the ends of its interval.
    threshold
        A share of the reference.
    above
        Count heads at or above the threshold; otherwise those below it.

    Returns
    -------
    Counted of float64 scalars
        `lower` counts heads whose whole interval is beyond the threshold, `upper` those of which a part
        is. NaN if a head is NaN.
    """
    value, least, most = (np.asarray(x, dtype=np.float64) for x in (ratio, lower, upper))
    near, far = (least, most) if above else (most, least)
    counts = []
    for numbers in (value, near, far):
        beyond = numbers >= threshold if above else numbers < threshold
        spoilt = np.isnan(value).any() or np.isnan(numbers).any()
        counts.append(np.float64(np.nan if spoilt else beyond.sum()))
    return Counted(*map(np.asarray, counts))
