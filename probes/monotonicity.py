"""Whether text-following falls as the text becomes harder relative to the image."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from probes.balance_curves import equal_count_bins
from probes.rank_correlation import spearman

Floats = NDArray[np.float64]


class Monotonicity(NamedTuple):
    """How far a curve of text-following falls.

    Attributes
    ----------
    spearman, standard_error, lower, upper : float
        ρ of following with Δ over cases, its error and interval by group; the law says below 0.
    p_value : float
        One-sided, of a ρ as low by chance: the shares of whole groups in it change sign at random.
    residual : float
        Root mean square, over equal-count bins, of what a falling curve leaves; 0 if none rises.
    decreasing : float
        Share of neighbouring bins that fall.
    cases : int
        Cases that follow either modality.
    """

    spearman: float
    standard_error: float
    lower: float
    upper: float
    p_value: float
    residual: float
    decreasing: float
    cases: int


def monotonicity(
    delta: Any,
    follows_text: Any,
    groups: Any = None,
    *,
    bins: int = 10,
    flips: int = 999,
    seed: int = 0,
    level: float = 0.95,
) -> Monotonicity:
    """Three readings of whether P(follow text | Δ) falls.

    Parameters
    ----------
    delta : float array (case,)
        Relative uncertainty or another index; cases with a NaN are left out.
    follows_text : float array (case,)
        1 text, 0 vision, NaN neither.
    groups : int array (case,), optional
        The unit of resampling; by default every case is its own.
    bins
        Equal-count bins of Δ, at most one for every 5 cases.
    flips, seed
        Of the sign-flip test; with 0 flips its p-value is NaN.
    level
        Of ρ's interval.

    Returns
    -------
    Monotonicity
        NaN where `probes.rank_correlation.spearman` is; bins' readings with fewer than two bins.

    Notes
    -----
    ρ and its interval by group: `probes.rank_correlation.spearman`. p: the covariance of centred ranks is
    a sum over groups; without a relation each group's share is as often above 0 as below, whatever
    the cases of a group have in common, so their signs are drawn anew,
    p = (1 + #{drawn ≤ seen}) / (1 + flips). Outcomes of whole groups are not exchanged: groups share a
    design of tiers, and exchanging them would keep the relation it makes. Memory (flips, group).
    """
    x, y = np.asarray(delta, np.float64), np.asarray(follows_text, np.float64)
    own = np.arange(len(x)) if groups is None else np.asarray(groups)
    there = ~(np.isnan(x) | np.isnan(y))
    x, y, own = x[there], y[there], own[there]
    found = spearman(x, y, own, level=level)
    p_value = _flipped(x, y, own, flips, seed) if not np.isnan(found.value) else np.nan
    residual, decreasing = isotonic_residual(x, y, bins=bins)
    return Monotonicity(*found[:4], p_value, residual, decreasing, len(x))


def isotonic_residual(delta: Any, follows_text: Any, *, bins: int = 10) -> tuple[float, float]:
    """What the best falling curve leaves of the binned curve, and the share of bins that fall.

    Parameters
    ----------
    delta, follows_text : float array (case,)
        Without NaN.
    bins
        Equal-count bins, at most one for every 5 cases.

    Returns
    -------
    tuple of float
        Root mean square residual of the means of bins around their isotonic fit, weighted by cases; share
        of neighbouring bins that fall. NaN with fewer than two bins.
    """
    from sklearn.isotonic import isotonic_regression

    binned = equal_count_bins(np.asarray(delta), np.asarray(follows_text), bins=bins)
    if len(binned.rate) < 2:
        return float("nan"), float("nan")
    fitted = isotonic_regression(binned.rate, sample_weight=binned.weight, increasing=False)
    left = np.average(np.square(binned.rate - fitted), weights=binned.weight)
    return float(np.sqrt(left)), float((np.diff(binned.rate) < 0).mean())


def _flipped(x: Floats, y: Floats, groups: NDArray[Any], flips: int, seed: int) -> float:
    """One-sided p-value of a rank covariance when the share of whole groups changes its sign."""
    if flips == 0:
        return float("nan")
    codes = np.unique(groups, return_inverse=True)[1]
    ranks, outcome = (rankdata(v) - (len(v) + 1) / 2 for v in (x, y))
    shares = np.bincount(codes, weights=ranks * outcome)
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(flips, len(shares)))
    low = int((signs @ shares <= shares.sum() + 1e-9 * np.abs(shares).sum()).sum())
    return (1 + low) / (1 + flips)
