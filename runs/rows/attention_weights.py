"""Rows of the visit `qk_norms`: norms of attention weights, and the chain of entropy bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.means import clustered_mean
from runs.rows.base import Read, Reduce, Row
from runs.rows.points import CLUSTERS

Floats = NDArray[np.float64]

_CIRCUITS = {
    "qk": ("logits", "W_Q R_Δ W_Kᵀ / √d_h of a head, the norm's gain folded in, by offset Δ"),
    "ov": ("1", "W_V W_O of a head, the norm's gain folded in"),
}
_LEVELS = {
    "row": "the largest centred norm of a row",
    "matrix": "‖S‖₂ of all logits of a sequence, unmasked",
    "weight": "‖W_Q W_Kᵀ‖₂ ‖X Xᵀ‖₂ / √d_h; under RoPE ‖W_Q‖₂ ‖W_K‖₂ ‖X‖_F² / √d_h",
}
_THEOREM = "least entropy that it allows, mean over rows; 2303.06296 Thm 3.1"


def _same(numbers: Floats) -> Floats:
    """The captured number itself."""
    return numbers


def _mean(values: Floats, group: NDArray[Any]) -> tuple[Any, ...]:
    """Mean over the samples of the visit."""
    return tuple(clustered_mean(values[:, None], group))


def _rows() -> list[Row]:
    rows: list[Row] = []
    for circuit, (unit, meaning) in _CIRCUITS.items():
        for what, name, of in (
            ("norm", unit, "spectral norm"),
            ("stable_rank", "directions", "‖·‖_F² / ‖·‖₂²"),
        ):
            rows.append(
                Reduce(
                    f"{circuit}_{what}",
                    "folded",
                    (Read(f"qk_norms/{circuit}_{what}"),),
                    _same,
                    unit=name,
                    source=f"{of} of {meaning}",
                    outputs=("value",),
                )
            )
    group = Read("qk_norms/bound_group", ("bound_sample",))
    for level, meaning in _LEVELS.items():
        norm, lower = (
            Read(f"qk_norms/{name}", ("bound_sample",), {"level": level})
            for name in ("norm", "lower")
        )
        rows.append(
            Reduce(
                "logit_norm",
                level,
                (norm, group),
                _mean,
                unit="logits",
                source=f"{meaning}, mean over samples",
                interval=CLUSTERS,
            )
        )
        # Of a row the attention product has it, over all samples; here it is of the chain's samples.
        rows.append(
            Reduce(
                "entropy_lower_bound",
                level if level != "row" else "row_of_chain",
                (lower, group),
                _mean,
                unit="nats",
                source=f"{meaning}: {_THEOREM}",
                interval=CLUSTERS,
            )
        )
    return rows


ROWS = _rows()
