"""Intervals for RankMe and alpha-ReQ: how far another draw of probe samples would move them.

For spectra of points the standard error is the infinitesimal jackknife (Efron 1982, ch. 6): to
first order, giving sample x a little more weight moves eigenvalue λ_i by its influence
(v_iᵀ x)² − λ_i. Statistics streamed as moments have no points left; there folds serve, best by
leaving one out at a time. All describe probe noise about the estimate's own expectation at this
sample size, not its finite-sample bias and not the spread between training runs. Resampling with
replacement is not offered: repeated points lower the rank of the cloud and bias every spectrum.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr

from geometry.jackknife import (
    Estimate,
    Statistic,
    exponential,
    influence_of,
    shared_among_ties,
    spectral_intervals,
    t_quantile,
)
from geometry.spectrum import (
    Decomposition,
    FloatArray,
    RankmeConvention,
    alpha_coefficients,
    alpha_req,
    decompose,
    probabilities,
    rankme_convention,
)

__all__ = [
    "Estimate",
    "SpectrumIntervals",
    "alpha_req_interval",
    "fold_interval",
    "leave_out_interval",
    "log_rankme_influence",
    "rankme_interval",
    "spectrum_intervals",
]


class SpectrumIntervals(NamedTuple):
    """RankMe and alpha-ReQ of one cloud with intervals, and the spectrum both come from."""

    rankme: Estimate[float]
    alpha: Estimate[float]
    eigenvalues: FloatArray


def rankme_interval(
    x: ArrayLike,
    *,
    convention: str = "li2025",
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate[float]:
    """RankMe of a cloud with an infinitesimal-jackknife interval on ln RankMe.

    Parameters
    ----------
    x
        Points, shape (sample, feature).
    convention
        A key of `RANKME_CONVENTIONS`; its centring is applied to `x`.
    groups
        Integer label of each sample's cluster, shape (sample,). Influences are summed within a
        cluster, which is then the unit that could have been drawn otherwise. None: every sample.
    level
        Coverage of the interval, by Student's t with one degree of freedom less than clusters.

    Returns
    -------
    Estimate
        All NaN if the cloud holds NaN or Inf or does not vary.

    Raises
    ------
    ValueError
        If the convention is unknown, `x` is not one cloud, `groups` does not match it, or
        `level` is outside (0, 1).

    Notes
    -----
    RankMe depends on the set of eigenvalues only, so ties among them do not matter. Where the
    convention caps the spectrum, a tie across the cap is broken arbitrarily. Cost and memory as
    for `spectrum_intervals`.
    """
    rule = rankme_convention(convention)
    _, (estimate,) = spectral_intervals(
        x, [log_rankme(rule)], centered=rule.centered, groups=groups, level=level
    )
    return exponential(estimate)


def alpha_req_interval(
    x: ArrayLike,
    *,
    ranks: tuple[int, int] = (12, 100),
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate[float]:
    """alpha-ReQ of a cloud with an infinitesimal-jackknife interval.

    Parameters
    ----------
    x
        Points, shape (sample, feature); centred here.
    ranks
        First and last rank fitted, 1-based, as in `alpha_req`.
    groups, level
        As in `rankme_interval`.

    Returns
    -------
    Estimate
        All NaN where `alpha_req` is NaN.

    Raises
    ------
    ValueError
        As `rankme_interval`, and if not 1 <= ranks[0] < ranks[1].

    Notes
    -----
    alpha weighs eigenvalues by rank, so it has no derivative at a tie. Eigenvalues equal up to
    round-off share the mean of their derivatives, which makes the result independent of the basis
    that happened to be chosen within the tied subspace.
    """
    _, (estimate,) = spectral_intervals(x, [alpha_of(ranks)], groups=groups, level=level)
    return estimate


def spectrum_intervals(
    x: ArrayLike,
    *,
    convention: str = "li2025",
    ranks: tuple[int, int] = (12, 100),
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> SpectrumIntervals:
    """RankMe and alpha-ReQ with intervals from one eigendecomposition.

    Parameters
    ----------
    x
        Points, shape (sample, feature), any real dtype.
    convention
        A centred key of `RANKME_CONVENTIONS`, since alpha-ReQ belongs to the centred spectrum.
    ranks, groups, level
        As in `rankme_interval` and `alpha_req_interval`.

    Returns
    -------
    SpectrumIntervals
        What the two functions give, and the spectrum, shape (min(sample, feature),).

    Raises
    ------
    ValueError
        As the two functions, and if the convention is not centred.

    Notes
    -----
    With more samples than features the projections cost sample·feature² multiply-adds, twice the
    Gram matrix, on top of `decompose`; they are formed 512 rows at a time, so memory beyond the
    input is about 3 feature² float64. Otherwise they are the Gram matrix's own eigenvectors.
    """
    rule = rankme_convention(convention)
    if not rule.centered:
        raise ValueError(
            f"convention {convention!r} is uncentered and alpha is not; use rankme_interval for it"
        )
    statistics = [log_rankme(rule), alpha_of(ranks)]
    values, (log_value, alpha) = spectral_intervals(x, statistics, groups=groups, level=level)
    return SpectrumIntervals(exponential(log_value), alpha, values)


def log_rankme_influence(
    x: ArrayLike, *, convention: str = "li2025"
) -> tuple[float, FloatArray, Decomposition]:
    """Ln RankMe of a cloud and how far each sample moves it, for errors of what is built from it.

    Parameters
    ----------
    x
        Points, shape (sample, feature).
    convention
        A key of `RANKME_CONVENTIONS`.

    Returns
    -------
    tuple
        ln RankMe; the influence of each sample, shape (sample,), whose mean is 0 and whose sum of squares
        over n² is the variance of ln RankMe; and the decomposition both come from.

    Raises
    ------
    ValueError
        If the convention is unknown or `x` is not one cloud.
    """
    rule = rankme_convention(convention)
    array = np.asarray(x)
    parts = decompose(array, centered=rule.centered)
    value, gradient = log_rankme(rule)(parts.values)
    return value, influence_of(array, parts, gradient[:, None])[:, 0], parts


def fold_interval(values: ArrayLike, *, level: float = 0.95) -> Estimate[FloatArray]:
    """Interval of a statistic from its values over disjoint folds of the samples.

    Parameters
    ----------
    values
        Shape (…, fold): the statistic of all samples first, then that of each of k >= 2 folds.
        Give ln RankMe rather than RankMe.
    level
        Coverage of the interval.

    Returns
    -------
    Estimate
        Each of shape (…), in the units of `values`: centred on the all-sample value, with the
        standard deviation of the folds over √k as standard error and t at k − 1 degrees of
        freedom. NaN in any fold gives NaN; NaN in the all-sample value leaves only the error.

    Raises
    ------
    ValueError
        If there are fewer than two folds or `level` is outside (0, 1).

    Notes
    -----
    Right for means and near-linear statistics. A fold's spectrum has a larger finite-sample bias,
    common to all folds, but also spreads less than √k times the whole's once the fold has few
    samples for its features: at 448 of 3584 samples of 512 features the interval of alpha covered
    76 in 100. Prefer `leave_out_interval` for spectra.
    """
    array = _folds(values)
    folds = array.shape[-1] - 1
    error = array[..., 1:].std(axis=-1, ddof=1) / np.sqrt(folds)
    return _about(array[..., 0], error, folds, level)


def leave_out_interval(values: ArrayLike, *, level: float = 0.95) -> Estimate[FloatArray]:
    """Interval of a statistic from its values with one fold of the samples left out at a time.

    Parameters
    ----------
    values
        Shape (…, fold): the statistic of all samples first, then k >= 2 times that of all but one
        fold (of moments: the merge of the other folds). Give ln RankMe rather than RankMe.
    level
        Coverage of the interval.

    Returns
    -------
    Estimate
        As `fold_interval`, with the grouped jackknife's error √((k − 1)/k Σ (θ_−j − mean)²).

    Raises
    ------
    ValueError
        As `fold_interval`.

    Notes
    -----
    Efron 1982, ch. 3. Each value has (k − 1)/k of the samples, so the spectrum is nearly that of
    the whole. For a mean over equal folds it equals `fold_interval`.
    """
    array = _folds(values)
    folds = array.shape[-1] - 1
    error = array[..., 1:].std(axis=-1) * np.sqrt(folds - 1)
    return _about(array[..., 0], error, folds, level)


def _folds(values: ArrayLike) -> FloatArray:
    """Values (…, 1 + k) as an array, k >= 2."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] < 3:
        raise ValueError(f"values has shape {array.shape}; give (…, 1 + k) with k >= 2 folds")
    return array


def _about(value: Any, error: Any, units: int, level: float) -> Estimate[FloatArray]:
    """Interval of value ± t error."""
    half = t_quantile(units, level) * error
    return Estimate(value, error, value - half, value + half)


def log_rankme(rule: RankmeConvention) -> Statistic:
    """Logarithm of RankMe: with h = −ln(p + eps), ∂/∂ln λ_i = power p_i (h_i − Σ p h)."""

    def statistic(eigenvalues: FloatArray) -> tuple[float, FloatArray]:
        p = probabilities(eigenvalues, rule)
        present = p > 0.0  # a zero eigenvalue has no projections, hence no influence
        h = -np.log(p + rule.eps, where=present, out=np.zeros_like(p))
        gradient = np.zeros_like(eigenvalues)
        slope = rule.power * p * (h - p @ h)
        np.divide(slope, eigenvalues[: len(p)], out=gradient[: len(p)], where=present)
        value = float(entr(p + rule.eps).sum())
        return value, gradient if np.isfinite(value) else np.full_like(gradient, np.nan)

    return statistic


def alpha_of(ranks: tuple[int, int]) -> Statistic:
    """alpha-ReQ = Σ c_i ln λ_i, with derivatives shared among tied eigenvalues."""
    coefficients, _ = alpha_coefficients(ranks)

    def statistic(eigenvalues: FloatArray) -> tuple[float, FloatArray]:
        value = float(alpha_req(eigenvalues, ranks=ranks))
        if np.isnan(value):
            return value, np.full_like(eigenvalues, np.nan)
        fitted = slice(ranks[0] - 1, ranks[1])
        gradient = np.zeros_like(eigenvalues)
        gradient[fitted] = coefficients / eigenvalues[fitted]
        return value, shared_among_ties(eigenvalues, gradient)

    return statistic
