"""Rows of heads by the height of their entropy: bands, collapsed and overloaded heads."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attention.bands import (
    BANDS,
    REFERENCES,
    band_of,
    band_shares,
    heads_beyond,
    reference_entropy,
)
from geometry import intervals
from geometry.jackknife import Estimate
from runs.rows.attention import binned, fold_means
from runs.rows.base import ESTIMATE, Read, Reduce, Row
from runs.rows.points import FOLDS

Floats = NDArray[np.float64]

_READS = (*binned("entropy", "block", "head"), Read("inputs/length", ("sample",)))
_COUNTED = ("value", "lower", "upper")
_INTERVAL = f"heads whose own interval ({FOLDS}) is wholly, or in part, there"
_JHA = "quarters of a reference, 2501.03489 §3"

# Names of cuts to their share of the reference; where the paper has a number it is that.
COLLAPSED = {
    "first_quarter_of_observed_max": ("observed_max", 0.25),
    "tenth_of_causal_uniform": ("causal_uniform", 0.1),
}
OVERLOADED = {
    "last_quarter_of_observed_max": ("observed_max", 0.75),
    "nine_tenths_of_causal_uniform": ("causal_uniform", 0.9),
}


def _ratios(
    mean: Floats, count: Floats, nan_count: Floats, length: NDArray[Any], *, reference: str
) -> Estimate[Floats]:
    """Entropy of each head over the reference (block, head), which every fold has of its own."""
    entropy = fold_means(mean, count, nan_count)  # (block, head, fold)
    flat = entropy.reshape(-1, entropy.shape[-1])
    level = reference_entropy(flat.T, length, reference=reference)
    with np.errstate(invalid="ignore", divide="ignore"):
        return intervals.fold_interval(entropy / level)


def _ratio(*arrays: Any, reference: str) -> tuple[Any, ...]:
    """Entropy over reference (block, head), with its interval."""
    return tuple(_ratios(*arrays, reference=reference))


def _band(*arrays: Any, reference: str) -> tuple[Any, ...]:
    """Number of each head's band (block, head), and of those its interval reaches."""
    found = _ratios(*arrays, reference=reference)
    return tuple(band_of(x) for x in (found.value, found.lower, found.upper))


def _shares(*arrays: Any, reference: str) -> tuple[Any, ...]:
    """Share of heads in each band (band,)."""
    found = _ratios(*arrays, reference=reference)
    return tuple(band_shares(*(x.ravel() for x in (found.value, found.lower, found.upper))))


def _beyond(*arrays: Any, reference: str, threshold: float, above: bool) -> tuple[Any, ...]:
    """Number of heads beyond a cut."""
    found = _ratios(*arrays, reference=reference)
    flat = (x.ravel() for x in (found.value, found.lower, found.upper))
    return tuple(heads_beyond(*flat, threshold=threshold, above=above))


def _rows() -> list[Row]:
    rows: list[Row] = []
    heads = ("block", "head")
    for name, meaning in REFERENCES.items():
        rows += [
            Reduce(
                "entropy_ratio",
                name,
                _READS,
                partial(_ratio, reference=name),
                unit="1",
                source=f"head entropy (zhai2023) over {meaning}",
                interval=FOLDS,
                outputs=ESTIMATE,
                core=heads,
            ),
            Reduce(
                "entropy_band",
                name,
                _READS,
                partial(_band, reference=name),
                unit="quarter, from 0",
                source=f"{_JHA}: {meaning}",
                interval=FOLDS,
                outputs=_COUNTED,
                core=heads,
            ),
            Reduce(
                "band_share",
                name,
                _READS,
                partial(_shares, reference=name),
                unit="1",
                source=f"{_JHA}: {meaning}",
                interval=_INTERVAL,
                outputs=_COUNTED,
                core=("band",),
                labels={"band": BANDS},
            ),
        ]
    for measure, cuts, above in (
        ("collapsed_heads", COLLAPSED, False),
        ("overloaded_heads", OVERLOADED, True),
    ):
        for name, (reference, threshold) in cuts.items():
            beyond = f"{'from' if above else 'below'} {threshold:g}"
            rows.append(
                Reduce(
                    measure,
                    name,
                    _READS,
                    partial(_beyond, reference=reference, threshold=threshold, above=above),
                    unit="heads",
                    source=f"heads {beyond} of {REFERENCES[reference]}",
                    interval=_INTERVAL,
                    outputs=_COUNTED,
                )
            )
    # NaN where the largest is the rounding of rows that attend to one key.
    return [replace(r, version=2) if r.convention.endswith("observed_max") else r for r in rows]


ROWS = _rows()
