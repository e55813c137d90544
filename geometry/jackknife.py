"""Infinitesimal jackknife of anything that is read off a spectrum, or that samples move one by one.

To first order, giving sample x a little more weight moves eigenvalue λ_i by its influence
(v_iᵀ x)² − λ_i (Efron 1982, ch. 6), and so a statistic by Σ_i ∂/∂λ_i ((v_iᵀ x)² − λ_i). A new
statistic is a value and its derivative by each eigenvalue: the rest is here.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from geometry.spectrum import Decomposition, FloatArray, decompose

T = TypeVar("T", float, FloatArray)
Statistic = Callable[[FloatArray], tuple[float, FloatArray]]
"""From a spectrum (rank,), descending: a number, and its derivative by each eigenvalue (rank,)."""

_BLOCK = 512  # rows projected at a time
_TIE = 8.0 * float(np.finfo(np.float64).eps)  # relative to λ_1: eigenvalues equal up to round-off


class Estimate(NamedTuple, Generic[T]):
    """A value with its standard error and interval.

    For RankMe, and whatever else is positive and multiplicative, `value`, `lower` and `upper` are in
    the measure's unit while `standard_error` is that of its logarithm: the interval is
    exp(ln value ± t se). Otherwise all four share the value's units.
    """

    value: T
    standard_error: T
    lower: T
    upper: T


def spectral_intervals(
    x: ArrayLike,
    statistics: Sequence[Statistic],
    *,
    centered: bool = True,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> tuple[FloatArray, list[Estimate[float]]]:
    """Spectrum of a cloud, and statistics of it with their intervals, from one decomposition.

    Parameters
    ----------
    x
        Points, shape (sample, feature), any real dtype.
    statistics
        Each a function of the spectrum (rank,) that gives a value and its derivatives (rank,); a
        value of NaN comes with derivatives of NaN.
    centered
        Whose spectrum: the centred covariance's, or that of XᵀX / n.
    groups
        Integer label of each sample's cluster, shape (sample,); None: every sample its own.
    level
        Coverage of the intervals, by Student's t with one degree less than clusters.

    Returns
    -------
    tuple
        Eigenvalues, shape (min(sample, feature),), and one estimate a statistic, value ± t se.

    Raises
    ------
    ValueError
        If `x` is not one cloud, `groups` does not match it, or
        `level` is outside (0, 1).

    Notes
    -----
    Cost: one `decompose`, and with more samples than features sample·feature² multiply-adds for
    the projections, made 512 rows at a time; memory beyond the input about 3 feature² float64.
    """
    array = np.asarray(x)
    parts = decompose(array, centered=centered)
    values, gradients = zip(*(statistic(parts.values) for statistic in statistics), strict=True)
    influence = influence_of(array, parts, np.stack(gradients, axis=1))
    estimates = [
        interval_from_influence(value, column, groups=groups, level=level)
        for value, column in zip(values, influence.T, strict=True)
    ]
    return parts.values, estimates


def interval_from_influence(
    value: float, influence: FloatArray, *, groups: ArrayLike | None = None, level: float = 0.95
) -> Estimate[float]:
    """Interval of a statistic from how far each sample pulls it.

    Parameters
    ----------
    value
        The statistic of all samples.
    influence
        n ∂/∂w_i of the statistic at equal weights w = 1, shape (sample,), of mean 0.
    groups, level
        As in `spectral_intervals`.

    Returns
    -------
    Estimate
        value ± t se; se² = Σ (sum over a cluster)² · k / (k − 1) / n² over k clusters, which for a
        plain mean of single samples is its unbiased variance. Error and bounds are NaN with fewer than
        two clusters.

    Raises
    ------
    ValueError
        As `spectral_intervals`.
    """
    labels, units = _clusters(groups, len(influence))
    if units < 2:
        nothing = float("nan")
        return Estimate(value, nothing, nothing, nothing)
    half = t_quantile(units, level)
    sums = np.bincount(labels, influence, units)
    error = float(np.sqrt((sums**2).sum() * units / (units - 1))) / len(influence)
    return Estimate(value, error, value - half * error, value + half * error)


def exponential(estimate: Estimate[float]) -> Estimate[float]:
    """Value and bounds of a logarithm carried to its argument; the error stays logarithmic."""
    value, error, lower, upper = estimate
    return Estimate(float(np.exp(value)), error, float(np.exp(lower)), float(np.exp(upper)))


def shared_among_ties(eigenvalues: FloatArray, gradient: FloatArray) -> FloatArray:
    """Derivatives by rank, with those of eigenvalues equal up to round-off replaced by their mean.

    A statistic that weighs eigenvalues by rank has no derivative at a tie; so its error does not depend
    on the basis that happened to be chosen within the tied subspace.
    """
    apart = -np.diff(eigenvalues) > _TIE * eigenvalues[0]
    tie = np.concatenate([[0], np.cumsum(apart)])
    mean: FloatArray = (np.bincount(tie, gradient) / np.bincount(tie))[tie]
    return mean


def t_quantile(units: int, level: float) -> float:
    """Half-width of a two-sided interval in standard errors, t with units − 1 degrees."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level}; give a coverage between 0 and 1")
    return float(stdtrit(units - 1, 0.5 * (1.0 + level)))


def influence_of(x: NDArray[Any], parts: Decomposition, gradients: FloatArray) -> FloatArray:
    """Influence of each sample on each statistic, Σ_i gradient_i ((v_iᵀ x)² − λ_i)."""
    if not np.isfinite(parts.values).all():
        return np.full((len(x), gradients.shape[1]), np.nan)
    # NaN counts as used, so that a statistic that is NaN has NaN influence.
    used = np.flatnonzero((gradients != 0.0).any(axis=1))
    values, gradients = parts.values[used], gradients[used]
    out = np.empty((len(x), gradients.shape[1]))
    for rows, squares in _squared_projections(x, parts, used):
        out[rows] = squares @ gradients - values @ gradients
    return out


def _squared_projections(
    x: NDArray[Any], parts: Decomposition, used: NDArray[np.intp]
) -> Iterator[tuple[slice, FloatArray]]:
    """Blocks of (v_iᵀ x)² over samples, for the eigenvectors `used`."""
    vectors = parts.vectors[:, used]
    for start in range(0, len(x), _BLOCK):
        rows = slice(start, start + _BLOCK)
        if parts.feature_side:
            yield rows, ((x[rows] - parts.mean) @ vectors) ** 2
        else:  # X V = U √(n λ)
            yield rows, len(x) * parts.values[used] * vectors[rows] ** 2


def _clusters(groups: ArrayLike | None, samples: int) -> tuple[NDArray[np.intp], int]:
    """Cluster index of each sample, and the number of clusters."""
    if groups is None:
        labels = np.arange(samples)
    else:
        array = np.asarray(groups)
        if array.shape != (samples,):
            raise ValueError(
                f"groups has shape {array.shape}; give one label for each of {samples}"
            )
        labels = np.unique(array, return_inverse=True)[1]
    return labels, int(labels.max(initial=-1)) + 1
