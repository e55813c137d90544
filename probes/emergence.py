"""When a curve over training crosses a threshold for good, and which curves cross it together."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Floats = NDArray[np.float64]


class Emergence(NamedTuple):
    """Where a curve crosses a threshold for good.

    Attributes
    ----------
    first, lower, upper : int
        Index of a checkpoint, and its interval's ends; 0 if it was above from the start, the number of
        checkpoints if it is not above at the last one.
    probability : float64 array (checkpoint,)
        That the curve without its noise is above from this checkpoint on.
    """

    first: int
    lower: int
    upper: int
    probability: Floats


def emergence(
    values: NDArray[Any], errors: NDArray[Any], *, threshold: float, level: float = 0.95
) -> Emergence:
    """First checkpoint from which a curve stays at or above a threshold.

    Parameters
    ----------
    values, errors : float array (checkpoint,)
        A curve in the order of training and its standard errors. Where the value is NaN there is no
        checkpoint, and the probability is that of the next one.
    threshold
        To be reached and kept to the end.
    level
        Of the interval.

    Returns
    -------
    Emergence
        All NaN probabilities and `first` the number of checkpoints if no value is there. A NaN error
        makes the probability NaN from the first checkpoint to its own, and the interval the whole run.

    Notes
    -----
    If checkpoint j's error is normal with s_j and independent of the others', the probability that all
    from c on are above is Π_{j≥c} Φ((v_j − θ)/s_j): what a parametric bootstrap tends to with many draws.
    The interval's ends are the first checkpoints where it reaches (1 ∓ level)/2. Errors of one set of
    samples at all checkpoints go together, so the truth lies nearer to `first` than the interval says;
    and as noise is added to a curve that holds noise already, the interval leans to later checkpoints.
    """
    v, s = np.asarray(values, np.float64), np.asarray(errors, np.float64)
    there = np.flatnonzero(~np.isnan(v))
    count = len(v)
    if there.size == 0:
        return Emergence(count, 0, count, np.full(count, np.nan))
    gap = v[there] - threshold
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        certain = (gap >= 0).astype(np.float64)
        above = np.where(s[there] > 0, ndtr(gap / s[there]).astype(np.float64), certain)
    above[np.isnan(s[there])] = np.nan
    kept = np.cumprod(above[::-1])[::-1].astype(np.float64)
    probability: Floats = kept[np.minimum(np.searchsorted(there, np.arange(count)), there.size - 1)]
    low = np.flatnonzero(gap < 0)
    after = 0 if low.size == 0 else int(low[-1]) + 1
    first = count if after == there.size else int(there[after]) if after else 0
    if np.isnan(kept).any():
        return Emergence(first, 0, count, probability)
    ends = [reaches(probability, share) for share in ((1 - level) / 2, (1 + level) / 2)]
    return Emergence(first, ends[0], ends[1], probability)


def reaches(probability: Floats, share: float) -> int:
    """First index at which a rising curve (checkpoint,) is at least `share`, or its length."""
    found = np.flatnonzero(probability >= share)
    return int(found[0]) if found.size else len(probability)


def together(lower: NDArray[Any], upper: NDArray[Any], *, never: float) -> NDArray[np.int64]:
    """Group intervals so that all of a group share a point.

    Parameters
    ----------
    lower, upper : array (curve,)
        Ends of intervals, as `Emergence` has them.
    never
        Intervals that begin there or later belong to no group: what has not emerged.

    Returns
    -------
    int64 array (curve,)
        Number of each one's group, from 0 in order of training; −1 for none.

    Notes
    -----
    Greedy stabbing: the group of the interval that ends first is all that hold its end, and so on with
    the rest. The groups are the fewest that are possible; chains of overlaps do not make one group.
    """
    low, high = np.asarray(lower, np.float64), np.asarray(upper, np.float64)
    groups = np.full(len(low), -1, np.int64)
    open_ones = low < never
    number = 0
    while open_ones.any():
        point = high[open_ones].min()
        mine = open_ones & (low <= point)
        groups[mine] = number
        open_ones &= ~mine
        number += 1
    return groups
