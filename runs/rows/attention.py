"""Rows of attention: statistics of rows, and what a head is worth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geometry import intervals
from probes.means import clustered_mean
from runs.rows.base import Read, Reduce, Row
from runs.rows.points import FOLDS

Floats = NDArray[np.float64]


def fold_means(mean: Floats, count: NDArray[Any], nan_count: NDArray[Any]) -> Floats:
    """Mean over position bins, the last axis, of every fold; NaN if any row was NaN."""
    total = count.sum(axis=-1)
    summed = np.where(count > 0, mean, 0.0) * count
    with np.errstate(invalid="ignore", divide="ignore"):
        values: Floats = summed.sum(axis=-1) / total
    return np.where(nan_count.sum(axis=-1) > 0, np.nan, values)


def _row_mean(mean: Floats, count: NDArray[Any], nan_count: NDArray[Any]) -> tuple[Any, ...]:
    """Mean over position bins of every fold (fold, position_bin), with its interval."""
    return tuple(intervals.fold_interval(fold_means(mean, count, nan_count)))


def _row_mean_nan_is_zero(
    mean: Floats, count: NDArray[Any], nan_count: NDArray[Any]
) -> tuple[Any, ...]:
    """As `_row_mean`, with rows that are NaN counted as rows of 0."""
    summed = (np.where(count > 0, mean, 0.0) * count).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = summed / (count + nan_count).sum(axis=-1)
    return tuple(intervals.fold_interval(values))


def _sequence_mean(means: Floats) -> tuple[Any, ...]:
    """Mean over samples of each one's mean (fold,)."""
    return tuple(intervals.fold_interval(means))


def _paired_increase(ablated: Floats, whole: Floats) -> tuple[Any, ...]:
    """Mean of paired differences over samples."""
    difference = (ablated - whole)[:, None]
    return tuple(clustered_mean(difference, np.arange(len(difference))))


def binned(statistic: str, *before: str) -> tuple[Read, ...]:
    """Reads of one statistic's means, counts and NaN counts (…, fold, position_bin)."""
    core, picked = (*before, "fold", "position_bin"), {"statistic": statistic}
    return tuple(Read(f"attention/{v}", core, picked) for v in ("mean", "count", "nan_count"))


def _attention_row(
    name: str,
    convention: str,
    statistic: str,
    unit: str,
    source: str,
    function: Callable[..., Any] = _row_mean,
) -> Row:
    return Reduce(
        name,
        convention,
        binned(statistic),
        function,
        unit=unit,
        source=source,
        interval=FOLDS,
    )


ROWS: list[Row] = [
    _attention_row(
        "head_entropy",
        "zhai2023",
        "entropy",
        "nats",
        "mean row entropy over positions and samples, 2303.06296 §3",
    ),
    Reduce(
        "head_entropy",
        "jha2025_paper",
        (Read("attention/sequence_entropy", ("fold",)),),
        _sequence_mean,
        unit="nats",
        source="mean over samples of each one's mean row entropy, 2501.03489 eq. 7",
        interval=FOLDS,
    ),
    _attention_row(
        "head_entropy",
        "jha2025_code",
        "entropy",
        "nats",
        "mean row entropy, rows that are NaN counted as 0, as the code of 2501.03489",
        _row_mean_nan_is_zero,
    ),
    _attention_row(
        "head_entropy",
        "normalised_visible",
        "normalised_entropy",
        "1",
        "row entropy divided by ln(visible keys), mean over rows that see two or more",
    ),
    _attention_row("max_logit", "mean", "max_logit", "1", "largest visible scaled logit of a row"),
    _attention_row(
        "row_norm",
        "centered",
        "row_norm",
        "1",
        "centred norm of a row's logits, 2303.06296 Thm 3.1",
    ),
    _attention_row(
        "first_key_mass", "mean", "first_key", "1", "attention to the first token; 2410.10781"
    ),
    _attention_row(
        "previous_key_mass",
        "mean",
        "previous_key",
        "1",
        "attention to the token before; 2209.11895",
    ),
    _attention_row("attention_distance", "mean", "distance", "tokens", "Σ_j A_ij (i − j)"),
    _attention_row("top_mass", "mean", "top_mass", "1", "largest A_ij of a row; 1905.09418 §5"),
    _attention_row(
        "effective_support", "mean", "effective_support", "keys", "exp of a row's entropy"
    ),
    _attention_row(
        "entropy_lower_bound",
        "row",
        "lower_bound",
        "nats",
        "mean of each row's least entropy at its centred norm, 2303.06296 Thm 3.1 per row",
    ),
    _attention_row(
        "entropy_upper_bound",
        "row",
        "upper_bound",
        "nats",
        "mean of each row's greatest entropy at its centred norm, the mirror of 2303.06296 Thm 3.1",
    ),
    _attention_row(
        "bound_share",
        "row",
        "bound_share",
        "1",
        "where a row's entropy lies between its bounds; rows whose bounds are 1e-3 nats apart or more",
    ),
    Reduce(
        "head_ablation",
        "zero",
        (
            Read("head_ablation/ablated_loss", ("ablated_sample",)),
            Read("head_ablation/loss", ("ablated_sample",)),
        ),
        _paired_increase,
        unit="nats",
        source="loss without the head minus loss with it; 1905.10650 §2",
        interval="paired over samples, 95 %",
    ),
]
