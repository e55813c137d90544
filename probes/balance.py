"""The balance point: the relative uncertainty at which text and image are followed equally often."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from probes.balance_curves import (
    HALF,
    binned_crossing,
    falls,
    isotonic_crossing,
    logistic_crossings,
)

Floats = NDArray[np.float64]
Method = Literal["logistic", "isotonic", "binned"]

METHODS: tuple[Method, ...] = get_args(Method)
REASONS = (
    "",
    "separated",
    "above",
    "below",
    "inverted",
    "flat",
    "too few",
    "one value",
)
"""Why there is no balance point, or, of the second, what kind of one it is; rows store the index."""

_FEWEST = 8  # cases
_AT_ONCE = 2_000_000  # weights held at once, 16 MB


class BalancePoint(NamedTuple):
    """Where text-following crosses one half.

    Attributes
    ----------
    value, lower, upper : float
        In the unit of Δ; NaN where it does not cross within the data. An end of the interval is ±∞ where
        resampled curves stay on one side of one half, or do not fall.
    crossed : bool
        Whether there is a value.
    reason : str
        Empty where it crosses; "separated" where all that follow text lie below all that follow vision,
        and the value is the middle between them; else why there is none: "above" or "below" one half
        throughout, "inverted" (it rises), "flat" (it can be shown neither to fall nor to rise),
        "too few" cases or groups, or "one value" of Δ.
    extrapolated : float
        Where the logistic curve would cross outside the data, if it falls; NaN else. No balance point.
    slope : float
        dP/dΔ of the logistic curve at its crossing; NaN of the other methods.
    cases, groups : int
        Cases that follow either modality, and their groups.
    """

    value: float
    lower: float
    upper: float
    crossed: bool
    reason: str = ""
    extrapolated: float = float("nan")
    slope: float = float("nan")
    cases: int = 0
    groups: int = 0


def balance_point(
    delta: Any,
    follows_text: Any,
    *,
    groups: Any = None,
    method: Method = "logistic",
    bins: int = 10,
    resamples: int = 499,
    level: float = 0.95,
    seed: int = 0,
) -> BalancePoint:
    """Where P(follow text | Δ) falls through one half, with an interval by group.

    Parameters
    ----------
    delta : float array (case,)
        Relative uncertainty, or another index; cases with a NaN are left out.
    follows_text : array (case,)
        1 or true: the text is followed; 0 or false: the image; NaN: neither, left out.
    groups : int array (case,), optional
        The unit of resampling; by default every case is its own.
    method
        "logistic": b of σ(−k (Δ − b)) by maximum likelihood (statsmodels). "isotonic": the best falling
        curve, joined by lines. "binned": means of equal-count bins, joined by lines.
    bins
        Of the method "binned"; at most one for every 5 cases.
    resamples, seed
        Of the bootstrap; with 0 there is no interval, and a flat curve is not told from a falling one.
    level
        Of the interval.

    Returns
    -------
    BalancePoint

    Raises
    ------
    ValueError
        If lengths differ, the method is unknown, or an outcome is not 0, 1 or NaN.

    Notes
    -----
    arXiv 2511.02243 defines the crossing and leaves binning and fit open. Percentile interval over
    resampled groups, the curve fitted anew each time; draws that stay above or below one half within the
    data count as +∞ and −∞, draws that do not fall as one half of each. If more than (1 − level)/2 of
    the draws disagree with the direction, the curve is flat. Memory 16 MB at a time beside the
    cases; seconds of processor for 10⁴ cases.
    """
    x, y, own = _checked(delta, follows_text, groups, method)
    codes = np.unique(own, return_inverse=True)[1]
    count = int(codes.max(initial=-1)) + 1
    known = {"cases": len(x), "groups": count}
    if len(x) < _FEWEST or count < 2:
        return _none("too few", known)
    if x[0] == x[-1]:
        return _none("one value", known)
    direction, place, slope = _whole(x, y, method, bins)
    draws = _draws(x, y, codes, method, bins, resamples, seed)
    tail = (1 - level) / 2
    if direction >= 0 or _share(draws.direction >= 0) > tail:
        return _none(_why(y, direction, draws, tail), known)
    low, high = float(x[0]), float(x[-1])
    if np.isnan(place):
        return _none("flat", known)
    if not low <= place <= high:
        beyond = place if method == "logistic" else np.nan
        return _none("above" if place > high else "below", {**known, "extrapolated": beyond})
    lower, upper = _interval(draws, low, high, tail)
    reason = "separated" if y[x < place].all() and not y[x > place].any() else ""
    return BalancePoint(place, lower, upper, True, reason, slope=slope, **known)


class _Draws(NamedTuple):
    """Of every bootstrap draw: where it crosses, whether it falls (−1), and its mean outcome."""

    place: Floats
    direction: NDArray[np.int64]
    mean: Floats


def _checked(
    delta: Any, follows_text: Any, groups: Any, method: str
) -> tuple[Floats, Floats, NDArray[Any]]:
    """The cases that count, sorted by Δ."""
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; give one of {', '.join(METHODS)}")
    x, y = np.asarray(delta, np.float64), np.asarray(follows_text, np.float64)
    own = np.arange(len(x)) if groups is None else np.asarray(groups)
    if not x.shape == y.shape == own.shape or x.ndim != 1:
        raise ValueError("delta, follows_text and groups are not equally long, one number a case")
    there = ~(np.isnan(x) | np.isnan(y))
    x, y, own = x[there], y[there], own[there]
    if not np.isin(y, (0.0, 1.0)).all():
        raise ValueError("follows_text is 1 (text), 0 (vision) or NaN (neither)")
    order = np.argsort(x, kind="stable")
    return x[order], y[order], own[order]


def _share(draws: NDArray[np.bool_]) -> float:
    """Share of the draws; 0 without any."""
    return float(draws.mean()) if draws.size else 0.0


def _none(reason: str, known: dict[str, Any]) -> BalancePoint:
    return BalancePoint(*(float("nan"),) * 3, False, reason, **known)


def _why(y: Floats, direction: int, draws: _Draws, tail: float) -> str:
    """Why a curve that does not fall for sure has no balance point."""
    if direction > 0 and _share(draws.direction <= 0) <= tail:
        return "inverted"
    if y.all() or (draws.mean.size and _share(draws.mean <= HALF) <= tail):
        return "above"
    if not y.any() or (draws.mean.size and _share(draws.mean >= HALF) <= tail):
        return "below"
    return "flat"


def _whole(x: Floats, y: Floats, method: Method, bins: int) -> tuple[int, float, float]:
    """Direction of all cases together, where they cross, and the slope there."""
    one = np.ones((1, len(x)))
    direction = int(falls(x, y, one)[0])
    if direction >= 0:
        return direction, np.nan, np.nan
    if method == "isotonic":
        return direction, isotonic_crossing(x, y, one[0]), np.nan
    if method == "binned":
        return direction, binned_crossing(x, y, one[0], bins), np.nan
    (place,), (slope,) = logistic_crossings(x, y, one)
    if np.isfinite(slope):
        place, slope = _maximum_likelihood(x, y)
    return direction, float(place), float(slope)


def _maximum_likelihood(x: Floats, y: Floats) -> tuple[float, float]:
    """Crossing and slope of a logistic regression whose sides are not separated."""
    from statsmodels.api import Logit, add_constant

    centre, scale = float(x.mean()), float(x.std())
    model = Logit(y, add_constant((x - centre) / scale))
    intercept, gain = model.fit(disp=0, method="newton", maxiter=200, warn_convergence=False).params
    return centre - scale * float(intercept / gain), float(gain) / scale / 4


def _draws(
    x: Floats,
    y: Floats,
    codes: NDArray[Any],
    method: Method,
    bins: int,
    resamples: int,
    seed: int,
) -> _Draws:
    """Resample whole groups with replacement and cross each curve anew."""
    rng = np.random.default_rng(seed)
    count = int(codes.max()) + 1
    parts = []
    step = max(1, _AT_ONCE // len(x))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=size)
        weights = drawn[:, codes].astype(np.float64)
        if method == "logistic":
            place = logistic_crossings(x, y, weights)[0]
        elif method == "isotonic":
            place = np.array([isotonic_crossing(x, y, w) for w in weights])
        else:
            place = np.array([binned_crossing(x, y, w, bins) for w in weights])
        parts.append(_Draws(place, falls(x, y, weights), weights @ y / weights.sum(1)))
    if not parts:
        return _Draws(np.empty(0), np.empty(0, np.int64), np.empty(0))
    return _Draws(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _interval(draws: _Draws, low: float, high: float, tail: float) -> tuple[float, float]:
    """Percentile interval; draws without a crossing go to the ends."""
    if len(draws.place) == 0:
        return float("nan"), float("nan")
    place = draws.place.copy()
    place[place > high], place[place < low] = np.inf, -np.inf
    one_sided = np.isnan(place) & (draws.mean >= 1)
    place[one_sided] = np.inf
    place[np.isnan(place) & (draws.mean <= 0)] = -np.inf
    lost = np.flatnonzero(np.isnan(place))
    place[lost] = np.where(np.arange(lost.size) % 2 == 0, -np.inf, np.inf)
    lower = float(np.quantile(place, tail, method="lower"))
    return lower, float(np.quantile(place, 1 - tail, method="higher"))
