"""Correlation of two curves over checkpoints, and how far its p-value is to be believed.

Checkpoints of one run are not independent draws: two curves that merely both drift correlate. The p-value
of the t test, which papers print, assumes independence. Beside it stand one with an effective number of
checkpoints and one from surrogates of the same spectrum; both are larger where curves are smooth.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import ndtri, stdtr
from scipy.stats import rankdata

FloatArray = NDArray[np.float64]
METHODS = ("pearson", "spearman")
_MOST = 1e9  # checkpoints; no curve has more
_ROUNDED = 64.0  # eps of the largest value: variation that sums of a few dozen terms leave


class Correlation(NamedTuple):
    """A correlation with its interval and p-values, all floats.

    Attributes
    ----------
    value
        r of Pearson, or ρ of Spearman.
    lower, upper
        Interval by Fisher's z, which takes checkpoints for independent.
    n
        Checkpoints.
    p
        Two-sided, t test with n − 2 degrees of freedom: as papers print it, too small for smooth curves.
    effective_n
        n (1 − ab)/(1 + ab) with a, b the lag-1 autocorrelations of the two curves, between 2 and n.
    p_effective
        The same t test with `effective_n`; NaN where it is 2.
    p_surrogate
        Share of phase-randomised surrogates that correlate at least as strongly.
    differences, p_differences
        The correlation of the changes from checkpoint to checkpoint, and its p of the t test: a common
        drift does not enter it.
    """

    value: float
    lower: float
    upper: float
    n: int
    p: float
    effective_n: float
    p_effective: float
    p_surrogate: float
    differences: float
    p_differences: float


def correlation(
    x: ArrayLike,
    y: ArrayLike,
    *,
    method: str = "pearson",
    level: float = 0.95,
    surrogates: int = 2000,
    seed: int = 0,
) -> Correlation:
    """Correlate two curves over checkpoints.

    Parameters
    ----------
    x, y
        Values at the same checkpoints in the order of training, shape (checkpoint,), any units.
    method
        `pearson`; or `spearman`, the same of mean ranks.
    level
        Coverage of the interval.
    surrogates
        Phase-randomised copies of `x`; 0 leaves `p_surrogate` NaN.
    seed
        Of the surrogates.

    Returns
    -------
    Correlation
        All NaN if a value is not finite, a curve is constant up to rounding (64 eps of its values), or
        there are fewer than three checkpoints.

    Raises
    ------
    ValueError
        If shapes differ or the method is unknown.

    Notes
    -----
    p: t = r √((n−2)/(1−r²)), as scipy's `pearsonr` and `spearmanr` give it. Interval: tanh(atanh r ± z s)
    with s = 1/√(n−3) (Fisher 1921) and s = √((1 + ρ²/2)/(n−3)) for ranks (Bonett & Wright 2000, eq. 4);
    NaN below four checkpoints. `effective_n`: Bretherton et al. 1999, J. Climate 12, eq. 31, for
    first-order autoregressions in the order of checkpoints, whose spacing is not looked at. Surrogates
    keep the curve's power spectrum and draw its phases anew (Ebisuzaki 1997, J. Climate 10): they
    suppose a stationary curve, which a training curve that only rises is not, so `p_surrogate` is a
    caution and no exact test. Memory: surrogates × n float64.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; give one of {', '.join(METHODS)}")
    first, second = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(
            f"curves have shapes {first.shape} and {second.shape}; give two of one length"
        )
    n = first.size
    usable = n >= 3 and bool(np.isfinite(first).all() and np.isfinite(second).all())
    if not usable or not (_centred(first).any() and _centred(second).any()):
        return Correlation(*(np.nan,) * 3, n, *(np.nan,) * 6)
    changes = _coefficient(*(_transformed(np.diff(c), method) for c in (first, second)))
    a, b = _transformed(first, method), _transformed(second, method)
    r = _coefficient(a, b)
    lower, upper = _fisher(r, n, method, level)
    effective = effective_count(a, b)
    return Correlation(
        r,
        lower,
        upper,
        n,
        p_value(r, n),
        effective,
        p_value(r, effective),
        _surrogate_p(a, b, r, surrogates, seed),
        changes,
        p_value(changes, n - 1),
    )


def p_value(r: float, n: float) -> float:
    """Two-sided p of a correlation by the t test with n − 2 degrees of freedom.

    Parameters
    ----------
    r
        Pearson's or Spearman's coefficient.
    n
        Number of pairs, need not be whole; NaN at 2 or fewer.
    """
    if not np.isfinite(r) or not n > 2:
        return float("nan")
    if abs(r) >= 1:
        return 0.0
    return float(2 * stdtr(n - 2, -abs(r) * np.sqrt((n - 2) / (1 - r * r))))


def implied_n(r: float, p: float) -> float:
    """Number of pairs at which a correlation has this two-sided p: the inverse of `p_value`.

    Parameters
    ----------
    r, p
        As printed; the answer is as exact as their rounding allows, and whole only by chance.

    Returns
    -------
    float
        At least 2; NaN if r is 0 or ±1, or p outside (0, 1).

    Notes
    -----
    p falls as n grows for any r ≠ 0, so there is one answer, found by bisection on ln(n − 2).
    """
    if not (0 < abs(r) < 1 and 0 < p < 1):
        return float("nan")

    def above(log_degrees: float) -> float:
        found = p_value(r, 2 + float(np.exp(log_degrees)))
        # Logarithms, so that p of 1e-200 is found as well as p of 0.5.
        return float(np.log(max(found, 1e-320)) - np.log(p))

    ends = (float(np.log(1e-6)), float(np.log(_MOST)))
    if above(ends[0]) < 0 or above(ends[1]) > 0:
        return float("nan")
    return 2 + float(np.exp(brentq(above, *ends, xtol=1e-12)))


def effective_count(x: ArrayLike, y: ArrayLike) -> float:
    """Number of independent pairs that two autocorrelated curves are worth.

    Parameters
    ----------
    x, y
        Two curves in order, shape (checkpoint,).

    Returns
    -------
    float
        n (1 − ab)/(1 + ab), a and b the lag-1 autocorrelations; never above n nor below 2. NaN for a
        constant curve.

    Notes
    -----
    Bretherton et al. 1999, eq. 31. Only a product above 0 takes anything away.
    """
    first, second = np.asarray(x, np.float64), np.asarray(y, np.float64)
    product = _lag_one(first) * _lag_one(second)
    if not np.isfinite(product):
        return float("nan")
    n = float(first.size)
    return float(np.clip(n * (1 - product) / (1 + product), 2.0, n))


def phase_randomised(x: ArrayLike, count: int, *, seed: int) -> FloatArray:
    """Surrogates of a curve with its mean and power spectrum and random phases.

    Parameters
    ----------
    x
        A curve, shape (checkpoint,).
    count
        How many.
    seed
        Of the phases.

    Returns
    -------
    float64 array (surrogate, checkpoint)

    Notes
    -----
    Theiler et al. 1992, Physica D 58. The curve is taken for periodic.
    """
    curve = np.asarray(x, np.float64)
    spectrum = np.fft.rfft(curve)
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, (count, spectrum.size))
    turned = np.abs(spectrum) * np.exp(1j * phases)
    turned[:, 0] = spectrum[0]
    if curve.size % 2 == 0:
        # The highest frequency of an even length is real: its phase is a sign.
        turned[:, -1] = np.abs(spectrum[-1]) * np.where(phases[:, -1] < np.pi, 1.0, -1.0)
    made: FloatArray = np.fft.irfft(turned, n=curve.size, axis=1)
    return made


def _transformed(x: FloatArray, method: str) -> FloatArray:
    return np.asarray(rankdata(x), np.float64) if method == "spearman" else x


def _coefficient(x: FloatArray, y: FloatArray) -> float:
    a, b = _centred(x), _centred(y)
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    if scale == 0:
        return float("nan")
    r = float(a @ b / scale)
    return float(np.sign(r)) if abs(r) > 1 - 1e-15 else r  # rounding beside a perfect one


def _fisher(r: float, n: int, method: str, level: float) -> tuple[float, float]:
    if n <= 3:
        return float("nan"), float("nan")
    if abs(r) == 1:
        return r, r
    width = np.sqrt((1 + (r * r / 2 if method == "spearman" else 0.0)) / (n - 3))
    reach = float(ndtri(0.5 + level / 2)) * float(width)
    z = float(np.arctanh(r))
    return float(np.tanh(z - reach)), float(np.tanh(z + reach))


def _centred(x: FloatArray) -> FloatArray:
    """A curve about its mean; 0 where only the rounding of a constant is left."""
    centred: FloatArray = x - x.mean()
    rounding = _ROUNDED * np.finfo(np.float64).eps * np.abs(x).max(initial=0.0)
    return centred if np.abs(centred).max(initial=0.0) > rounding else np.zeros_like(x)


def _lag_one(x: FloatArray) -> float:
    centred = _centred(x)
    total = float(centred @ centred)
    return float("nan") if total == 0 else float(centred[:-1] @ centred[1:]) / total


def _surrogate_p(x: FloatArray, y: FloatArray, r: float, count: int, seed: int) -> float:
    if count == 0:
        return float("nan")
    made = phase_randomised(x, count, seed=seed)
    made -= made.mean(axis=1, keepdims=True)
    centred = y - y.mean()
    scale = np.linalg.norm(made, axis=1) * np.linalg.norm(centred)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.abs(made @ centred) / scale
    return float((1 + (found >= abs(r) - 1e-12).sum()) / (1 + count))
