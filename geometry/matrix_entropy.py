"""Matrix-based entropy: how many directions a sample's tokens, or a data set's samples, spread over.

The von Neumann entropy −Σ p ln p of the eigenvalues p of a Gram matrix of trace 1. The Gram matrix here
is positive semidefinite as it stands: the published code of Skean et al. 2025 sets its negative
entries to 0 first, after which it need not be, and its "entropy" can leave [0, ln n].
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr
from torch import Tensor

from geometry.spectrum import FloatArray, eigenvalues
from geometry.trajectory import TokenMean, real_tokens

_EPS = float(np.finfo(np.float64).eps)


def sentence_entropy(
    states: Tensor, mask: Tensor | None = None, *, centered: bool = True
) -> TokenMean:
    """Entropy of each sample's token states.

    Parameters
    ----------
    states, mask
        As in `geometry.trajectory.trajectory_statistics`.
    centered
        Subtract the sample's mean state first, as Skean et al. do; then rows are divided by their
        norm, in either case.

    Returns
    -------
    TokenMean
        value (…) float64, nats, between 0 and ln min(rows, feature); terms (…) int64, the rows of
        the Gram matrix. A row without a direction (a state of 0; centred, a state equal to the mean
        up to rounding) is left out and not counted. NaN over no row, or if a state is not finite.

    Raises
    ------
    ValueError
        As `trajectory_statistics`.

    Notes
    -----
    Skean et al. 2025, 2502.02013, §3 with α → 1. exp of it is Diff-eRank's effective rank of a
    sentence (Wei et al., 2401.17139). Invariant under rotation, scaling and token order; centred, also
    under translation. Cost a sample: rows·feature·m multiply-adds and a symmetric eigenvalue
    problem of size m = min(rows, feature), about (4/3)m³; memory: two float64 copies of one sample
    and m² numbers.
    """
    lead = states.shape[:-2]
    found = [_entropy_of_one(rows, centered) for rows in real_tokens(states, mask)]
    if not found:
        empty = torch.empty(lead, dtype=torch.float64, device=states.device)
        return TokenMean(empty, empty.long())
    return TokenMean(
        torch.stack([f.value for f in found]).reshape(lead),
        torch.stack([f.terms for f in found]).reshape(lead),
    )


def _entropy_of_one(rows: Tensor, centered: bool) -> TokenMean:
    nan = torch.full((), float("nan"), dtype=torch.float64, device=rows.device)
    count = torch.as_tensor(len(rows), device=rows.device)
    if len(rows) == 0 or not bool(torch.isfinite(rows).all()):
        return TokenMean(nan, count)
    floor = 0.0
    if centered:
        floor = len(rows) * _EPS * float(torch.linalg.vector_norm(rows, dim=1).max())
        rows = rows - rows.mean(dim=0)
    norms = torch.linalg.vector_norm(rows, dim=1)
    kept = norms > floor
    count = kept.sum()
    if int(count) == 0:
        return TokenMean(nan, count)
    units = rows[kept] / norms[kept, None]
    gram = units @ units.T if len(units) <= units.shape[1] else units.T @ units
    p = torch.linalg.eigvalsh(gram / count).clamp(min=0.0)
    return TokenMean(torch.special.entr(p).sum(), count)


def unit_rows(x: ArrayLike, *, centered: bool) -> FloatArray:
    """Rows (sample, feature) divided by their norm, centred first if wanted; float64.

    A row without a direction is left out: of norm 0, or centred within rounding of the mean.
    """
    array = np.asarray(x, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"x has shape {array.shape}; give (sample, feature)")
    floor = 0.0
    if centered and len(array):
        floor = len(array) * _EPS * float(np.linalg.norm(array, axis=1).max())
        array = array - array.mean(axis=0)
    norms = np.linalg.norm(array, axis=1)
    kept = norms > floor
    return np.asarray(array[kept] / norms[kept, None])


def dataset_entropy(x: ArrayLike, *, centered: bool = True) -> float:
    """Entropy of one vector a sample, over a whole data set.

    Parameters
    ----------
    x
        Shape (sample, feature), any real dtype.
    centered
        Subtract the mean over samples before rows are divided by their norm.

    Returns
    -------
    float
        Nats, between 0 and ln min(sample, feature); NaN if `x` holds NaN or Inf, or no row has a
        direction.

    Raises
    ------
    ValueError
        If `x` is not a matrix.

    Notes
    -----
    Skean et al. 2025, 2502.02013, §3. Eigenvalues of the smaller side, as
    `geometry.spectrum.eigenvalues`; memory: two float64 copies of `x` and m² numbers,
    m = min(sample, feature).
    """
    array = np.asarray(x)
    if not np.isfinite(array).all():
        return float("nan")
    units = unit_rows(array, centered=centered)
    if len(units) == 0:
        return float("nan")
    return trace_one_entropy(eigenvalues(units, centered=False))


def trace_one_entropy(values: NDArray[Any]) -> float:
    """−Σ p ln p of non-negative eigenvalues (rank,) divided by their sum, in nats."""
    return float(entr(values / values.sum()).sum())


def diff_erank(untrained: ArrayLike, trained: ArrayLike) -> float:
    """Diff-eRank of two clouds: how much effective rank training has taken away.

    Parameters
    ----------
    untrained, trained
        Shapes (sample, feature), any real dtype.

    Returns
    -------
    float
        exp S(untrained) − exp S(trained), S the centred `dataset_entropy`; positive where training
        compresses. NaN where either entropy is.

    Raises
    ------
    ValueError
        If either is not a matrix.

    Notes
    -----
    Wei et al. 2024, 2401.17139, eqs. 2–4: rows are centred, then divided by their norm, and the effective
    rank is of their covariance. There a cloud is one sentence's tokens and entropies are averaged
    over sentences before exp. Cost: two calls of `dataset_entropy`.
    """
    one, other = (dataset_entropy(x, centered=True) for x in (untrained, trained))
    return float(np.exp(one) - np.exp(other))
