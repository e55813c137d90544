"""Rows of next-token statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.means import clustered_mean
from runs.rows.base import Read, Reduce, Row
from runs.rows.points import CLUSTERS


def _token_mean(values: NDArray[Any], group: NDArray[Any]) -> tuple[Any, ...]:
    """Mean over tokens (sample, position); NaN marks positions that have none."""
    return tuple(clustered_mean(values, group))


def _top1_accuracy(rank: NDArray[Any], group: NDArray[Any]) -> tuple[Any, ...]:
    """Share of targets of rank 0 (sample, position); −1 marks positions without a target."""
    return tuple(clustered_mean(np.where(rank < 0, np.nan, (rank == 0).astype(float)), group))


def _token_row(name: str, convention: str, variable: str, unit: str, source: str) -> Row:
    return Reduce(
        name,
        convention,
        (Read(f"tokens/{variable}", ("sample", "position")), Read("inputs/group", ("sample",))),
        _top1_accuracy if variable == "target_rank" else _token_mean,
        unit=unit,
        source=source,
        interval=CLUSTERS,
    )


ROWS: list[Row] = [
    _token_row("loss", "surprisal", "surprisal", "nats", "mean −ln p(next token)"),
    _token_row(
        "token_entropy", "nats", "entropy", "nats", "entropy of the next-token distribution"
    ),
    _token_row(
        "token_varentropy",
        "nats2",
        "varentropy",
        "nats²",
        "variance of −ln p under the model's own p",
    ),
    _token_row(
        "next_token_accuracy",
        "top1",
        "target_rank",
        "1",
        "share of tokens ranked first by the model",
    ),
]
