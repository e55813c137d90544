"""How much of a difference between two runs moves with the states that are carried over."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

_ROUNDING = float(np.finfo(np.float32).eps)  # of a difference of two logits, relative to their size


class Recovery(NamedTuple):
    """A share with its standard error and interval."""

    value: float
    standard_error: float
    lower: float
    upper: float


def normalised_recovery(
    patched: NDArray[Any],
    receiver: NDArray[Any],
    donor: NDArray[Any],
    groups: NDArray[Any],
    *,
    level: float = 0.95,
) -> Recovery:
    """Share of the difference between donor and receiver that patching brings about.

    Parameters
    ----------
    patched, receiver, donor : float array (pair,)
        What is measured (here logit of the text's answer less that of the image's) of the receiver with
        the donor's states, of the receiver as it is, and of the donor; pairs with a NaN are left out.
    groups : int array (pair,)
        The unit of resampling.
    level
        Of the interval.

    Returns
    -------
    Recovery
        Σ (patched − receiver) / Σ (donor − receiver), 0 where nothing moves and 1 where all does; a
        ratio of sums, for single pairs may differ by next to nothing. Standard error by the jackknife
        over groups, Student t. NaN without pairs, or where donors and receivers differ on the whole by no
        more than the rounding of float32 numbers of their size; the error is NaN with fewer than two
        groups, or if that holds without one of them.

    Notes
    -----
    Activation patching as in arXiv 2202.05262 and 2309.16042, §2 (normalised logit difference).
    """
    moved, whole = np.asarray(patched, float) - receiver, np.asarray(donor, float) - receiver
    there = ~(np.isnan(moved) | np.isnan(whole))
    nan = float("nan")
    _, codes = np.unique(np.asarray(groups)[there], return_inverse=True)
    above, below = (np.bincount(codes, weights=part[there]) for part in (moved, whole))
    total = float(below.sum())
    size = (np.abs(np.asarray(donor, float)) + np.abs(np.asarray(receiver, float)))[there].sum()
    least = _ROUNDING * float(size)
    if abs(total) <= least:
        return Recovery(nan, nan, nan, nan)
    value, count = float(above.sum()) / total, len(above)
    rest = total - below
    if count < 2 or (np.abs(rest) <= least).any():
        return Recovery(value, nan, nan, nan)
    without = (above.sum() - above) / rest
    error = float(np.sqrt((count - 1) * np.mean((without - without.mean()) ** 2)))
    reach = float(stdtrit(count - 1, 0.5 + level / 2)) * error
    return Recovery(value, error, value - reach, value + reach)
