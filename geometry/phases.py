"""Phases of training: where the curves of a training run change their slope, and what between.

The model is one set of continuous broken lines in log10(step), with the same boundaries for every
curve, least squares, and AR(1) residuals (`geometry.segmented`). The number of boundaries comes from
tests against curves drawn from the fit (`geometry.sequential`), since shuffled nulls and information
criteria find breaks in any line with correlated noise. The phases are those of arXiv 2509.23024,
which draws them by eye.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from geometry.autoregression import draw
from geometry.bends import Bends, find_bends
from geometry.segmented import Array, Basis, Index, fit, hinge_basis, most_breaks, paths
from geometry.sequential import Noise, estimate_noise, sequential_breaks

FEWEST = 8  # checkpoints; with fewer no break is looked for
LEVEL = 0.95  # of every interval
ENTROPY_SEEKING = {"log_rankme": +1, "alpha": -1}  # sign of each slope in that phase
_PERFECT = 1e-4  # residuals below this share of a curve's spread are taken for this large


@dataclass(frozen=True)
class Phases:
    """Boundaries and segments of a set of curves over training.

    Attributes
    ----------
    curves : names of the curves.
    steps_used, left_out : (point,) steps fitted, and those left out (step 0, or a value missing).
    boundaries, lower, upper : (boundary,) in steps, with 95 % intervals.
    kind : (boundary,) "break", or "bend" where the slope changes over more than one spacing.
    widths : (boundary,) decades over which the slope makes 80 % of its change, 0 for a break.
    p_values : (test,) k breaks against more, k = 0, 1, …
    slopes, slope_lower, slope_upper : (segment, curve) per decade of steps, 95 % intervals.
    labels : (segment,) "warm-up", "entropy-seeking", "compression-seeking" or "unlabelled".
    starts, ends : (segment,) in steps.
    fitted : (point, curve) the broken lines.
    ar1, residual_sd : (curve,) correlation of neighbouring residuals; their standard deviation.
    alpha, seed, simulations, level : as given; the level of the intervals.
    note : what a reader should know, such as why nothing was fitted; else "".
    """

    curves: tuple[str, ...]
    steps_used: Array
    left_out: Array
    boundaries: Array
    lower: Array
    upper: Array
    kind: tuple[str, ...]
    widths: Array
    p_values: Array
    slopes: Array
    slope_lower: Array
    slope_upper: Array
    labels: tuple[str, ...]
    starts: Array
    ends: Array
    fitted: Array
    ar1: Array
    residual_sd: Array
    alpha: float
    seed: int
    simulations: int
    level: float = LEVEL
    note: str = ""


def change_points(
    curves: Mapping[str, npt.ArrayLike],
    *,
    steps: npt.ArrayLike,
    standard_errors: Mapping[str, npt.ArrayLike] | None = None,
    max_breaks: int = 4,
    alpha: float = 0.05,
    seed: int = 0,
    simulations: int = 299,
    rising: Mapping[str, int] = ENTROPY_SEEKING,
) -> Phases:
    """Find the phases of a training run from the curves of its measures.

    Parameters
    ----------
    curves : name to (checkpoint,) values, typically "log_rankme" (ln RankMe) and "alpha".
    steps : (checkpoint,) training steps, or tokens; increasing, not negative.
    standard_errors : name to (checkpoint,) measurement errors. Their root mean square is the least
        standard deviation the residuals of that curve can have.
    max_breaks : most boundaries looked for; fewer if the checkpoints are few (one for every five).
    alpha : level of each test, of the number of breaks and of the width of a bend.
    seed, simulations : of the simulated curves; the answer is a function of the arguments.
    rising : sign of each curve's slope in the entropy-seeking phase. Curves not named take part
        in the fit only; labels need two curves that are named.

    Returns
    -------
    Phases

    Raises
    ------
    ValueError
        If shapes disagree, steps do not increase, or an option is out of range.

    Notes
    -----
    Every segment has at least three checkpoints, counting a boundary for the segment it opens.
    Intervals of boundaries and slopes are percentiles of refits with the same number of boundaries
    to curves drawn from the fit; a boundary's is widened to half-way to the next checkpoint, for a
    broken line with knots on checkpoints cannot say more. They hold given the number of boundaries.
    For a bend, curves are drawn from the smooth fit.

    A label needs the slope intervals of all named curves to exclude 0. RankMe falling with α rising
    is "warm-up" until an entropy-seeking segment has been seen, "compression-seeking" after.

    Memory: 6 (simulations × curve × checkpoint) and 2 checkpoint², float64.
    """
    names = tuple(curves)
    values, places, errors = _checked(curves, steps, standard_errors)
    _check_options(max_breaks, alpha, simulations, rising)
    used = np.isfinite(values).all(axis=0) & (places > 0)
    y, at = values[:, used], places[used]
    varies = np.ptp(y, axis=1) > 1e-9 * np.abs(y).max(axis=1) if at.size else np.zeros(len(y), bool)
    empty = _unfitted(names, y, at, places[~used], alpha, seed, simulations)
    if at.size < FEWEST:
        return replace(empty, note=f"{at.size} usable checkpoints; at least {FEWEST} are needed")
    if not varies.any():
        return replace(_flat(empty, y), note="every curve is constant")
    errors = np.array([_rms(row) for row in errors[varies][:, used]])
    most = min(max_breaks, most_breaks(at.size))
    found = _segment(empty, y, varies, errors, most)
    found = replace(found, labels=tuple(_label(found, rising)))
    if most < max_breaks:
        found = replace(found, note=f"{at.size} checkpoints: at most {most} breaks were looked for")
    return found


def _segment(
    empty: Phases, y: Array, varies: npt.NDArray[np.bool_], se: Array, most: int
) -> Phases:
    """Fit the curves that vary, in units of their spread, and fill in what was found."""
    rng = np.random.default_rng(empty.seed)
    basis = hinge_basis(np.log10(empty.steps_used))
    centre, scale = y[varies].mean(axis=1), y[varies].std(axis=1)
    scaled = (y[varies] - centre[:, None]) / scale[:, None]
    floor = np.maximum(se / scale, _PERFECT)
    breaks = sequential_breaks(
        basis, scaled, floor=floor, most=most,
        alpha=empty.alpha, simulations=empty.simulations, rng=rng,
    )  # fmt: skip
    bends: Bends | None = None
    if breaks.count:
        bends = find_bends(
            basis, scaled, breaks,
            floor=floor, alpha=empty.alpha, simulations=empty.simulations, rng=rng,
        )  # fmt: skip
    chosen = breaks.knots[breaks.count] if bends is None else bends.knots
    fitted, slopes = (part[0] for part in fit(basis, scaled[None], chosen[None]))
    if bends is None or not bends.bent.any():
        mean, free = fitted, scaled.shape[1] - 2 - 2 * chosen.size
        noise = estimate_noise(scaled - fitted, floor, breaks.expected[chosen.size], free)
    else:
        mean, noise = bends.fitted, bends.noise
    knots, drawn = _refits(basis, mean, noise, chosen.size, empty.simulations, rng)
    bounds = np.quantile(drawn, _tails(), axis=0)
    full = _flat(empty, y)
    columns = np.flatnonzero(varies)
    segments = np.zeros((3, chosen.size + 1, y.shape[0]))
    segments[:, :, columns] = np.stack([slopes, *bounds]) * scale
    whole, ar1, sd = full.fitted.copy(), np.zeros(y.shape[0]), np.zeros(y.shape[0])
    whole[:, columns] = fitted.T * scale + centre
    ar1[columns], sd[columns] = noise.rho, noise.sd * scale
    full = replace(
        full, slopes=segments[0], slope_lower=segments[1], slope_upper=segments[2],
        fitted=whole, ar1=ar1, residual_sd=sd, p_values=breaks.p_values,
    )  # fmt: skip
    return _with_boundaries(full, basis, chosen, knots, bends)


def _refits(
    basis: Basis, mean: Array, noise: Noise, count: int, simulations: int, rng: np.random.Generator
) -> tuple[Index, Array]:
    """Return the checkpoints (simulation, boundary) and slopes of refits to simulated curves."""
    lines = mean + draw(rng, noise.rho, noise.sd, (simulations, *mean.shape))
    chosen = paths(basis, lines, count)[count]
    return basis.knots[chosen], fit(basis, lines, chosen)[1]


def _with_boundaries(
    found: Phases, basis: Basis, chosen: Index, refits: Index, bends: Bends | None
) -> Phases:
    if bends is None:
        return found
    x = basis.x
    middles = np.concatenate([x[:1], (x[1:] + x[:-1]) / 2, x[-1:]])
    low, high = np.quantile(refits, _tails(), axis=0, method="inverted_cdf")
    # The percentiles need not hold the estimate itself.
    low, high = (np.minimum(low, basis.knots[chosen]), np.maximum(high, basis.knots[chosen]))
    boundaries = found.steps_used[basis.knots[chosen]]
    return replace(
        found,
        boundaries=boundaries,
        lower=10.0 ** middles[low],
        upper=10.0 ** middles[high + 1],
        kind=tuple("bend" if bent else "break" for bent in bends.bent),
        widths=np.where(bends.bent, bends.widths, 0.0),
        starts=np.concatenate([found.steps_used[:1], boundaries]),
        ends=np.concatenate([boundaries, found.steps_used[-1:]]),
    )


def _label(found: Phases, rising: Mapping[str, int]) -> list[str]:
    """Return the name of each segment."""
    named = [i for i, name in enumerate(found.curves) if name in rising]
    signs = np.array([rising[found.curves[i]] for i in named])
    labels: list[str] = []
    for low, high in zip(found.slope_lower, found.slope_upper, strict=True):
        way = ((low > 0).astype(int) - (high < 0).astype(int))[named] * signs
        if len(named) >= 2 and (way == 1).all():
            labels.append("entropy-seeking")
        elif len(named) >= 2 and (way == -1).all():
            after = "entropy-seeking" in labels
            labels.append("compression-seeking" if after else "warm-up")
        else:
            labels.append("unlabelled")
    return labels


def _unfitted(
    names: Sequence[str], y: Array, at: Array, left_out: Array, alpha: float, seed: int, draws: int
) -> Phases:
    """Return one segment without a label, all numbers missing."""
    none, missing = np.empty(0), np.full((1, len(names)), np.nan)
    ends = at[[0, -1]] if at.size else np.full(2, np.nan)
    return Phases(
        curves=tuple(names), steps_used=at, left_out=left_out,
        boundaries=none, lower=none, upper=none, kind=(), widths=none, p_values=none,
        slopes=missing, slope_lower=missing, slope_upper=missing, labels=("unlabelled",),
        starts=ends[:1], ends=ends[1:], fitted=np.full(y.T.shape, np.nan),
        ar1=missing[0], residual_sd=missing[0], alpha=alpha, seed=seed, simulations=draws,
    )  # fmt: skip


def _flat(empty: Phases, y: Array) -> Phases:
    """Return the fit of curves that do not vary."""
    zero = np.zeros((1, y.shape[0]))
    level = np.repeat(y.mean(axis=1)[None], y.shape[1], axis=0)
    return replace(
        empty, slopes=zero, slope_lower=zero, slope_upper=zero, fitted=level,
        ar1=zero[0], residual_sd=zero[0],
    )  # fmt: skip


def _tails() -> tuple[float, float]:
    return (1.0 - LEVEL) / 2, (1.0 + LEVEL) / 2


def _rms(errors: Array) -> float:
    """Return the root mean square of the errors that are known, 0 if none is."""
    known = errors[np.isfinite(errors)]
    return float(np.sqrt((known**2).mean())) if known.size else 0.0


def _checked(
    curves: Mapping[str, npt.ArrayLike],
    steps: npt.ArrayLike,
    standard_errors: Mapping[str, npt.ArrayLike] | None,
) -> tuple[Array, Array, Array]:
    """Return values (curve, checkpoint), steps and errors (NaN where not given), as float64."""
    at = np.asarray(steps, dtype=np.float64)
    if at.ndim != 1 or not (np.isfinite(at).all() and (at >= 0).all() and (np.diff(at) > 0).all()):
        raise ValueError(
            f"steps of shape {at.shape} must be one increasing series from 0 up: sort them, "
            "and give one branch at a time"
        )
    if not curves:
        raise ValueError("curves is empty: give at least one name and its values")
    given = dict(standard_errors or {})
    stray = sorted(set(given) - set(curves))
    if stray:
        raise ValueError(f"standard_errors has {stray}, which are no curves: use {sorted(curves)}")
    tables = {f"curves[{name!r}]": curve for name, curve in curves.items()}
    tables |= {f"standard_errors[{name!r}]": error for name, error in given.items()}
    for name, table in tables.items():
        if np.shape(table) != at.shape:
            raise ValueError(
                f"{name} has shape {np.shape(table)}: give one value for each of {at.size} steps"
            )
    values = np.array([np.asarray(curve, dtype=np.float64) for curve in curves.values()])
    missing = np.full(at.shape, np.nan)
    errors = np.array([np.asarray(given.get(name, missing), dtype=np.float64) for name in curves])
    if (errors < 0).any():
        raise ValueError("standard_errors has negative values: give standard deviations")
    return values, at, errors


def _check_options(
    max_breaks: int, alpha: float, simulations: int, rising: Mapping[str, int]
) -> None:
    if max_breaks < 0:
        raise ValueError(f"max_breaks is {max_breaks}: give 0 or more")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}: give a level between 0 and 1, such as 0.05")
    if simulations + 1 < max(1 / alpha, 40):
        raise ValueError(
            f"simulations is {simulations}: give at least {int(np.ceil(max(1 / alpha, 40))) - 1}"
        )
    if any(sign not in (-1, 1) for sign in rising.values()):
        raise ValueError(f"rising is {dict(rising)}: every sign must be +1 or -1")
