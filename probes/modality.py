"""Relative uncertainty of text and image, and the names under which modality readouts are found."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, softmax

from probes.balance import REASONS, BalancePoint, balance_point
from probes.following import Rate, followed, following_rate, solved_both
from probes.monotonicity import Monotonicity, isotonic_residual, monotonicity
from probes.oscillation import oscillations, oscillations_by_third, sign_changes, swapped_labels

Floats = NDArray[np.float64]

NEAR_ZERO = 0.01  # nats; H_t + H_v below this says that both are sure, and Δ is a ratio of noise
BEYOND = 1.8  # |Δ| beyond this is all but saturated: one entropy is 19 times the other
NEAR = 0.5  # |Δ − balance point| up to this is the paper's ambiguous region

__all__ = [
    "BEYOND",
    "NEAR",
    "NEAR_ZERO",
    "REASONS",
    "BalancePoint",
    "Monotonicity",
    "Rate",
    "balance_point",
    "candidate_entropy",
    "followed",
    "following_rate",
    "high_total",
    "isotonic_residual",
    "monotonicity",
    "oscillations",
    "oscillations_by_third",
    "relative_uncertainty",
    "saturated_share",
    "sign_changes",
    "solved_both",
    "swapped_labels",
    "uncertainty_difference",
]


def relative_uncertainty(h_text: Any, h_vision: Any, *, floor: float = 0.0) -> Floats:
    """ΔH = 2 (H_t − H_v) / (H_t + H_v + floor): below 0 the text is easier, above 0 the image.

    Parameters
    ----------
    h_text, h_vision : float array (…)
        Uncertainty of the answer from the text alone and from the image alone, at least 0: entropies in
        nats, or another measure in which more is less sure, such as 1 − p_max or 1 − margin.
    floor
        Added to the denominator; with 0, the default, the formula is the paper's.

    Returns
    -------
    float64 array (…)
        In [−2, 2]; NaN where the denominator is 0 or either is NaN.

    Raises
    ------
    ValueError
        If an uncertainty or the floor is below 0.

    Notes
    -----
    arXiv 2511.02243 §3. Exchanging the modalities negates it, and with floor 0 a common factor, hence the
    base of the logarithm, drops out. It is a ratio of noise where both are sure: report
    `saturated_share` beside it.
    """
    text, vision = _uncertain(h_text), _uncertain(h_vision)
    if floor < 0:
        raise ValueError(f"floor is {floor:g}; it is at least 0")
    total = text + vision + floor
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = np.where(total > 0, 2 * (text - vision) / total, np.nan)
    return found


def uncertainty_difference(h_text: Any, h_vision: Any) -> Floats:
    """H_t − H_v, the index without a denominator; signs as in `relative_uncertainty`.

    Parameters
    ----------
    h_text, h_vision : float array (…)
        As there.

    Returns
    -------
    float64 array (…)
        In the unit of what was given.
    """
    found: Floats = _uncertain(h_text) - _uncertain(h_vision)
    return found


def _uncertain(values: Any) -> Floats:
    """Uncertainties, those that rounding left just below 0 at 0."""
    found: Floats = np.asarray(values, np.float64)
    if (found < -1e-4).any():
        raise ValueError(f"an uncertainty is {np.nanmin(found):g}; it is at least 0")
    return np.maximum(found, 0.0)


def candidate_entropy(logits: Any) -> Floats:
    """Entropy of the answer over the candidates alone, renormalised.

    Parameters
    ----------
    logits : float array (…, candidate)
        NaN where a question has fewer candidates.

    Returns
    -------
    float64 array (…)
        Nats, at most ln(candidates); NaN without any.
    """
    given = np.asarray(logits, np.float64)
    there = ~np.isnan(given)
    some = there.any(-1)
    safe = np.where(there, given, -np.inf)
    safe[~some] = 0.0
    found: Floats = np.where(some, entr(softmax(safe, axis=-1)).sum(-1), np.nan)
    return found


def saturated_share(
    h_text: Any, h_vision: Any, *, near_zero: float = NEAR_ZERO, beyond: float = BEYOND
) -> tuple[float, float]:
    """Shares of cases whose ΔH has a near-zero denominator, and with |ΔH| beyond a bound.

    Parameters
    ----------
    h_text, h_vision : float array (case,)
        Uncertainties; cases with a NaN are left out.
    near_zero
        Bound of H_t + H_v, in their unit.
    beyond
        Bound of |ΔH|; a case of 0 / 0 counts to the first share alone.

    Returns
    -------
    tuple of float
        Of all cases; NaN without any.
    """
    text, vision = _uncertain(h_text), _uncertain(h_vision)
    there = ~(np.isnan(text) | np.isnan(vision))
    if not there.any():
        return float("nan"), float("nan")
    total = (text + vision)[there]
    delta = relative_uncertainty(text[there], vision[there])
    return float((total < near_zero).mean()), float((np.abs(delta) > beyond).mean())


def high_total(h_text: Any, h_vision: Any) -> NDArray[np.bool_]:
    """Whether a case's H_t + H_v lies above the median of all (case,); NaN counts as not.

    The paper's split into low and high total entropy; cases at the median are low.
    """
    total = _uncertain(h_text) + _uncertain(h_vision)
    if np.isnan(total).all():
        return np.zeros(total.shape, bool)
    found: NDArray[np.bool_] = total > np.nanmedian(total)
    return found
