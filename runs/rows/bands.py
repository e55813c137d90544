"""Rows of the spectrum band by band: α within ranges of ranks, RankMe beyond the top directions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geometry.bands import (
    BANDS,
    REMOVED,
    band_alpha,
    band_alpha_intervals,
    rankme_without_top,
    rankme_without_top_intervals,
)
from runs.rows.base import ESTIMATE, Read, Reduce, Row
from runs.rows.points import JACKKNIFE, POINTS, last_tokens

Floats = NDArray[np.float64]
_STREAMED = (
    Read("moments/eigenvalues", ("rank",), {"centering": "centered", "fold": 0}),
    Read("moments/n", (), {"fold": 0}),
)
_ALPHA = "α-ReQ's fit (2509.23024, code) in each band; bands of training-time-entropy-circuits 2026"
_BEYOND = "2509.23024 eq. 1 without the top k eigenvalues, renormalised"


def _band_alpha(
    x: NDArray[Any], kept: Any, last: NDArray[np.bool_], group: NDArray[Any]
) -> tuple[Any, ...]:
    """α by band of the last tokens, with intervals, R² and the last rank fitted."""
    x, group = last_tokens(x, kept, last, group)
    return tuple(band_alpha_intervals(x, groups=group))


def _band_alpha_streamed(eigenvalues: Floats, n: Any) -> tuple[Any, ...]:
    """α by band of a streamed spectrum (rank,) of n rows, R² and the last rank fitted."""
    return tuple(band_alpha(eigenvalues, samples=int(n)))


def _without_top(
    x: NDArray[Any], kept: Any, last: NDArray[np.bool_], group: NDArray[Any]
) -> tuple[Any, ...]:
    """RankMe without the top directions of the last tokens, with intervals."""
    x, group = last_tokens(x, kept, last, group)
    return tuple(rankme_without_top_intervals(x, groups=group))


def _without_top_streamed(eigenvalues: Floats, n: Any) -> Floats:
    """RankMe without the top directions of a streamed spectrum (rank,) of n rows."""
    return rankme_without_top(eigenvalues[: int(n)])


ROWS: list[Row] = [
    Reduce(
        "band_alpha",
        "centered",
        POINTS,
        _band_alpha,
        unit="1",
        source=_ALPHA,
        interval=JACKKNIFE,
        outputs=(*ESTIMATE, "r2", "last"),
        version=2,  # no R² of a flat spectrum
        core=("band",),
        labels={"band": tuple(BANDS)},
    ),
    Reduce(
        "band_alpha_streamed",
        "centered",
        _STREAMED,
        _band_alpha_streamed,
        unit="1",
        source=_ALPHA,
        outputs=("value", "r2", "last"),
        version=2,
        core=("band",),
        labels={"band": tuple(BANDS)},
    ),
    Reduce(
        "rankme_without_top",
        "li2025",
        POINTS,
        _without_top,
        unit="directions",
        source=_BEYOND,
        interval=f"{JACKKNIFE}, on ln RankMe",
        core=("removed",),
        labels={"removed": REMOVED},
    ),
    Reduce(
        "rankme_without_top_streamed",
        "li2025",
        _STREAMED,
        _without_top_streamed,
        unit="directions",
        source=_BEYOND,
        outputs=("value",),
        core=("removed",),
        labels={"removed": REMOVED},
    ),
]
