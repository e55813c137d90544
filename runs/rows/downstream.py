"""Rows of scores: tasks, and what is left of predictions without some directions of the final state."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from probes.means import clustered_mean
from runs.rows.base import LEVEL, Read, Reduce, Row

_REACH = float(ndtri(0.5 + LEVEL / 2))
NORMAL = "the harness's standard error over questions, normal, 95 %"
SAMPLES = "standard error over samples, Student t, 95 %"


def _score(value: Any, error: Any) -> tuple[Any, ...]:
    """A score with its error, and the interval of a normal."""
    return value, error, value - _REACH * error, value + _REACH * error


def _sample_mean(values: NDArray[Any]) -> tuple[Any, ...]:
    """Mean over samples, each with the same weight."""
    return tuple(clustered_mean(values[:, None], np.arange(len(values))))


def _task_row(name: str, product: str, metric: str, source: str) -> Row:
    return Reduce(
        name,
        metric,
        (
            Read(f"{product}/value", select={"metric": metric}),
            Read(f"{product}/standard_error", select={"metric": metric}),
        ),
        _score,
        unit="1",
        source=source,
        interval=NORMAL,
    )


_HARNESS = "the LM Evaluation Harness, arXiv 2405.14782"
_TABLE = "arXiv 2509.23024 Table 8"

ROWS: list[Row] = [
    _task_row("task_score", "lm_eval", "acc", f"share of questions answered right; {_HARNESS}"),
    _task_row(
        "task_score", "lm_eval", "acc_norm", f"the same by likelihood a byte of text; {_HARNESS}"
    ),
    _task_row("eigen_ablation_score", "eigen_ablation", "acc", _TABLE),
    _task_row("eigen_ablation_score", "eigen_ablation", "acc_norm", _TABLE),
    Reduce(
        "eigen_ablation_loss",
        "surprisal",
        (Read("eigen_ablation/loss", ("scored_sample",)),),
        _sample_mean,
        unit="nats",
        source=f"mean over samples of their mean −ln p(next token); {_TABLE}",
        interval=SAMPLES,
    ),
    Reduce(
        "eigen_ablation_accuracy",
        "top1",
        (Read("eigen_ablation/accuracy", ("scored_sample",)),),
        _sample_mean,
        unit="1",
        source=f"share of tokens ranked first, mean over samples; {_TABLE}",
        interval=SAMPLES,
    ),
]
