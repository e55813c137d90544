"""Eigenspectra of clouds of hidden states, and the two numbers read off them.

RankMe (an effective rank) and alpha-ReQ (a decay exponent) are both functions of the eigenvalues of
a second-moment matrix. The literature uses one name for several definitions: every reading is a row
of `RANKME_CONVENTIONS` or `ALPHA_CONVENTIONS` and is asked for by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.linalg.blas import dsyrk
from scipy.special import entr

FloatArray = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
_FLAT = 100.0  # times the rounding of a logarithm; an R² of less variation is noise
_BLOCK = 512  # rows (or columns) held in float64 at a time


@dataclass(frozen=True)
class RankmeConvention:
    """One exact reading of "RankMe": p = λ^power / Σ λ^power, then exp(−Σ (p + eps) ln(p + eps)).

    Attributes
    ----------
    name
        Key in `RANKME_CONVENTIONS`.
    centered
        Whether λ belongs to the centred covariance (True) or to XᵀX / n (False).
    power
        1 for eigenvalues, 1/2 for singular values (σ ∝ λ^1/2).
    eps
        Added to every p after normalising; p is not normalised again.
    cap
        Number of leading eigenvalues kept, and normalised among themselves; None keeps all.
    source
        Where the definition comes from.
    """

    name: str
    centered: bool
    power: float
    eps: float
    cap: int | None
    source: str

    @property
    def centering(self) -> str:
        """`"centered"` or `"uncentered"`, the label a spectrum of this convention carries."""
        return "centered" if self.centered else "uncentered"


RANKME_CONVENTIONS: Mapping[str, RankmeConvention] = MappingProxyType(
    {
        row.name: row
        for row in (
            RankmeConvention("li2025", True, 1.0, 0.0, None, "Li et al. 2025, 2509.23024, eq. 1"),
            RankmeConvention(
                "li2025_code", True, 1.0, 1e-7, 2048, "Li et al. 2025, code, utils/powerlaw.py"
            ),
            RankmeConvention("garrido2022", False, 0.5, 1e-7, None, "Garrido et al., 2210.02885"),
            RankmeConvention("roy2007", False, 0.5, 0.0, None, "Roy & Vetterli, EUSIPCO 2007"),
            RankmeConvention("sigma_centered", True, 0.5, 0.0, None, "roy2007 on centred data"),
            RankmeConvention("lambda_uncentered", False, 1.0, 0.0, None, "li2025, not centred"),
        )
    }
)

# 1-based ranks, both ends fitted. The official code adds 1 to its zero-based range in place.
ALPHA_CONVENTIONS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"li2025": (12, 100), "reptrix": (11, 100)}
)


class AlphaFit(NamedTuple):
    """Power law ln λ_i = intercept − alpha ln i, with the weighted R² over the fitted ranks."""

    alpha: FloatArray
    r2: FloatArray
    intercept: FloatArray


class Decomposition(NamedTuple):
    """Eigenvalues and eigenvectors of the scatter divided by n.

    `vectors` has one eigenvector a column: directions in feature space (feature, rank) when
    `feature_side`, unit vectors over samples (sample, rank) when not.
    """

    values: FloatArray
    vectors: FloatArray
    mean: FloatArray
    feature_side: bool


def eigenvalues(x: ArrayLike, *, centered: bool = True) -> FloatArray:
    """Eigenvalues of the scatter matrix of a cloud, divided by the number of samples.

    Parameters
    ----------
    x
        Points, shape (…, sample, feature), any real dtype.
    centered
        Subtract the mean over samples first: the covariance rather than XᵀX / n.

    Returns
    -------
    numpy.ndarray
        Shape (…, min(sample, feature)), float64, descending, in squared units of `x`. A cloud that
        holds NaN or Inf, or overflows when squared, gives NaN throughout.

    Raises
    ------
    ValueError
        If `x` has fewer than two dimensions.

    Notes
    -----
    Works on the Gram matrix of the smaller side, m = min(sample, feature): sample·feature·m
    multiply-adds plus about (4/3)m³. Memory beyond the input is m² float64 and one block of rows
    in float64. An eigenvalue below 8 eps λ_1 is round-off of the Gram matrix and is returned as
    exactly 0, so singular values below 4e-8 σ_1 are lost; an SVD would keep them.
    """
    array = np.asarray(x)
    if array.ndim < 2:
        raise ValueError(f"x has shape {array.shape}; give (…, sample, feature)")
    lead, rank = array.shape[:-2], min(array.shape[-2:])
    out = np.empty((*lead, rank))
    for index in np.ndindex(*lead):
        scatter, mean = _scatter(array[index], centered)
        out[index] = spectrum_of(scatter, floor=mean_round_off(mean, array.shape[-2]))
    return out


def decompose(x: ArrayLike, *, centered: bool = True) -> Decomposition:
    """Eigenvalues as `eigenvalues` gives them, with eigenvectors, of one cloud.

    Parameters
    ----------
    x
        Points, shape (sample, feature).
    centered
        As in `eigenvalues`.

    Returns
    -------
    Decomposition
        All NaN where the cloud holds NaN or Inf. `mean` is zero when not centred.

    Raises
    ------
    ValueError
        If `x` does not have exactly two dimensions.

    Notes
    -----
    About three times the cost of the eigenvalues alone; memory 2 min(sample, feature)² float64.
    """
    array = np.asarray(x)
    if array.ndim != 2:
        raise ValueError(f"x has shape {array.shape}; give one cloud (sample, feature)")
    scatter, mean = _scatter(array, centered)
    feature_side = array.shape[0] > array.shape[1]
    if not np.isfinite(np.trace(scatter)):
        nan = np.full(scatter.shape, np.nan)
        return Decomposition(nan[:, 0], nan, mean, feature_side)
    if np.trace(scatter) <= mean_round_off(mean, len(array)):
        scatter[:] = 0.0
    values, vectors = eigh(scatter, lower=False, overwrite_a=True, check_finite=False)
    return Decomposition(_without_noise(values[::-1]), vectors[:, ::-1], mean, feature_side)


def spectrum_of(scatter: FloatArray, *, floor: float = 0.0) -> FloatArray:
    """Descending eigenvalues of a symmetric matrix (upper triangle read), round-off set to 0.

    Parameters
    ----------
    scatter
        Shape (side, side), positive semi-definite up to round-off. Overwritten if in Fortran order.
    floor
        Trace at or below which the whole matrix is round-off; see `mean_round_off`.

    Returns
    -------
    numpy.ndarray
        Shape (side,), NaN throughout if the trace is not finite.
    """
    trace = np.trace(scatter)
    if not np.isfinite(trace):  # NaN or Inf in any column reaches the diagonal
        return np.full(len(scatter), np.nan)
    if trace <= floor:
        return np.zeros(len(scatter))
    values = eigh(scatter, lower=False, eigvals_only=True, overwrite_a=True, check_finite=False)
    return _without_noise(values[::-1])


def mean_round_off(mean: FloatArray, samples: int) -> float:
    """Variance, summed over features, that rounding the mean (feature,) alone can leave behind."""
    with np.errstate(over="ignore"):  # squares that overflow here do so in the scatter too
        return float((samples * _EPS) ** 2 * (mean @ mean))


def probabilities(eigenvalues: FloatArray, convention: RankmeConvention) -> FloatArray:
    """Normalised spectrum p of a convention, before its eps is added.

    Parameters
    ----------
    eigenvalues
        Shape (…, rank), descending.
    convention
        A row of `RANKME_CONVENTIONS`.

    Returns
    -------
    numpy.ndarray
        Shape (…, min(rank, cap)); NaN where the spectrum is all zero or holds NaN or Inf.

    Raises
    ------
    ValueError
        If an eigenvalue is negative beyond round-off (1e-6 of the largest magnitude).
    """
    kept = eigenvalues[..., : convention.cap]
    largest = np.abs(kept).max(axis=-1, keepdims=True, initial=0.0)
    if (kept < -1e-6 * largest).any():
        raise ValueError(f"eigenvalues reach {kept.min():.3g}; give a spectrum, which is >= 0")
    powers = np.clip(kept, 0.0, None) ** convention.power
    with np.errstate(invalid="ignore"):  # 0/0 and Inf/Inf are NaN by intention
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def rankme(eigenvalues: Any, *, convention: str = "li2025") -> FloatArray:
    """Effective rank: the exponential of the entropy of the normalised spectrum.

    Parameters
    ----------
    eigenvalues
        Spectrum, shape (…, rank), descending, of the convention's centring. A labelled array (one
        with `attrs` or `coords`) that names its `centering` is checked against the convention.
    convention
        A key of `RANKME_CONVENTIONS`. `li2025` is exp(−Σ p ln p) with p = λ / Σλ of the centred
        covariance (2509.23024, eq. 1); `garrido2022` uses singular values of the raw matrix. On
        the same data they differ severalfold.

    Returns
    -------
    numpy.ndarray
        Shape (…), in dimensions (1 to rank). NaN for an all-zero spectrum and where any
        eigenvalue is NaN or Inf.

    Raises
    ------
    ValueError
        If the convention is unknown, the labelled centring is another than the convention's, the
        dimension `rank` of a labelled array is not its last, or an eigenvalue is negative.
    """
    rule = rankme_convention(convention)
    _check_labels(eigenvalues, rule)
    values = np.asarray(eigenvalues, dtype=np.float64)
    if values.ndim == 0 or values.shape[-1] == 0:
        raise ValueError(f"eigenvalues has shape {values.shape}; give (…, rank) with rank >= 1")
    p = probabilities(values, rule)
    entropy: FloatArray = entr(p + rule.eps).sum(axis=-1)
    return np.exp(entropy)


def rankme_convention(name: str) -> RankmeConvention:
    """Row of `RANKME_CONVENTIONS` by name; ValueError naming the choices if there is none."""
    if name not in RANKME_CONVENTIONS:
        raise ValueError(f"convention {name!r} is unknown; give one of {list(RANKME_CONVENTIONS)}")
    return RANKME_CONVENTIONS[name]


def alpha_req(eigenvalues: ArrayLike, *, ranks: tuple[int, int] = (12, 100)) -> FloatArray:
    """Decay exponent alpha of a spectrum λ_i ∝ i^−alpha; the first field of `alpha_req_fit`."""
    return alpha_req_fit(eigenvalues, ranks=ranks).alpha


def alpha_req_fit(eigenvalues: ArrayLike, *, ranks: tuple[int, int] = (12, 100)) -> AlphaFit:
    """Weighted least-squares fit of ln λ on ln rank, weight 1 / rank.

    Parameters
    ----------
    eigenvalues
        Spectrum, shape (…, rank), descending.
    ranks
        First and last rank fitted, 1-based, both included. See `ALPHA_CONVENTIONS`.

    Returns
    -------
    AlphaFit
        Each of shape (…); alpha is positive for a decaying spectrum. NaN if `ranks[1]` exceeds
        the number of eigenvalues, or if one within the range is NaN or numerically zero (at most
        eps λ_1), as the n-th of n centred samples is. R² alone is NaN of a flat spectrum, whose
        logarithms vary by less than 100 times what rounding does to them.

    Raises
    ------
    ValueError
        If not 1 <= ranks[0] < ranks[1].

    Notes
    -----
    With w_i = 1/i over the fitted ranks and ȳ the w-weighted mean of y = ln λ,
    R² = 1 − Σ w (y − ŷ)² / Σ w (y − ȳ)². The code of 2509.23024 makes the same fit (after Stringer
    & Pachitariu) but takes its R² unweighted over other ranks: 13 to 500, and 13 to 100 as
    `R2_100`; those are not given here. Alpha-ReQ itself is Agrawal et al. 2022.
    """
    values = np.asarray(eigenvalues, dtype=np.float64)
    coefficients, centre = alpha_coefficients(ranks)
    first, last = ranks
    if values.shape[-1] < last:
        nan = np.full(values.shape[:-1], np.nan)[()]
        return AlphaFit(nan, nan, nan)
    fitted = values[..., first - 1 : last]
    sound = (fitted > _EPS * values[..., :1]).all(axis=-1, keepdims=True) & np.isfinite(fitted)
    y = np.log(np.where(sound, fitted, np.nan))
    rank = np.arange(first, last + 1)
    weight = (1.0 / rank) / (1.0 / rank).sum()
    alpha, level = y @ coefficients, y @ weight
    intercept = level + alpha * centre
    residual = y - (intercept[..., None] - alpha[..., None] * np.log(rank))
    spread = (y - level[..., None]) ** 2 @ weight
    # Rounding moves an eigenvalue by eps λ_1 a rank, and so its logarithm by as much of λ_1 / λ.
    ratio = values[..., 0] / np.where(sound, fitted, np.nan).min(axis=-1)
    flat = np.sqrt(spread) <= _FLAT * _EPS * values.shape[-1] * ratio
    r2 = 1.0 - residual**2 @ weight / np.where(flat, np.nan, spread)
    return AlphaFit(alpha, r2, intercept)


def alpha_coefficients(ranks: tuple[int, int]) -> tuple[FloatArray, float]:
    """Coefficients c with alpha = Σ c_i ln λ_i over the fitted ranks, and the mean of ln rank.

    Parameters
    ----------
    ranks
        First and last rank, 1-based, both included.

    Returns
    -------
    tuple
        c, shape (last − first + 1,), summing to 0; and the 1/rank-weighted mean of ln rank.

    Raises
    ------
    ValueError
        If not 1 <= ranks[0] < ranks[1].
    """
    first, last = ranks
    if not 1 <= first < last:
        raise ValueError(f"ranks is {ranks}; give (first, last) with 1 <= first < last")
    rank = np.arange(first, last + 1)
    weight, log_rank = 1.0 / rank, np.log(rank)
    centre = float(weight @ log_rank / weight.sum())
    off = log_rank - centre
    return -weight * off / (weight @ off**2), centre


def _scatter(x: NDArray[Any], centered: bool) -> tuple[FloatArray, FloatArray]:
    """Upper triangle of the smaller-side Gram matrix over n, and the mean that was removed."""
    n, dim = x.shape
    mean = np.zeros(dim)
    with np.errstate(invalid="ignore", over="ignore"):  # Inf and overflow end as a NaN spectrum
        if centered and n:
            mean = x.mean(axis=0, dtype=np.float64)
        out = np.zeros((min(n, dim),) * 2, order="F")
        for start in range(0, max(n, dim), _BLOCK):
            part = slice(start, start + _BLOCK)
            block = x[part] - mean if n > dim else x[:, part] - mean[part]
            # A transposed C-ordered block is the Fortran order that BLAS reads without a copy.
            out = dsyrk(1.0, block.T, beta=1.0, c=out, trans=int(n <= dim), overwrite_c=1)
    out /= max(n, 1)
    return out, mean


def _without_noise(values: FloatArray) -> FloatArray:
    """Eigenvalues with those that are round-off (measured: up to 4 eps λ_1) set to 0."""
    floor = 8.0 * _EPS * values[:1]
    return np.where(values > floor, values, 0.0)


def _check_labels(spectrum: Any, rule: RankmeConvention) -> None:
    """Refuse a labelled spectrum whose centring or layout is not what the convention needs."""
    label = getattr(spectrum, "attrs", {}).get("centering")
    coords = getattr(spectrum, "coords", {})
    if label is None and "centering" in coords:
        coordinate = np.asarray(coords["centering"])
        label = coordinate.item() if coordinate.size == 1 else coordinate.tolist()
    if label is not None and label != rule.centering:
        raise ValueError(
            f"eigenvalues have centering {label!r} but convention {rule.name!r} needs "
            f"{rule.centering!r}; select that centering or another convention"
        )
    dims: tuple[Any, ...] = getattr(spectrum, "dims", ())
    if "rank" in dims and dims[-1] != "rank":
        raise ValueError(f"eigenvalues have dims {dims}; transpose so that rank is last")
