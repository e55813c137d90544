"""Rows about the number of samples: RankMe and α on nested parts of them, and RankMe extrapolated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geometry import intervals
from geometry.extrapolation import Doubts, half_sample_rankme
from geometry.intervals import Estimate
from runs.rows.base import ESTIMATE, Reduce
from runs.rows.points import JACKKNIFE, POINTS, last_tokens

Floats = NDArray[np.float64]

FRACTIONS = (0.125, 0.25, 0.5, 1.0)
SEED = 0
_FEWEST = 8  # groups in the smallest part, or quarters of an extrapolation


def nested_parts(group: NDArray[Any], *, seed: int = SEED) -> list[NDArray[np.intp]]:
    """Row numbers of nested parts of the samples, whole groups each, for `FRACTIONS`.

    Parameters
    ----------
    group
        Group of each sample, shape (sample,).
    seed
        Decides the order in which groups join.

    Returns
    -------
    list of int array
        Each holds the one before it; as near to its fraction as whole groups allow.
    """
    unit = np.unique(group, return_inverse=True)[1]
    order = np.random.default_rng(seed).permutation(int(unit.max(initial=-1)) + 1)
    filled = np.cumsum(np.bincount(unit)[order])
    parts = []
    for fraction in FRACTIONS:
        kept = order[: int(np.argmin(np.abs(filled - fraction * len(group)))) + 1]
        parts.append(np.flatnonzero(np.isin(unit, kept)))
    return parts


def _by_samples(
    x: NDArray[Any],
    kept: Any,
    last: NDArray[np.bool_],
    group: NDArray[Any],
    *,
    estimate: Callable[..., Estimate[float]],
) -> tuple[Floats, ...]:
    """An estimate of each nested part of the last tokens, and its number of samples; (fraction,) each."""
    x, group = last_tokens(x, kept, last, group)
    rows = []
    for part in nested_parts(group):
        few = len(np.unique(group[part])) < _FEWEST
        found = (np.nan,) * len(ESTIMATE) if few else estimate(x[part], groups=group[part])
        rows.append((*found, float(len(part))))
    return tuple(np.array(column) for column in zip(*rows, strict=True))


def _half_sample(
    x: NDArray[Any], kept: Any, last: NDArray[np.bool_], group: NDArray[Any], *, convention: str
) -> tuple[float, ...]:
    """RankMe extrapolated, whether it is trusted (1 or 0), the raw value and the doubts."""
    x, group = last_tokens(x, kept, last, group)
    if len(np.unique(group)) < _FEWEST:
        return (*(np.nan,) * len(ESTIMATE), 0.0, *(np.nan,) * (1 + len(Doubts._fields)))
    found = half_sample_rankme(x, convention=convention, groups=group)
    return (*found.estimate, float(found.trusted), found.raw, *found.doubts)


_PARTS = f"{JACKKNIFE}, of the samples of each part"

ROWS = [
    Reduce(
        "rankme",
        "li2025+half_sample",
        POINTS,
        partial(_half_sample, convention="li2025"),
        unit="directions",
        source="2 ln R(N) − mean ln R(N/2) over 4 seeded splits (Quenouille 1956) of 2509.23024, eq. 1",
        interval=f"{JACKKNIFE}, of the extrapolated ln RankMe",
        outputs=(*ESTIMATE, "trusted", "raw", *Doubts._fields),
        default=False,
    ),
    Reduce(
        "rankme_samples",
        "li2025",
        POINTS,
        partial(_by_samples, estimate=intervals.rankme_interval),
        unit="directions",
        source="RankMe of nested parts of the samples; 2509.23024, figure 8",
        interval=_PARTS,
        outputs=(*ESTIMATE, "samples"),
        core=("fraction",),
        labels={"fraction": FRACTIONS},
    ),
    Reduce(
        "alpha_req_samples",
        "li2025",
        POINTS,
        partial(_by_samples, estimate=intervals.alpha_req_interval),
        unit="1",
        source="α-ReQ (Agrawal et al. 2022) of nested parts of the samples; 2509.23024, figure 8",
        interval=_PARTS,
        outputs=(*ESTIMATE, "samples"),
        core=("fraction",),
        labels={"fraction": FRACTIONS},
    ),
]
