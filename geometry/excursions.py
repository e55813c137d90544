"""Collapse and expansion of one curve: how far it falls, how far it rises after, and when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geometry.segmented import Array, Index


@dataclass(frozen=True)
class Excursion:
    """The fall and rise of a positive measure over training; every `*_interval` is (lower, upper).

    Attributes
    ----------
    first, lowest, highest, final : the measure (not its logarithm) at the first checkpoint, at its
        minimum, at its maximum from the minimum on, and at the last checkpoint.
    collapse_step, expansion_step : where the minimum and the maximum are.
    collapse_ratio : lowest / first, at most 1.
    expansion_ratio : highest / lowest, at least 1.
    final_ratio : final / highest, at most 1.
    collapsed, expanded : whether the interval of that ratio excludes 1. Where the minimum is the
        first checkpoint nothing collapsed: the ratio is 1 and the step that of the first.
    steps_used, left_out : steps with and without a value and its error.
    draws, seed, level : as given.
    """

    first: float
    lowest: float
    highest: float
    final: float
    collapse_step: float
    collapse_step_interval: tuple[float, float]
    collapse_ratio: float
    collapse_ratio_interval: tuple[float, float]
    expansion_step: float
    expansion_step_interval: tuple[float, float]
    expansion_ratio: float
    expansion_ratio_interval: tuple[float, float]
    final_ratio: float
    final_ratio_interval: tuple[float, float]
    collapsed: bool
    expanded: bool
    steps_used: Array
    left_out: Array
    draws: int
    seed: int
    level: float


def excursion(
    values: npt.ArrayLike,
    standard_errors: npt.ArrayLike,
    steps: npt.ArrayLike,
    *,
    seed: int = 0,
    draws: int = 2000,
    level: float = 0.95,
) -> Excursion:
    """Say how far and when a positive measure collapses and then expands.

    Parameters
    ----------
    values : (checkpoint,) natural logarithm of the measure, such as ln RankMe.
    standard_errors : (checkpoint,) of the logarithm.
    steps : (checkpoint,) training steps or tokens, increasing; step 0 may be among them.
    seed, draws : of the curves drawn for the intervals.
    level : of the intervals.

    Returns
    -------
    Excursion

    Raises
    ------
    ValueError
        If shapes disagree, steps do not increase, or fewer than two checkpoints are usable.

    Notes
    -----
    The minimum of a noisy curve is too low, because it was chosen for being low; the maximum is too
    high; a flat curve would always seem to collapse and expand. The estimates are these raw ones.
    Intervals come from drawn errors, and each side of a ratio's interval minds the selection. Away
    from 1 it is the percentile of the ratio of the observed curve with errors drawn on top, whose
    extremes are chosen anew. Towards 1, which decides `collapsed` and `expanded`, the estimate
    gives up as much as the largest fall (or rise) found anywhere in the drawn errors alone: the
    overshoot cannot exceed that, whatever the true curve. A step's interval is the percentiles
    of the steps of the drawn curves.

    Errors are drawn independently. Where all checkpoints see the same inputs, errors go together
    and the intervals are too wide, not too narrow.

    Memory: 3 (draws × checkpoint) float64.
    """
    y, se, at = _checked(values, standard_errors, steps, draws, level)
    used = np.isfinite(y) & np.isfinite(se)
    if used.sum() < 2:
        raise ValueError(f"values has {used.sum()} usable checkpoints: give at least 2")
    left_out, y, se, at = at[~used], y[used], se[used], at[used]
    errors = se * np.random.default_rng(seed).standard_normal((draws, y.size))
    curves = np.vstack([y, y + errors])
    low, high = _extremes(curves)
    rows = np.arange(draws + 1)
    lowest, highest = curves[rows, low], curves[rows, high]
    fall = errors[:, 0] - errors.min(axis=1)
    rise = (errors - np.minimum.accumulate(errors, axis=1)).max(axis=1)
    late = errors.max(axis=1) - errors[:, -1]
    collapse = _interval(lowest - curves[:, 0], fall, level)
    expansion = _interval(highest - lowest, rise, level)
    final = _interval(curves[:, -1] - highest, late, level)
    return Excursion(
        first=float(np.exp(y[0])),
        lowest=float(np.exp(lowest[0])),
        highest=float(np.exp(highest[0])),
        final=float(np.exp(y[-1])),
        collapse_step=float(at[low[0]]),
        collapse_step_interval=_step_interval(at[low], level),
        collapse_ratio=float(np.exp(lowest[0] - y[0])),
        collapse_ratio_interval=collapse,
        expansion_step=float(at[high[0]]),
        expansion_step_interval=_step_interval(at[high], level),
        expansion_ratio=float(np.exp(highest[0] - lowest[0])),
        expansion_ratio_interval=expansion,
        final_ratio=float(np.exp(y[-1] - highest[0])),
        final_ratio_interval=final,
        collapsed=collapse[1] < 1.0,
        expanded=expansion[0] > 1.0,
        steps_used=at,
        left_out=left_out,
        draws=draws,
        seed=seed,
        level=level,
    )


def _extremes(curves: Array) -> tuple[Index, Index]:
    """Return the place of each curve's minimum, and of its maximum from there on."""
    low = curves.argmin(axis=1)
    after = np.arange(curves.shape[1]) >= low[:, None]
    return low, np.where(after, curves, -np.inf).argmax(axis=1)


def _interval(logs: Array, overshoot: Array, level: float) -> tuple[float, float]:
    """Return the interval of a ratio that selection drives away from 1.

    Parameters
    ----------
    logs : (1 + draw,) logarithms of the ratio, observed and drawn, all of one sign.
    overshoot : (draw,) how far errors alone can drive it, not negative.
    """
    sign = -1.0 if (logs < 0).any() else 1.0
    observed, drawn = sign * logs[0], sign * logs[1:]
    far = max(observed, float(np.quantile(drawn, (1 + level) / 2)))
    near = max(observed - float(np.quantile(overshoot, (1 + level) / 2)), 0.0)
    lower, upper = sorted((sign * near, sign * far))
    return float(np.exp(lower)), float(np.exp(upper))


def _step_interval(steps: Array, level: float) -> tuple[float, float]:
    """Return percentiles of drawn steps, the observed one (first) always inside."""
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(steps[1:], tails, method="inverted_cdf")
    return float(min(low, steps[0])), float(max(high, steps[0]))


def _checked(
    values: npt.ArrayLike,
    standard_errors: npt.ArrayLike,
    steps: npt.ArrayLike,
    draws: int,
    level: float,
) -> tuple[Array, Array, Array]:
    y, se, at = (np.asarray(a, dtype=np.float64) for a in (values, standard_errors, steps))
    if at.ndim != 1 or not (np.isfinite(at).all() and (np.diff(at) > 0).all()):
        raise ValueError(f"steps of shape {at.shape} must be one increasing series: sort them")
    for name, array in (("values", y), ("standard_errors", se)):
        if array.shape != at.shape:
            raise ValueError(
                f"{name} has shape {array.shape}: give one for each of {at.size} steps"
            )
    if (se < 0).any():
        raise ValueError("standard_errors has negative values: give standard deviations")
    if draws < 100:
        raise ValueError(f"draws is {draws}: give at least 100")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: give a number between 0 and 1, such as 0.95")
    return y, se, at
