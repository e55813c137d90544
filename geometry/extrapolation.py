"""RankMe at infinitely many samples, from the whole and its halves, and where not to trust it.

A spectrum of n samples in d features is spread out by sampling noise, so ln RankMe reads low by about
b / n where n is well above RankMe (Marchenko-Pastur: b is about d / 2 for a flat Gaussian spectrum).
Halves read low by twice as much, so 2 ln R(n) − mean ln R(n / 2) is free of that term (the jackknife
of order one, Quenouille 1956, with half samples). What it cannot see is in `Doubts`.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from geometry.intervals import Estimate, log_rankme_influence
from geometry.spectrum import Decomposition, FloatArray, eigenvalues, rankme, rankme_convention

SPLITS = 4
"""Seeded splits into halves that are averaged."""

LIMITS = {
    "radial_kurtosis": 1.3,
    "influence_kurtosis": 30.0,
    "largest_feature": 0.5,
    "dependence": 1.2,
    "curvature": 1.0 / 3.0,
}
"""Above which a doubt is raised; from the simulations in `benchmarks/extrapolation.py`."""

_LAGS = 32  # samples apart at which dependence along the order of samples is looked for


class Doubts(NamedTuple):
    """What would make the extrapolation wrong, each as a number to compare with `LIMITS`.

    Attributes
    ----------
    radial_kurtosis
        E r² / (E r)² of the squared distances r from the mean, over what a Gaussian cloud of the same
        spectrum has, 1 + 2 Σλ²/(Σλ)². 1 for Gaussian clouds, 3 for a multivariate t of 5 degrees: the
        effective number of samples is n divided by it, and differs between the whole and its halves.
    influence_kurtosis
        E J⁴ / (E J²)² of the influence J of each sample (or group). For a Gaussian cloud of any spectrum
        it is between 3 and 15; above, few samples carry the estimate and its error.
    largest_feature
        Share of the trace held by one feature (not direction): a massive dimension. RankMe is then a
        statement about that feature.
    dependence
        How many times too many the samples are because they resemble those up to 32 places before and
        after them (of another group, where groups are given): 1 if they do not. Bias is left over and
        the error is too small.
    curvature
        Distance from the extrapolation of second order, which needs quarters too, in standard errors:
        n is too small for the first term to tell.
    """

    radial_kurtosis: float
    influence_kurtosis: float
    largest_feature: float
    dependence: float
    curvature: float

    @property
    def raised(self) -> tuple[str, ...]:
        """Names of those above their limit; NaN counts as above."""
        return tuple(n for n, value in self._asdict().items() if not abs(value) <= LIMITS[n])


class Extrapolation(NamedTuple):
    """RankMe at infinitely many samples.

    Attributes
    ----------
    estimate
        `value`, `lower` and `upper` in directions; `standard_error` of ln RankMe.
    raw
        RankMe of the samples there are.
    doubts
        What speaks against it.
    """

    estimate: Estimate[float]
    raw: float
    doubts: Doubts

    @property
    def trusted(self) -> bool:
        """Whether no doubt is raised and there is a value."""
        return bool(np.isfinite(self.estimate.value)) and not self.doubts.raised


class _Split(NamedTuple):
    """What one split into halves gives."""

    value: float
    second: float  # of second order, from quarters too
    influence: FloatArray


def half_sample_rankme(
    x: ArrayLike,
    *,
    convention: str = "li2025",
    groups: ArrayLike | None = None,
    splits: int = SPLITS,
    seed: int = 0,
    level: float = 0.95,
) -> Extrapolation:
    """Extrapolate ln RankMe of a cloud to infinitely many samples, with interval and doubts.

    Parameters
    ----------
    x
        Points, shape (sample, feature), in the order they were drawn.
    convention
        A key of `geometry.spectrum.RANKME_CONVENTIONS`; studied for `li2025`.
    groups
        Label of each sample's cluster, shape (sample,); halves and influences go by whole clusters.
    splits, seed
        Splits into halves that are averaged, and the seed that draws them.
    level
        Coverage of the interval, by Student's t with one degree of freedom less than clusters.

    Returns
    -------
    Extrapolation
        NaN throughout if the cloud holds NaN or Inf, or a half does not vary.

    Raises
    ------
    ValueError
        If `x` is not one cloud, `groups` does not match it, there are fewer than 8 clusters, `splits` is
        below 1 or `level` outside (0, 1).

    Notes
    -----
    A split into parts of n₁ and n₂ samples gives (r L − mean of L₁, L₂) / (r − 1), L = ln RankMe and
    r = n (1/n₁ + 1/n₂) / 2, which is 2 for halves. The standard error is the infinitesimal jackknife's,
    of the extrapolation itself: (r J − J_half) / (r − 1) per sample, summed within clusters; the spread
    over splits, divided by their number, is added. It is probe noise; what is left of the bias is not in
    it.

    Cost: 1 + 2 `splits` decompositions and 4 `splits` spectra of quarters. Memory: x in float64, a half,
    3 min(sample, feature)² float64, and `splits` vectors of samples.
    """
    array = np.asarray(x)
    if array.ndim != 2:
        raise ValueError(f"x has shape {array.shape}; give one cloud (sample, feature)")
    if splits < 1 or not 0.0 < level < 1.0:
        raise ValueError(f"splits is {splits}, level {level}; give 1 or more, between 0 and 1")
    unit, count = _units(groups, len(array))
    whole, influence, parts = log_rankme_influence(array, convention=convention)
    if not np.isfinite(whole):
        nan = float("nan")
        return Extrapolation(Estimate(*(nan,) * 4), nan, Doubts(*(nan,) * 5))
    draws = np.random.default_rng(seed)
    found = [
        _split(array, whole, influence, unit, draws.permutation(count), convention)
        for _ in range(splits)
    ]
    values = np.array([split.value for split in found])
    combined = np.mean([split.influence for split in found], axis=0)
    sums = np.bincount(unit, combined, count).astype(np.float64)
    variance = (sums**2).sum() * count / (count - 1) / len(array) ** 2
    if splits > 1:
        variance += values.var(ddof=1) / splits
    value, error = float(values.mean()), float(np.sqrt(variance))
    half = float(stdtrit(count - 1, 0.5 * (1.0 + level))) * error
    bounds = [float(np.exp(v)) for v in (value - half, value + half)]
    second = float(np.mean([split.second for split in found]))
    raw_sums = np.bincount(unit, influence, count).astype(np.float64)
    doubts = Doubts(
        _radial_kurtosis(array, parts),
        _kurtosis(raw_sums),
        _largest_feature(array, parts),
        _inflation(array, parts, unit),
        _ratio(second - value, error),
    )
    estimate = Estimate(float(np.exp(value)), error, *bounds)
    return Extrapolation(estimate, float(np.exp(whole)), doubts)


def _units(groups: ArrayLike | None, samples: int) -> tuple[NDArray[np.intp], int]:
    """Cluster index of each sample, and the number of clusters."""
    labels = np.arange(samples) if groups is None else np.asarray(groups)
    if labels.shape != (samples,):
        raise ValueError(f"groups has shape {labels.shape}; give one label for each of {samples}")
    unit = np.unique(labels, return_inverse=True)[1]
    count = int(unit.max(initial=-1)) + 1
    if count < 8:
        raise ValueError(f"there are {count} samples or groups; quarters need at least 8")
    return unit, count


def _split(
    x: NDArray[Any],
    whole: float,
    influence: FloatArray,
    unit: NDArray[np.intp],
    order: NDArray[np.int64],
    convention: str,
) -> _Split:
    """One split of the clusters, in this order, into halves and their quarters."""
    sizes = np.bincount(unit)[order]
    part = np.empty(len(order), dtype=np.intp)
    # The middle of a cluster decides where it goes, so that parts are as equal as whole clusters allow.
    part[order] = np.minimum(4 * (np.cumsum(sizes) - sizes / 2) / len(x), 3).astype(np.intp)
    quarter = part[unit]
    counts = np.bincount(quarter // 2, minlength=2)
    logs, theirs = np.empty(2), np.empty(len(x))
    for index in range(2):
        rows = quarter // 2 == index
        logs[index], theirs[rows], _ = log_rankme_influence(x[rows], convention=convention)
    half = float((len(x) / counts).mean())
    value = float((half * whole - logs.mean()) / (half - 1.0))
    # A half's influence is per sample of the half: bring it to the whole's.
    scale = (len(x) / counts / 2.0)[quarter // 2]
    combined = (half * influence - scale * theirs) / (half - 1.0)
    return _Split(value, _second_order(x, value, logs.mean(), half, quarter, convention), combined)


def _second_order(
    x: NDArray[Any],
    value: float,
    of_halves: float,
    half: float,
    quarter: NDArray[np.intp],
    convention: str,
) -> float:
    """Extrapolation that is free of the term in 1/n² too; NaN if large groups leave a quarter empty."""
    counts = np.bincount(quarter, minlength=4)
    if counts.min() < 2:
        return float("nan")
    fourth = float((len(x) / counts).mean())
    quarters = [_log_rankme(x[quarter == index], convention) for index in range(4)]
    later = (fourth * of_halves - half * np.mean(quarters)) / (fourth - half)
    # What is left of c/n² is −half·c/n² in `value` and −half·fourth·c/n² in `later`.
    return float(value + (value - later) / (fourth - 1.0))


def _log_rankme(x: NDArray[Any], convention: str) -> float:
    spectrum = eigenvalues(x, centered=rankme_convention(convention).centered)
    return float(np.log(rankme(spectrum, convention=convention)))


def _radial_kurtosis(x: NDArray[Any], parts: Decomposition) -> float:
    """E r² / (E r)², r = ‖x − mean‖², over that of a Gaussian cloud of the same spectrum."""
    squares = ((x - parts.mean) ** 2).sum(axis=1, dtype=np.float64)
    total = parts.values.sum()
    gaussian = 1.0 + 2.0 * _ratio(float((parts.values**2).sum()), float(total**2))
    return _ratio(float((squares**2).mean()), float(squares.mean()) ** 2) / gaussian


def _kurtosis(sums: FloatArray) -> float:
    return _ratio(float((sums**4).mean()), float((sums**2).mean()) ** 2)


def _largest_feature(x: NDArray[Any], parts: Decomposition) -> float:
    shares = ((x - parts.mean) ** 2).mean(axis=0, dtype=np.float64)
    return _ratio(float(shares.max()), float(shares.sum()))


def _inflation(x: NDArray[Any], parts: Decomposition, unit: NDArray[np.intp]) -> float:
    """How many times too many the samples are, by resemblance along their order.

    Gaussian clusters of m with correlation ρ spread a covariance as 1 / (1 + (m − 1) ρ²) as many samples
    would. That is 1 + 2 Σ c_l², with c_l the mean cosine of whitened samples l places apart and each c_l²
    less its own noise.
    """
    if not np.isfinite(parts.values).all() or parts.values[0] == 0.0:
        return float("nan")
    y = _whitened(x, parts)
    total = 1.0
    for lag in range(1, min(_LAGS, len(y) // 8) + 1):
        apart = unit[lag:] != unit[:-lag]
        if apart.sum() > 8:
            cosines = np.einsum("ij,ij->i", y[lag:][apart], y[:-lag][apart])
            total += 2.0 * (cosines.mean() ** 2 - cosines.var(ddof=1) / len(cosines))
    return float(max(total, 1.0))


def _whitened(x: NDArray[Any], parts: Decomposition) -> FloatArray:
    """Unit vectors of the samples over the leading directions, each direction scaled to variance 1."""
    # Few enough directions that the samples do not span them by construction.
    kept = max(1, min(int((parts.values > 0.0).sum()), len(x) // 8))
    if parts.feature_side:
        y = (x - parts.mean) @ (parts.vectors[:, :kept] / np.sqrt(parts.values[:kept]))
    else:
        y = parts.vectors[:, :kept].copy()
    norms = np.linalg.norm(y, axis=1, keepdims=True)
    unit: FloatArray = np.divide(y, norms, out=np.zeros_like(y), where=norms > 0.0)
    return unit


def _ratio(top: float, bottom: float) -> float:
    """NaN where both vanish, as an error does where nothing varies."""
    return top / bottom if bottom else float("nan")
