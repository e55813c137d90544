"""Rows of where a change comes from: entropy ledger, CKA and principal angles between neighbours."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geometry import angles, ledger, similarity, spectrum
from runs.rows.base import Pair, Read, Reduce, Row
from runs.rows.points import POINTS, last_tokens
from runs.rows.similarity import linear_cka_of_pair

Floats = NDArray[np.float64]

_LAYERS = (
    Read("hidden/hidden", ("layer", "point", "feature")),
    Read("hidden/kept", ("layer",)),
    Read("points/last", ("point",)),
)
_MOMENTS = Read("moments/eigenvalues", ("rank",), {"centering": "centered", "fold": 0})
_SOURCE = "dS/dt = −Cov_p(d ln λ/dt, ln p) along ln λ linear in t, S = ln RankMe (li2025)"
_ANGLES = ("value", "largest_angle", "gap", "random")
_ANGLE_SOURCE = (
    "mean squared cosine of the principal angles (Björck & Golub 1973) of the leading eigenvectors; "
    "random: k / features"
)


def _ledger(one: Floats, two: Floats) -> Floats:
    """Contributions by band to the change from spectrum `two`, the earlier, to `one`."""
    return ledger.by_band(ledger.entropy_ledger(two, one).contributions)


def _ledger_of_points(
    x: NDArray[Any],
    kept: Any,
    last: NDArray[np.bool_],
    y: NDArray[Any],
    other_kept: Any,
    other_last: NDArray[np.bool_],
) -> Floats:
    """The ledger of the last tokens of two checkpoints."""
    x, _ = last_tokens(x, kept, last, None)
    y, _ = last_tokens(y, other_kept, other_last, None)
    return _ledger(spectrum.eigenvalues(x), spectrum.eigenvalues(y))


def _angles_of_pair(
    x: NDArray[Any],
    kept: Any,
    last: NDArray[np.bool_],
    y: NDArray[Any],
    other_kept: Any,
    other_last: NDArray[np.bool_],
) -> tuple[Floats, ...]:
    """Principal angles of two checkpoints' last tokens, for each number of directions."""
    x, _ = last_tokens(x, kept, last, None)
    y, _ = last_tokens(y, other_kept, other_last, None)
    return tuple(_angles(_eigenspace(x), _eigenspace(y)))


def _angles_of_layers(
    x: NDArray[Any], kept: NDArray[Any], last: NDArray[np.bool_]
) -> tuple[Floats, ...]:
    """Principal angles of each layer with the one below it; NaN for the first."""
    spaces = [
        _eigenspace(last_tokens(layer, count, last, None)[0])
        for layer, count in zip(x, kept, strict=True)
    ]
    found = [np.array(_angles(b, a)) for a, b in pairwise(spaces)]
    first = np.full((len(_ANGLES), len(angles.TOP)), np.nan)
    return tuple(np.stack([first, *found], axis=1))


def _eigenspace(x: NDArray[Any]) -> angles.Eigenspace:
    return angles.eigenspace(x, max(angles.TOP))


def _angles(one: angles.Eigenspace, two: angles.Eigenspace) -> angles.Angles:
    return angles.eigenspace_angles(one, two)


def _cka_of_layers(x: NDArray[Any], kept: NDArray[Any], last: NDArray[np.bool_]) -> Floats:
    """CKA of every two layers, over the last tokens that all of them keep."""
    count = min(int(kept.min()), int(last.sum()))
    return similarity.cka_matrix(x[:, :count], debiased=True)


def _angle_rows() -> list[Row]:
    shared: dict[str, Any] = {
        "unit": "1",
        "outputs": _ANGLES,
        "labels": {"directions": angles.TOP},
    }
    return [
        Pair(
            "principal_angles",
            "previous",
            POINTS[:3],
            _angles_of_pair,
            source=f"{_ANGLE_SOURCE}; with the checkpoint before",
            core=("directions",),
            others="previous",
            **shared,
        ),
        Reduce(
            "principal_angles",
            "layer_below",
            _LAYERS,
            _angles_of_layers,
            source=f"{_ANGLE_SOURCE}; with the layer below",
            core=("layer", "directions"),
            default=False,
            **shared,
        ),
    ]


ROWS: list[Row] = [
    Pair(
        "entropy_ledger",
        "li2025",
        POINTS[:3],
        _ledger_of_points,
        unit="nats",
        source=f"{_SOURCE}; last tokens, against the checkpoint before",
        outputs=("value",),
        core=("band",),
        labels={"band": ledger.band_names()},
        others="previous",
    ),
    Pair(
        "entropy_ledger_streamed",
        "li2025",
        (_MOMENTS,),
        _ledger,
        unit="nats",
        source=f"{_SOURCE}; streamed moments, against the checkpoint before",
        outputs=("value",),
        core=("band",),
        labels={"band": ledger.band_names()},
        others="previous",
    ),
    Pair(
        "linear_cka",
        "debiased_previous",
        POINTS[:3],
        partial(linear_cka_of_pair, debiased=True),
        unit="1",
        source="linear CKA with the checkpoint before, 1905.00414 §3, debiased HSIC, 2010.15327",
        outputs=("value",),
        others="previous",
        version=2,  # NaN where nothing but rounding is left
    ),
    Reduce(
        "layer_cka",
        "debiased",
        _LAYERS,
        _cka_of_layers,
        unit="1",
        source="linear CKA of every two layers, 1905.00414 §3, debiased HSIC, 2010.15327",
        outputs=("value",),
        core=("layer", "other_layer"),
        version=2,
    ),
    *_angle_rows(),
]
