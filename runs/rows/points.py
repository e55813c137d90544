"""Hidden states at the last tokens, as most rows about geometry read them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runs.rows.base import Read

POINTS = (
    Read("hidden/hidden", ("point", "feature")),
    Read("hidden/kept"),
    Read("points/last", ("point",)),
    Read("points/group", ("point",)),
)
JACKKNIFE = "infinitesimal jackknife over samples, 95 %"
FOLDS = "spread over 8 folds, Student t, 95 %"
CLUSTERS = "clustered by sample, 95 %"


def last_tokens(
    x: NDArray[Any], kept: Any, last: NDArray[np.bool_], group: NDArray[Any] | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The last tokens among the points of one (checkpoint, layer), and their groups."""
    # They come first among the points, and a layer keeps the first `kept` points.
    count = min(int(kept), int(last.sum()))
    return x[:count], (np.arange(count) if group is None else group[:count])
