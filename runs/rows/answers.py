"""Rows of sets with answers: what the right answer costs, and how often it is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.means import clustered_mean
from probes.passk import mean_pass_at_k
from runs.rows.base import Read, Reduce, Row
from runs.rows.points import CLUSTERS

KS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def _pass_at_k(correct: NDArray[Any], draws: NDArray[Any]) -> tuple[Any, ...]:
    """pass@k for every k; NaN where k is larger than the number of draws."""
    return tuple(np.array([mean_pass_at_k(correct, draws, k) for k in KS]).T)


def _answer_loss(
    surprisal: NDArray[Any], answer: NDArray[Any], length: NDArray[Any], group: NDArray[Any]
) -> tuple[Any, ...]:
    """Mean over tokens of the answers; position i speaks of token i + 1."""
    target = np.arange(surprisal.shape[1]) + 1
    inside = (target >= answer[:, None]) & (target < length[:, None])
    return tuple(clustered_mean(np.where(inside, surprisal, np.nan), group))


ROWS: list[Row] = [
    Reduce(
        "answer_loss",
        "surprisal",
        (
            Read("tokens/surprisal", ("sample", "position")),
            Read("inputs/answer", ("sample",)),
            Read("inputs/length", ("sample",)),
            Read("inputs/group", ("sample",)),
        ),
        _answer_loss,
        unit="nats",
        source="mean −ln p over the tokens of the right answer; arXiv 2509.23024 Table 5",
        interval=CLUSTERS,
    ),
    Reduce(
        "pass_at_k",
        "chen2021",
        (Read("pass_at_k/correct", ("problem",)), Read("pass_at_k/draws", ("problem",))),
        _pass_at_k,
        unit="1",
        source="1 − C(n − c, k) / C(n, k), arXiv 2107.03374 eq. 1; arXiv 2509.23024 §5",
        interval="over problems, Student t, 95 %",
        core=("k",),
        labels={"k": KS},
    ),
]
