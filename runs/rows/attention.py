"""Rows of attention: statistics of rows, and what a head is worth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geometry import intervals
from probes.means import clustered_mean
from runs.rows.base import Read, Reduce, Row
from runs.rows.points import FOLDS

Floats = NDArray[np.float64]


def _row_mean(mean: Floats, count: NDArray[Any], nan_count: NDArray[Any]) -> tuple[Any, ...]:
    """Mean over position bins of every fold (fold, position_bin), NaN if any row was NaN."""
    total = count.sum(axis=-1)
    summed = np.where(count > 0, mean, 0.0) * count
    with np.errstate(invalid="ignore", divide="ignore"):
        values = summed.sum(axis=-1) / total
    values = np.where(nan_count.sum(axis=-1) > 0, np.nan, values)
    return tuple(intervals.fold_interval(values))


def _paired_increase(ablated: Floats, whole: Floats) -> tuple[Any, ...]:
    """Mean of paired differences over samples."""
    difference = (ablated - whole)[:, None]
    return tuple(clustered_mean(difference, np.arange(len(difference))))


def _attention_row(name: str, convention: str, statistic: str, unit: str, source: str) -> Row:
    core, picked = ("fold", "position_bin"), {"statistic": statistic}
    return Reduce(
        name,
        convention,
        tuple(Read(f"attention/{v}", core, picked) for v in ("mean", "count", "nan_count")),
        _row_mean,
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
