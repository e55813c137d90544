"""Rows of token trajectories: means over samples of what each sample's path through a layer is like."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.means import clustered_mean
from runs.rows.base import ESTIMATE, Pair, Read, Reduce, Row
from runs.rows.points import CLUSTERS

_GROUP = Read("inputs/group", ("sample",))
_LENGTH = Read("inputs/length", ("sample",))
_NAN = float("nan")


def _reads(statistic: str) -> tuple[Read, Read]:
    select = {"statistic": statistic}
    return (
        Read("trajectory/mean", ("sample",), select),
        Read("trajectory/terms", ("sample",), select),
    )


def _values(mean: NDArray[Any], terms: NDArray[Any], least: int = 1) -> NDArray[np.float64] | None:
    """Each sample's mean, NaN where it has too few terms; None if a state was not finite."""
    there = terms >= least
    if np.isnan(mean[there]).any():
        return None
    return np.where(there, mean, np.nan).astype(np.float64)


def _sample_mean(
    mean: NDArray[Any],
    terms: NDArray[Any],
    length: NDArray[Any],
    group: NDArray[Any],
    *,
    ends: int,
    per_log: bool = False,
) -> tuple[float, ...]:
    """Mean over samples with its interval, and the share of terms that had no direction.

    `ends` is how many terms fewer than tokens a sample has; `per_log` divides by ln terms.
    """
    values = _values(mean, terms, least=2 if per_log else 1)
    made = terms >= 0
    possible = int((length[made] - ends).clip(0).sum())
    left_out = 1 - int(terms[made].sum()) / possible if possible else _NAN
    if values is None:
        return (_NAN,) * 4 + (left_out,)
    if per_log:
        values = values / np.log(np.maximum(terms, 2))
    return (*clustered_mean(values[:, None], group), left_out)


def _pair_mean(mean: NDArray[Any], terms: NDArray[Any], group: NDArray[Any]) -> tuple[float, ...]:
    """Mean over samples with its interval."""
    values = _values(mean, terms)
    return (_NAN,) * 4 if values is None else tuple(clustered_mean(values[:, None], group))


def _diff_erank(
    mean: NDArray[Any],
    terms: NDArray[Any],
    group: NDArray[Any],
    first: NDArray[Any],
    first_terms: NDArray[Any],
    _: NDArray[Any],
) -> tuple[float, ...]:
    """Difference of exp(mean sentence entropy), the first checkpoint's less this one's."""
    now, then = _values(mean, terms), _values(first, first_terms)
    if now is None or then is None:
        return (_NAN,) * 4
    if np.isnan(now).all() or np.isnan(then).all():
        return (_NAN,) * 4
    a, b = float(np.exp(np.nanmean(then))), float(np.exp(np.nanmean(now)))
    # To first order exp(mean) moves by exp(mean) times what the mean moves by: one clustered mean.
    moved = clustered_mean((a * then - b * now)[:, None], group)
    shift = a - b - moved.value
    return (a - b, moved.standard_error, moved.lower + shift, moved.upper + shift)


def _row(
    name: str, convention: str, statistic: str, unit: str, source: str, ends: int, **options: Any
) -> Row:
    return Reduce(
        name,
        convention,
        (*_reads(statistic), _LENGTH, _GROUP),
        partial(_sample_mean, ends=ends, **options),
        unit=unit,
        source=source,
        interval=CLUSTERS,
        outputs=(*ESTIMATE, "left_out"),
    )


_SKEAN = "Skean et al. 2025, 2502.02013, §3; no clamp of the Gram matrix"
_CODE = "Skean et al. 2025, published code"
_ENTROPIES = (
    ("skean2025", "centered_entropy", _SKEAN),
    ("uncentered", "plain_entropy", f"{_SKEAN}; states not centred"),
)

ROWS: list[Row] = [
    _row("curvature", "differences", "curvature", "radians",
         "Hosseini & Fedorenko 2023, 2311.04930; angle between successive differences", 2),
    _row("curvature", "unsigned", "unsigned_curvature", "radians",
         f"{_CODE}, revision 703d566: arccos of the modulus of the cosine of differences", 2),
    _row("curvature", "states", "state_angle", "radians",
         f"{_CODE}, an earlier revision: angle between successive states (clamped here)", 1),
    *(
        _row("sentence_entropy", name, statistic, "nats", source, 0)
        for name, statistic, source in _ENTROPIES
    ),
    *(
        _row("sentence_entropy", f"{name}_per_log_n", statistic, "1", f"{source}; over ln n", 0,
             per_log=True)
        for name, statistic, source in _ENTROPIES
    ),
    _row("token_norm", "mean", "norm", "activation", "mean Euclidean norm of a token's state", 0),
    Reduce(
        "token_cosine",
        "within_sample",
        (*_reads("cosine"), _GROUP),
        _pair_mean,
        unit="1",
        source="mean cosine of two tokens of one sample, after Ethayarajh 2019, 1909.00512, §3.3",
        interval=CLUSTERS,
    ),
    Pair(
        "diff_erank",
        "wei2024",
        (*_reads("centered_entropy"), _GROUP),
        _diff_erank,
        unit="directions",
        source="Wei et al. 2024, 2401.17139, over sentences: the branch's first checkpoint less each",
        interval=f"{CLUSTERS}, first order",
        others="first",
    ),
]  # fmt: skip
