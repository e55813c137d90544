"""From captured arrays to the kernels' arguments: picking points, pooling folds, clustering rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geometry import intervals, similarity, spectrum
from probes.means import clustered_mean

Floats = NDArray[np.float64]


def rankme(
    x: NDArray[Any], kept: Any, last: NDArray[np.bool_], group: NDArray[Any], *, convention: str
) -> tuple[Any, ...]:
    """RankMe of the last tokens of one (checkpoint, layer), with its interval."""
    x, group = _last(x, kept, last, group)
    return tuple(intervals.rankme_interval(x, convention=convention, groups=group))


def alpha_req(
    x: NDArray[Any],
    kept: Any,
    last: NDArray[np.bool_],
    group: NDArray[Any],
    *,
    ranks: tuple[int, int],
) -> tuple[Any, ...]:
    """α-ReQ of the last tokens, with its interval and the fit's R²."""
    x, group = _last(x, kept, last, group)
    estimate = intervals.alpha_req_interval(x, ranks=ranks, groups=group)
    return (*estimate, spectrum.alpha_req_fit(spectrum.eigenvalues(x), ranks=ranks).r2)


def eigenspectrum(
    x: NDArray[Any], kept: Any, last: NDArray[np.bool_], group: NDArray[Any], *, centered: bool
) -> Floats:
    """Eigenvalues of the last tokens' covariance, zeros appended up to the width."""
    x, _ = _last(x, kept, last, group)
    values = spectrum.eigenvalues(x, centered=centered)
    return np.pad(values, (0, x.shape[1] - len(values)))


def linear_cka(
    x: NDArray[Any],
    kept: Any,
    last: NDArray[np.bool_],
    y: NDArray[Any],
    other_kept: Any,
    other_last: NDArray[np.bool_],
    *,
    debiased: bool,
) -> float:
    """Linear CKA of two checkpoints' last tokens; NaN if either holds NaN or Inf."""
    x, _ = _last(x, kept, last, None)
    y, _ = _last(y, other_kept, other_last, None)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return float("nan")
    return float(similarity.linear_cka(x, y, debiased=debiased))


def rankme_streamed(eigenvalues: Floats, n: NDArray[Any], *, convention: str) -> tuple[Any, ...]:
    """RankMe of streamed spectra (fold, rank) of n rows; the interval is made on its logarithm."""
    # Eigenvalues beyond the number of rows are padding, and an eps would count them.
    spectra = [row[: int(count)] for row, count in zip(eigenvalues, n, strict=True)]
    values = np.log([spectrum.rankme(s, convention=convention) for s in spectra])
    estimate = intervals.fold_interval(values)
    return (
        np.exp(estimate.value),
        estimate.standard_error,
        np.exp(estimate.lower),
        np.exp(estimate.upper),
    )


def alpha_req_streamed(eigenvalues: Floats, *, ranks: tuple[int, int]) -> Floats:
    """α-ReQ of a streamed spectrum (rank,)."""
    return spectrum.alpha_req(eigenvalues, ranks=ranks)


def row_mean(mean: Floats, count: NDArray[Any], nan_count: NDArray[Any]) -> tuple[Any, ...]:
    """Mean over position bins of every fold (fold, position_bin), NaN if any row was NaN."""
    total = count.sum(axis=-1)
    summed = np.where(count > 0, mean, 0.0) * count
    with np.errstate(invalid="ignore", divide="ignore"):
        values = summed.sum(axis=-1) / total
    values = np.where(nan_count.sum(axis=-1) > 0, np.nan, values)
    return tuple(intervals.fold_interval(values))


def token_mean(values: NDArray[Any], group: NDArray[Any]) -> tuple[Any, ...]:
    """Mean over tokens (sample, position); NaN marks positions that have none."""
    return tuple(clustered_mean(values, group))


def top1_accuracy(rank: NDArray[Any], group: NDArray[Any]) -> tuple[Any, ...]:
    """Share of targets of rank 0 (sample, position); −1 marks positions without a target."""
    return tuple(clustered_mean(np.where(rank < 0, np.nan, (rank == 0).astype(float)), group))


def paired_increase(ablated: Floats, whole: Floats) -> tuple[Any, ...]:
    """Mean of paired differences over samples."""
    difference = (ablated - whole)[:, None]
    return tuple(clustered_mean(difference, np.arange(len(difference))))


def _last(
    x: NDArray[Any], kept: Any, last: NDArray[np.bool_], group: NDArray[Any] | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    # Last tokens come first among the points, and a layer keeps the first `kept` points.
    count = min(int(kept), int(last.sum()))
    return x[:count], (np.arange(count) if group is None else group[:count])
