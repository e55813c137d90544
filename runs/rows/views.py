"""Rows of last tokens as a data set, and as views of one another where the inputs have groups."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geometry import matrix_entropy, views
from geometry.semantic_volume import RIDGE, semantic_volume
from geometry.views import LIDAR_CONVENTIONS
from runs.rows.base import Pair, Reduce, Row
from runs.rows.points import POINTS, last_tokens

_NAN = float("nan")


def _dataset_entropy(
    x: NDArray[Any], kept: Any, last: NDArray[np.bool_], *, centered: bool
) -> float:
    return matrix_entropy.dataset_entropy(last_tokens(x, kept, last, None)[0], centered=centered)


def _diff_erank(
    x: NDArray[Any],
    kept: Any,
    last: NDArray[np.bool_],
    first: NDArray[Any],
    first_kept: Any,
    first_last: NDArray[np.bool_],
) -> float:
    now, _ = last_tokens(x, kept, last, None)
    then, _ = last_tokens(first, first_kept, first_last, None)
    return matrix_entropy.diff_erank(then, now)


def _lidar(
    x: NDArray[Any], kept: Any, last: NDArray[np.bool_], group: NDArray[Any], *, convention: str
) -> float:
    return views.lidar(*last_tokens(x, kept, last, group), convention=convention)


def _infonce(
    x: NDArray[Any], kept: Any, last: NDArray[np.bool_], group: NDArray[Any], *, part: str
) -> float:
    pair = views.paired_views(*last_tokens(x, kept, last, group))
    return float(getattr(views.infonce(*pair), part))


def _dime(x: NDArray[Any], kept: Any, last: NDArray[np.bool_], group: NDArray[Any]) -> float:
    return views.dime(*views.paired_views(*last_tokens(x, kept, last, group)))


def _cloud_volume(x: NDArray[Any], kept: Any, last: NDArray[np.bool_]) -> float:
    return semantic_volume(last_tokens(x, kept, last, None)[0])


def _group_volume(
    x: NDArray[Any], kept: Any, last: NDArray[np.bool_], group: NDArray[Any]
) -> float:
    """Mean over groups of the volume of two members each, so that sizes do not matter."""
    first, second = views.paired_views(*last_tokens(x, kept, last, group))
    if len(first) == 0:
        return _NAN
    return float(np.mean([semantic_volume(np.stack(p)) for p in zip(first, second, strict=True)]))


def _value(
    name: str, convention: str, count: int, function: Any, unit: str, source: str, default: bool
) -> Row:
    return Reduce(
        name,
        convention,
        POINTS[:count],
        function,
        unit=unit,
        source=source,
        outputs=("value",),
        default=default,
    )


# Rows that need groups are computed where a recipe names them: without groups they are NaN.
ROWS: list[Row] = [
    *(
        _value("dataset_entropy", f"last_tokens_{name}", 3,
               partial(_dataset_entropy, centered=name == "centered"), "nats",
               "Skean et al. 2025, 2502.02013, §3, of last tokens instead of samples' mean states"
               + ("" if name == "centered" else "; not centred"), True)
        for name in ("centered", "uncentered")
    ),
    Pair("diff_erank", "last_tokens", POINTS[:3], _diff_erank, unit="directions",
         source="Wei et al. 2024, 2401.17139, of the last tokens' cloud instead of sentences",
         outputs=("value",), others="first"),
    _value("semantic_volume", "cloud", 3, _cloud_volume, "nats",
           f"½ ln det(Gram of unit states + {RIDGE:g} I), after Li et al. 2025, 2502.21239", True),
    _value("semantic_volume", "pairs", 4, _group_volume, "nats",
           f"½ ln det(Gram of two unit states of a group + {RIDGE:g} I), mean over groups, after Li et "
           "al. 2025, 2502.21239", False),
    *(
        _value("lidar", name, 4, partial(_lidar, convention=name),
               "directions" if rule.exponential else "nats",
               f"{rule.source}; δ = {rule.delta:g}", False)
        for name, rule in LIDAR_CONVENTIONS.items()
    ),
    _value("dime", "skean2025", 4, _dime, "nats",
           "Skean et al. 2023, 2301.08164, linear kernel of unit states, 10 permutations, seed 0",
           False),
    *(
        _value("infonce", part, 4, partial(_infonce, part=part), "nats", f"{form}; temperature 0.1",
               False)
        for part, form in (
            ("loss", "InfoNCE loss, 1807.03748, cosine as in SimCLR, one direction"),
            ("bound", "ln N − InfoNCE loss: bound on mutual information, 1807.03748"),
        )
    ),
]  # fmt: skip
