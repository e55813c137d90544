"""Whether text-following falls as the text becomes harder relative to the image."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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
        One-sided, that ρ is no lower by chance: whole groups' outcomes are dealt out anew.
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
    permutations: int = 499,
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
    permutations, seed
        Of the permutation test; with 0 permutations its p-value is NaN.
    level
        Of ρ's interval.

    Returns
    -------
    Monotonicity
        NaN where `probes.rank_correlation.spearman` is; bins' readings with fewer than two bins.

    Notes
    -----
    ρ and its interval by group: `probes.rank_correlation.spearman`. Permutation: cases of a group stay
    together in order; groups of one size exchange their outcomes, those whose size no other group has
    keep theirs, so that dependence inside groups survives; p = (1 + #{ρ* ≤ ρ}) / (1 + permutations).
    Costs `permutations` dot products of (case,).
    """
    x, y = np.asarray(delta, np.float64), np.asarray(follows_text, np.float64)
    own = np.arange(len(x)) if groups is None else np.asarray(groups)
    there = ~(np.isnan(x) | np.isnan(y))
    x, y, own = x[there], y[there], own[there]
    found = spearman(x, y, own, level=level)
    p_value = _permuted(x, y, own, permutations, seed) if not np.isnan(found.value) else np.nan
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


def _permuted(x: Floats, y: Floats, groups: NDArray[Any], permutations: int, seed: int) -> float:
    """One-sided p-value of a rank correlation when whole groups exchange their outcomes."""
    from scipy.stats import rankdata

    if permutations == 0:
        return float("nan")
    rng = np.random.default_rng(seed)
    _, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(codes, kind="stable")
    ranks = rankdata(x)[order]
    ranks -= ranks.mean()
    outcome = rankdata(y)[order]
    seen = float(ranks @ outcome)
    starts = np.cumsum(sizes) - sizes
    blocks = [
        (starts[sizes == size][:, None] + np.arange(size)) for size in np.unique(sizes).tolist()
    ]
    low = 0
    for _ in range(permutations):
        drawn = outcome.copy()
        for block in blocks:
            drawn[block] = outcome[block[rng.permutation(len(block))]]
        low += float(ranks @ drawn) <= seen + 1e-9 * abs(seen)
    return (1 + low) / (1 + permutations)
