"""A spectrum band by band: the decay exponent within a range of ranks, RankMe beyond the top.

RankMe and alpha-ReQ are one number each for hundreds of directions, and in trained language models
the first few directions concentrate while the tail goes on flattening. Here each part speaks for
itself. All spectra are of the centred covariance.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from geometry.intervals import alpha_of, log_rankme
from geometry.jackknife import (
    Estimate,
    Statistic,
    exponential,
    shared_among_ties,
    spectral_intervals,
)
from geometry.spectrum import FloatArray, alpha_req_fit, rankme, rankme_convention

BANDS: Mapping[str, tuple[int, int | None]] = MappingProxyType(
    {"1-10": (1, 10), "11-100": (11, 100), "101-500": (101, 500), "512+": (512, None)}
)
"""Bands by name: first and last rank, 1-based, both fitted; None is the last that is there."""
REMOVED: tuple[int, ...] = (1, 2, 8, 32)
"""How many leading directions `rankme_without_top` leaves out."""
RESOLVED = 1e-12
"""Share of λ_1 at or below which an eigenvalue of float32 states is rounding (measured: 1e-14)."""

_FEWEST = 10  # ranks an open band needs, as many as the narrowest closed one
_RULE = rankme_convention("li2025")


class BandFit(NamedTuple):
    """Fits of one spectrum or of several, each field of shape (…, band).

    `last` is the last rank fitted: where an open band ended, and NaN where nothing was fitted.
    """

    alpha: FloatArray
    r2: FloatArray
    last: FloatArray


class BandIntervals(NamedTuple):
    """Decay exponents by band with intervals; every field of shape (band,)."""

    value: FloatArray
    standard_error: FloatArray
    lower: FloatArray
    upper: FloatArray
    r2: FloatArray
    last: FloatArray


def resolved_ranks(eigenvalues: ArrayLike, *, samples: int | None = None) -> int:
    """How many leading eigenvalues of a centred spectrum are data.

    Parameters
    ----------
    eigenvalues
        Shape (rank,), descending; zeros appended to it do not count.
    samples
        Points the spectrum is of: at most samples − 1 are counted. None: known to be many.

    Returns
    -------
    int
        Those above `RESOLVED` λ_1; 0 if any is NaN.

    Notes
    -----
    States after a layer norm lie in a hyperplane (up to its gain and shift): their last eigenvalue is
    rounding, 14 orders of magnitude down, and no part of a decay.
    """
    values = np.asarray(eigenvalues, dtype=np.float64)
    if np.isnan(values).any():
        return 0
    count = int((values > RESOLVED * values[:1]).sum())
    return count if samples is None else min(count, max(samples - 1, 0))


def band_alpha(
    eigenvalues: ArrayLike,
    *,
    samples: int | None = None,
    bands: Mapping[str, tuple[int, int | None]] = BANDS,
) -> BandFit:
    """Decay exponent of a spectrum within each band of ranks.

    Parameters
    ----------
    eigenvalues
        Spectrum of the centred covariance, shape (rank,), descending.
    samples
        Points it is of, which bound its rank; needed where zeros or rounding are appended to it.
    bands
        As `BANDS`. An open band ends at the last resolved rank (`resolved_ranks`).

    Returns
    -------
    BandFit
        Fields of shape (band,), in units of 1; alpha is positive for a decaying spectrum. NaN where
        the spectrum ends before the band does, or leaves an open band fewer than 10 ranks.

    Notes
    -----
    The fit is that of `alpha_req_fit`: ln λ on ln rank with weight 1 / rank (arXiv 2509.23024, code,
    after Stringer & Pachitariu); the bands are those of the replication training-time-entropy-circuits
    (2026). With few samples for the features the last ranks fall steeply whatever the population
    does: read an open band with N/d beside it.
    """
    values = np.asarray(eigenvalues, dtype=np.float64)
    present = resolved_ranks(values, samples=samples)
    out = np.full((3, len(bands)), np.nan)
    for column, (first, last) in enumerate(bands.values()):
        ranks = _closed(first, last, present)
        if ranks is not None:
            fit = alpha_req_fit(values, ranks=ranks)
            out[:, column] = fit.alpha, fit.r2, ranks[1]
    return BandFit(*out)


def band_alpha_intervals(
    x: ArrayLike,
    *,
    bands: Mapping[str, tuple[int, int | None]] = BANDS,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> BandIntervals:
    """`band_alpha` of a cloud with infinitesimal-jackknife intervals, from one decomposition.

    Parameters
    ----------
    x
        Points, shape (sample, feature); centred here.
    bands
        As in `band_alpha`.
    groups, level
        As in `geometry.jackknife.spectral_intervals`.

    Returns
    -------
    BandIntervals
        NaN where `band_alpha` is.

    Raises
    ------
    ValueError
        As `spectral_intervals`, and if a band is not 1 <= first < last.

    Notes
    -----
    Cost and memory as `spectral_intervals`. The end of an open band is taken as given.
    """
    samples = len(np.asarray(x))
    statistics = [_alpha_within(*band, samples) for band in bands.values()]
    values, estimates = spectral_intervals(x, statistics, groups=groups, level=level)
    fit = band_alpha(values, samples=samples, bands=bands)
    value, error, lower, upper = np.array(estimates).T
    return BandIntervals(value, error, lower, upper, fit.r2, fit.last)


def rankme_without_top(eigenvalues: ArrayLike, *, removed: Sequence[int] = REMOVED) -> FloatArray:
    """RankMe of what is left of a spectrum when its top directions are taken away.

    Parameters
    ----------
    eigenvalues
        Spectrum of the centred covariance, shape (…, rank), descending.
    removed
        Numbers of leading eigenvalues left out, each at least 0.

    Returns
    -------
    numpy.ndarray
        Shape (…, removed), in directions: exp(−Σ p ln p) with p = λ_i / Σ λ over ranks beyond k
        (the `li2025` convention, arXiv 2509.23024 eq. 1, renormalised). NaN where nothing resolved
        is left, or any eigenvalue is NaN.

    Raises
    ------
    ValueError
        If a number is negative, or an eigenvalue is.

    Notes
    -----
    Exact for what it says: the RankMe of the cloud projected off its own top k principal directions.
    Eigenvalues at or below `RESOLVED` λ_1 count as 0. With k = 0 it is RankMe itself.
    """
    values = np.asarray(eigenvalues, dtype=np.float64)
    if min(removed, default=0) < 0:
        raise ValueError(f"removed is {tuple(removed)}; give numbers of directions, at least 0")
    kept = _without_rounding(values)
    out = [
        rankme(kept[..., k:]) if k < values.shape[-1] else np.full(values.shape[:-1], np.nan)
        for k in removed
    ]
    return np.stack(out, axis=-1)


def rankme_without_top_intervals(
    x: ArrayLike,
    *,
    removed: Sequence[int] = REMOVED,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate[FloatArray]:
    """`rankme_without_top` of a cloud with infinitesimal-jackknife intervals on its logarithm.

    Parameters
    ----------
    x
        Points, shape (sample, feature); centred here.
    removed
        As in `rankme_without_top`.
    groups, level
        As in `geometry.jackknife.spectral_intervals`.

    Returns
    -------
    Estimate
        Fields of shape (removed,); the standard error is that of ln RankMe. NaN where the value is.

    Raises
    ------
    ValueError
        As `rankme_without_top` and `spectral_intervals`.

    Notes
    -----
    The top directions are those of the sample at hand, and the interval counts that they would have
    been others in another sample. Cost and memory as `spectral_intervals`.
    """
    if min(removed, default=0) < 0:
        raise ValueError(f"removed is {tuple(removed)}; give numbers of directions, at least 0")
    statistics = [_log_rankme_beyond(k) for k in removed]
    _, estimates = spectral_intervals(x, statistics, groups=groups, level=level)
    return Estimate(*np.array([exponential(e) for e in estimates]).T)


def _closed(first: int, last: int | None, present: int) -> tuple[int, int] | None:
    """Both ends of a band on a spectrum with `present` ranks; None if it has too few."""
    if last is None:
        return (first, present) if present >= first + _FEWEST - 1 else None
    return (first, last) if last <= present else None


def _alpha_within(first: int, last: int | None, samples: int) -> Statistic:
    """Decay exponent of one band, with derivatives."""

    def statistic(eigenvalues: FloatArray) -> tuple[float, FloatArray]:
        ranks = _closed(first, last, resolved_ranks(eigenvalues, samples=samples))
        if ranks is None:
            return np.nan, np.full_like(eigenvalues, np.nan)
        return alpha_of(ranks)(eigenvalues)

    if last is not None:
        alpha_of((first, last))  # refuses ranks that are none
    return statistic


def _log_rankme_beyond(k: int) -> Statistic:
    """Logarithm of RankMe without the first k eigenvalues; ties across the cut share."""
    whole = log_rankme(_RULE)

    def statistic(eigenvalues: FloatArray) -> tuple[float, FloatArray]:
        kept = _without_rounding(eigenvalues)
        if k >= len(kept):
            return np.nan, np.full_like(kept, np.nan)
        value, tail = whole(kept[k:])
        gradient = np.concatenate([np.zeros(k), tail])
        return value, shared_among_ties(eigenvalues, gradient)

    return statistic


def _without_rounding(eigenvalues: FloatArray) -> FloatArray:
    """Eigenvalues with those that are not resolved set to 0; NaN stays."""
    floor = RESOLVED * eigenvalues[..., :1]
    return np.where(
        eigenvalues <= np.maximum(floor, 0.0), np.minimum(eigenvalues, 0.0), eigenvalues
    )
