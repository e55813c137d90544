"""The checkpoint from which a class stands apart: halfway up its own rise, for good, with an interval."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from probes.emergence import emergence, reaches

Floats = NDArray[np.float64]


class ClassEmergence(NamedTuple):
    """When one curve of separation over training has come halfway, and whether it rose at all.

    Attributes
    ----------
    first, lower, upper : int
        Index of a checkpoint and the ends of its interval; the number of checkpoints where there is none.
    threshold : float
        What had to be reached.
    rise, rise_lower, rise_upper : float
        Last value less the first, with its interval.
    separated : bool
        Whether it emerged: the whole interval of its rise is above 0, or, with a threshold that was
        given, the last value is at or above it.
    probability : float64 array (checkpoint,)
        That the curve without its noise is above from this checkpoint on; NaN where it has no value.
    """

    first: int
    lower: int
    upper: int
    threshold: float
    rise: float
    rise_lower: float
    rise_upper: float
    separated: bool
    probability: Floats


def class_emergence(
    values: NDArray[Any],
    errors: NDArray[Any],
    *,
    fraction: float = 0.5,
    threshold: float | None = None,
    level: float = 0.95,
    draws: int = 4000,
    seed: int = 0,
) -> ClassEmergence:
    """First checkpoint from which a curve stays above a share of its own rise.

    Parameters
    ----------
    values, errors : float array (checkpoint,)
        A curve in the order of training, the first of it the start (the untrained network, where that
        was captured), and its standard errors. Where the value is NaN there is no checkpoint.
    fraction
        θ = start + fraction × (end − start), in (0, 1).
    threshold
        A fixed θ instead, the same for every curve.
    level
        Of the intervals.
    draws, seed
        Of the parametric bootstrap.

    Returns
    -------
    ClassEmergence
        `first` is the number of checkpoints for a curve that did not rise, or has fewer than two
        values. A NaN error makes the interval the whole run, and the rise's NaN if it is at an end.

    Raises
    ------
    ValueError
        If `fraction` is not between 0 and 1.

    Notes
    -----
    Why halfway and not a level for all: an untrained network tells many classes from the rest already,
    by the words it was shown, so any fixed level near chance is passed before training begins; a level
    that is significantly above the start comes earlier the more samples there are; and classes end at
    different heights. Halfway is farthest from both ends, so noise on a plateau moves it least. It says
    when a class rose, not how far: read it with `rise`.

    The interval: every value is drawn anew from a normal with its error, θ and the way up are found again
    in each draw (a draw that does not rise has not emerged), and `lower` and `upper` are quantiles. Draws
    of the checkpoints are independent, while one set of documents is read at all of them: errors go
    together, so both intervals are wider than need be. As noise is added to a curve that holds noise
    already, the interval leans to later checkpoints. It is probe noise of one run; other seeds
    are other runs. Memory: draws × checkpoints.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction}; it lies between 0 and 1")
    v, s = np.asarray(values, np.float64), np.asarray(errors, np.float64)
    count = len(v)
    there = np.flatnonzero(~np.isnan(v))
    if there.size < 2:
        nan = float("nan")
        return ClassEmergence(count, 0, count, nan, nan, nan, nan, False, np.full(count, nan))
    v, s = v[there], s[there]
    rise, half = float(v[-1] - v[0]), _normal(level) * float(np.hypot(s[0], s[-1]))
    ends = (rise, rise - half, rise + half)
    if threshold is not None:
        full, its = np.full((2, count), np.nan)
        full[there], its[there] = v, s
        fixed = emergence(full, its, threshold=threshold, level=level)
        separated = bool(fixed.first < count)
        return ClassEmergence(*fixed[:3], threshold, *ends, separated, fixed.probability)
    separated = ends[1] > 0
    found = int(_since(v[None], fraction)[0])
    first = int(there[found]) if separated and found < there.size else count
    theta = float(v[0] + fraction * rise)
    if np.isnan(s).any():
        return ClassEmergence(first, 0, count, theta, *ends, separated, np.full(count, np.nan))
    noise = np.random.default_rng(seed).standard_normal((draws, there.size))
    drawn = _since(v + s * noise, fraction)
    # Where there is no value nothing can emerge: NaN, which reaches no share.
    probability = np.full(count, np.nan)
    probability[there] = (drawn[:, None] <= np.arange(there.size)).mean(axis=0)
    tails = [reaches(probability, share) for share in ((1 - level) / 2, (1 + level) / 2)]
    return ClassEmergence(first, tails[0], tails[1], theta, *ends, separated, probability)


def _since(curves: Floats, fraction: float) -> NDArray[np.intp]:
    """Index from which each curve (draw, checkpoint) stays above; their number if it does not rise."""
    start, end = curves[:, :1], curves[:, -1:]
    low = curves < start + fraction * (end - start)
    count = curves.shape[1]
    after = count - np.argmax(low[:, ::-1], axis=1)
    found: NDArray[np.intp] = np.where((end > start)[:, 0], after, count)
    return found


def _normal(level: float) -> float:
    """Half-width of a normal interval in standard errors."""
    return float(ndtri((1 + level) / 2))
