"""Rows of similarity: two checkpoints' representations of the same samples."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geometry import similarity
from runs.rows.base import Pair, Row
from runs.rows.points import POINTS, last_tokens


def linear_cka_of_pair(
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
    x, _ = last_tokens(x, kept, last, None)
    y, _ = last_tokens(y, other_kept, other_last, None)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return float("nan")
    return float(similarity.linear_cka(x, y, debiased=debiased))


ROWS: list[Row] = [
    *(
        Pair(
            "linear_cka",
            name,
            POINTS[:3],
            partial(linear_cka_of_pair, debiased=name == "debiased"),
            unit="1",
            source="linear CKA with the branch's last checkpoint, 1905.00414 §3"
            + (", debiased HSIC, 2010.15327" if name == "debiased" else ""),
            outputs=("value",),
            default=name == "debiased",
            version=2 if name == "debiased" else 1,  # NaN where nothing but rounding is left
        )
        for name in ("debiased", "biased")
    ),
]
