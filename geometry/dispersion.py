"""How a cloud spreads over its directions, in one number: participation ratio and its kin.

Each is a function of the eigenvalues λ of a second-moment matrix, or (the mean cosine) of the points.
With p = λ / Σλ they weigh the top of the spectrum more and more: exp of spectral entropy (RankMe),
participation ratio 1 / Σp², stable rank 1 / p_1: Hill numbers of order 1, 2 and ∞, so never
increasing in that order.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr

from geometry.bands import resolved_ranks
from geometry.jackknife import (
    Estimate,
    Statistic,
    exponential,
    interval_from_influence,
    shared_among_ties,
    spectral_intervals,
)
from geometry.spectrum import FloatArray, probabilities, rankme_convention

_RULE = rankme_convention("li2025")  # its p = λ / Σλ; the centring is the caller's
_BLOCK = 512  # rows held in float64 at a time


def participation_ratio(eigenvalues: ArrayLike) -> FloatArray:
    """Participation ratio (Σλ)² / Σλ².

    Parameters
    ----------
    eigenvalues
        Spectrum, shape (…, rank), descending.

    Returns
    -------
    numpy.ndarray
        Shape (…), in directions, 1 to rank; r equal eigenvalues give r. NaN for an all-zero spectrum
        and where any eigenvalue is NaN.

    Raises
    ------
    ValueError
        If an eigenvalue is negative.

    Notes
    -----
    Gao et al. 2017 (bioRxiv 214262); NerVE, arXiv 2603.06922, of feed-forward layers.
    """
    p = _shares(eigenvalues)
    with np.errstate(divide="ignore"):
        return np.asarray(1.0 / (p**2).sum(axis=-1))


def stable_rank(eigenvalues: ArrayLike) -> FloatArray:
    """Stable rank ‖X‖_F² / ‖X‖₂² = Σλ / λ_1.

    Parameters
    ----------
    eigenvalues
        As in `participation_ratio`; of the centred covariance for the stable rank of centred X.

    Returns
    -------
    numpy.ndarray
        Shape (…), in directions, 1 to rank; NaN as `participation_ratio`.

    Raises
    ------
    ValueError
        If an eigenvalue is negative.

    Notes
    -----
    Rudelson & Vershynin 2007 (arXiv math/0503442). Its reciprocal is `leading_share`.
    """
    return np.asarray(1.0 / leading_share(eigenvalues))


def leading_share(eigenvalues: ArrayLike) -> FloatArray:
    """Anisotropy after Razzhigaev et al.: λ_1 / Σλ, of the centred covariance.

    Parameters
    ----------
    eigenvalues
        As in `participation_ratio`.

    Returns
    -------
    numpy.ndarray
        Shape (…), 1 / rank to 1; NaN as `participation_ratio`.

    Raises
    ------
    ValueError
        If an eigenvalue is negative.

    Notes
    -----
    arXiv 2311.05928, in singular values: σ_1² / Σ σ_i² of centred X.
    """
    return np.asarray(_shares(eigenvalues)[..., 0])


def spectral_entropy(eigenvalues: ArrayLike, *, directions: int | None = None) -> FloatArray:
    """Entropy −Σ p ln p of the normalised spectrum p = λ / Σλ.

    Parameters
    ----------
    eigenvalues
        As in `participation_ratio`.
    directions
        Divide by ln of this: how many directions the cloud could fill, `fillable`. None: nats.

    Returns
    -------
    numpy.ndarray
        Shape (…): nats, 0 to ln rank; or 0 to 1. NaN as `participation_ratio`, and where one
        direction is all there is.

    Raises
    ------
    ValueError
        If an eigenvalue is negative.

    Notes
    -----
    Roy & Vetterli 2007; in nats it is ln RankMe of the `li2025` convention (arXiv 2509.23024 eq. 1).
    """
    entropy = np.asarray(entr(_shares(eigenvalues)).sum(axis=-1))
    if directions is None:
        return entropy
    return entropy / _log_directions(directions)


def fillable(samples: int, features: int, *, centered: bool = True) -> int:
    """How many directions that many points can fill: min(n − 1, d) centred, min(n, d) not."""
    return max(min(samples - int(centered), features), 0)


def condition_number(eigenvalues: ArrayLike, *, rank: int | None = None) -> FloatArray:
    """Condition number λ_1 / λ_r of a spectrum.

    Parameters
    ----------
    eigenvalues
        Shape (rank,), descending.
    rank
        r, 1-based; None: the last resolved rank (above 1e-12 λ_1). See `resolved_ranks`.

    Returns
    -------
    numpy.ndarray
        Scalar, at least 1 and at most 1e12, of eigenvalues: the square of the condition number of X.
        NaN if λ_r is not resolved or is not there: never a ratio to rounding.

    Raises
    ------
    ValueError
        If `rank` is less than 1, or an eigenvalue is negative.
    """
    _shares(eigenvalues)  # refuses what is no spectrum
    return np.asarray(np.exp(_log_condition(rank)(np.asarray(eigenvalues, np.float64))[0]))


def mean_cosine(x: ArrayLike) -> float:
    """Anisotropy after Ethayarajh: mean cosine over all pairs of distinct points, not centred.

    Parameters
    ----------
    x
        Points, shape (sample, feature), any real dtype.

    Returns
    -------
    float
        −1 / (n − 1) to 1. NaN if a point is NaN, Inf or 0 (it has no direction), or there is one only.

    Raises
    ------
    ValueError
        If `x` is not one cloud.

    Notes
    -----
    Ethayarajh 2019, arXiv 1909.00512, who samples pairs. Over all pairs it is exactly
    (‖Σu‖² − n) / (n (n − 1)) with u = x / ‖x‖: sample·feature multiply-adds, 512 rows in float64.
    """
    units, total = _directions(x)
    n = len(units)
    if n < 2:
        return float("nan")
    return float((total @ total - n) / (n * (n - 1)))


def mean_cosine_interval(
    x: ArrayLike, *, groups: ArrayLike | None = None, level: float = 0.95
) -> Estimate[float]:
    """`mean_cosine` with its infinitesimal-jackknife interval.

    Parameters
    ----------
    x
        As in `mean_cosine`.
    groups, level
        As in `geometry.jackknife.spectral_intervals`.

    Returns
    -------
    Estimate
        NaN where `mean_cosine` is.

    Raises
    ------
    ValueError
        If `x` is not one cloud, `groups` does not match it, or
        `level` is outside (0, 1).

    Notes
    -----
    The influence of a point is 2 (its mean cosine with the others − the mean): the first-order term
    of a U-statistic (Hoeffding 1948). Memory: the directions, sample·feature float64.
    """
    units, total = _directions(x)
    n = len(units)
    value = mean_cosine(x)
    influence = 2.0 * ((units @ total - 1.0) / max(n - 1, 1) - value)
    return interval_from_influence(value, influence, groups=groups, level=level)


@dataclass(frozen=True)
class DispersionMeasure:
    """A number of a spectrum that has an interval.

    Attributes
    ----------
    make
        From how many directions the cloud can fill, the statistic and its derivatives.
    logarithmic
        Whether the statistic is the logarithm of the number, on which the interval is then made.
    """

    make: Callable[[int], Statistic]
    logarithmic: bool


def dispersion_interval(
    x: ArrayLike,
    measure: str,
    *,
    centered: bool = True,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate[float]:
    """A number of `DISPERSION` of a cloud with its infinitesimal-jackknife interval.

    Parameters
    ----------
    x
        Points, shape (sample, feature), any real dtype.
    measure
        A key of `DISPERSION`.
    centered
        Whether the mean over samples is subtracted first.
    groups, level
        As in `geometry.jackknife.spectral_intervals`.

    Returns
    -------
    Estimate
        What the function of the same name gives of the cloud's spectrum. Intervals of positive ratios
        are made on their logarithm, and their standard error is that of the logarithm; the entropies'
        are plain. NaN where the value is.

    Raises
    ------
    ValueError
        If the measure is unknown, and as `spectral_intervals`.

    Notes
    -----
    Cost and memory as `spectral_intervals`. The end of the resolved spectrum is taken as given.
    """
    if measure not in DISPERSION:
        raise ValueError(f"measure {measure!r} is unknown; give one of {', '.join(DISPERSION)}")
    chosen = DISPERSION[measure]
    array = np.asarray(x)
    room = fillable(*array.shape, centered=centered) if array.ndim == 2 else 0
    _, (estimate,) = spectral_intervals(
        array, [chosen.make(room)], centered=centered, groups=groups, level=level
    )
    return exponential(estimate) if chosen.logarithmic else estimate


def _shares(eigenvalues: ArrayLike) -> FloatArray:
    """Normalised spectrum p; NaN throughout where it is zero or holds NaN."""
    values = np.asarray(eigenvalues, dtype=np.float64)
    if values.ndim == 0 or values.shape[-1] == 0:
        raise ValueError(f"eigenvalues has shape {values.shape}; give (…, rank) with rank >= 1")
    return probabilities(values, _RULE)


def _directions(x: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Points scaled to length 1 in float64, and their sum."""
    array = np.asarray(x)
    if array.ndim != 2:
        raise ValueError(f"x has shape {array.shape}; give one cloud (sample, feature)")
    units = np.empty(array.shape)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for start in range(0, len(array), _BLOCK):
            block = array[start : start + _BLOCK].astype(np.float64)
            # By the largest coordinate first, so that no square overflows or vanishes.
            block /= np.abs(block).max(axis=1, keepdims=True, initial=0.0)
            units[start : start + _BLOCK] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return units, units.sum(axis=0)


def _log_directions(directions: int) -> float:
    return float(np.log(directions)) if directions > 1 else float("nan")


def _log_participation(_: int) -> Statistic:
    """Logarithm of the participation ratio: ∂ = (2 / Σλ) (1 − p_i / Σp²)."""

    def statistic(eigenvalues: FloatArray) -> tuple[float, FloatArray]:
        p, total = _shares(eigenvalues), eigenvalues.sum()
        concentration = (p**2).sum()
        return float(-np.log(concentration)), 2.0 / total * (1.0 - p / concentration)

    return _guarded(statistic)


def _log_leading(sign: float) -> Callable[[int], Statistic]:
    """Logarithm of λ_1 / Σλ (sign 1) or of its reciprocal, the stable rank (sign −1)."""

    def statistic(eigenvalues: FloatArray) -> tuple[float, FloatArray]:
        first = np.zeros_like(eigenvalues)
        first[0] = 1.0 / eigenvalues[0]
        gradient = shared_among_ties(eigenvalues, first) - 1.0 / eigenvalues.sum()
        return sign * float(np.log(_shares(eigenvalues)[0])), sign * gradient

    return lambda _: _guarded(statistic)


def _entropy(normalised: bool) -> Callable[[int], Statistic]:
    """Spectral entropy S: ∂ = −(ln p_i + S) / Σλ."""

    def make(room: int) -> Statistic:
        scale = _log_directions(room) if normalised else 1.0

        def statistic(eigenvalues: FloatArray) -> tuple[float, FloatArray]:
            p = _shares(eigenvalues)
            value = float(entr(p).sum())
            logs = np.log(p, where=p > 0.0, out=np.full_like(p, -value))
            return value / scale, -(logs + value) / eigenvalues.sum() / scale

        return _guarded(statistic)

    return make


def _log_condition(rank: int | None) -> Statistic:
    """Logarithm of λ_1 / λ_r."""
    if rank is not None and rank < 1:
        raise ValueError(f"rank is {rank}; give a rank, at least 1")

    def statistic(eigenvalues: FloatArray) -> tuple[float, FloatArray]:
        present = resolved_ranks(eigenvalues)
        last = present if rank is None else rank
        if not 1 <= last <= present:
            return np.nan, np.full_like(eigenvalues, np.nan)
        gradient = np.zeros_like(eigenvalues)
        gradient[0] += 1.0 / eigenvalues[0]
        gradient[last - 1] -= 1.0 / eigenvalues[last - 1]
        value = float(np.log(eigenvalues[0] / eigenvalues[last - 1]))
        return value, shared_among_ties(eigenvalues, gradient)

    return statistic


def _guarded(statistic: Statistic) -> Statistic:
    """NaN with NaN derivatives for a spectrum that is all zero or holds NaN."""

    def guarded(eigenvalues: FloatArray) -> tuple[float, FloatArray]:
        if not eigenvalues.sum() > 0.0:
            return np.nan, np.full_like(eigenvalues, np.nan)
        return statistic(eigenvalues)

    return guarded


DISPERSION: Mapping[str, DispersionMeasure] = MappingProxyType(
    {
        "participation_ratio": DispersionMeasure(_log_participation, True),
        "stable_rank": DispersionMeasure(_log_leading(-1.0), True),
        "leading_share": DispersionMeasure(_log_leading(1.0), True),
        "spectral_entropy": DispersionMeasure(_entropy(False), False),
        "normalised_entropy": DispersionMeasure(_entropy(True), False),
        "condition_number": DispersionMeasure(lambda _: _log_condition(None), True),
        "condition_100": DispersionMeasure(lambda _: _log_condition(100), True),
    }
)
"""Numbers of a spectrum with an interval: what `dispersion_interval` and the catalogue offer."""
