"""Rows of intrinsic dimension, through scikit-dimension (the extra `dimension`)."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geometry.dimension import DIMENSION_CONVENTIONS, intrinsic_dimension
from runs.errors import InputError
from runs.packages import require_extra
from runs.rows.base import ESTIMATE, Reduce, Row
from runs.rows.points import POINTS, last_tokens


def _dimension(
    x: NDArray[Any], kept: Any, last: NDArray[np.bool_], group: NDArray[Any], *, convention: str
) -> tuple[Any, ...]:
    """Intrinsic dimension of the last tokens with its interval, and how many points were left out."""
    require_extra("dimension", "scikit-dimension", where="measure `intrinsic_dimension`")
    x, _ = last_tokens(x, kept, last, group)
    try:
        return tuple(intrinsic_dimension(x, convention=convention))
    except ModuleNotFoundError as error:  # installed, and not to be imported
        raise InputError(str(error)) from None


# Slower than the spectra (every pair of points), and in need of an extra: computed when asked for.
ROWS: list[Row] = [
    Reduce(
        "intrinsic_dimension",
        name,
        POINTS,
        partial(_dimension, convention=name),
        unit="dimensions",
        source=rule.source,
        interval=f"{rule.interval}, 95 %" if rule.interval else "",
        outputs=(*ESTIMATE, "dropped"),
        default=False,
    )
    for name, rule in DIMENSION_CONVENTIONS.items()
]
