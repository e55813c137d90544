"""Rows of reach: attention entropy against the query's position, with and without the paper's changes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attention.reach import entropy_line, log_visible
from geometry import intervals
from probes.means import clustered_mean
from runs.rows.base import ESTIMATE, Read, Reduce, Row
from runs.rows.points import CLUSTERS, FOLDS

Floats = NDArray[np.float64]
Ints = NDArray[Any]
_ZHANG = "2401.07004 §3.1 and fig. 1"


def _reads(core: tuple[str, ...]) -> tuple[Read, ...]:
    entropy = {"statistic": "entropy"}
    return tuple(Read(f"attention/{v}", core, entropy) for v in ("mean", "count", "nan_count"))


_EDGES = (
    Read("attention/position_bin", ("position_bin",)),
    Read("attention/position_end", ("position_bin",)),
)


def _known(mean: Floats, count: Ints, nan_count: Ints) -> Floats:
    """Bin means (…, fold, bin); NaN where a row was NaN or there is none."""
    return np.where((nan_count > 0) | (count == 0), np.nan, mean)


def _by_position(
    mean: Floats, count: Ints, nan_count: Ints, start: Ints, end: Ints
) -> tuple[Floats, ...]:
    """Interval of every bin (fold, bin)."""
    values = _known(mean, count, nan_count)
    return (*intervals.fold_interval(values.T), log_visible(start, end))


def _block_by_position(
    mean: Floats, count: Ints, nan_count: Ints, start: Ints, end: Ints
) -> tuple[Floats, ...]:
    """Interval of every bin's mean over heads (head, fold, bin)."""
    values = _known(mean, count, nan_count).mean(axis=0)
    return (*intervals.fold_interval(values.T), log_visible(start, end))


def _slope(
    mean: Floats, count: Ints, nan_count: Ints, start: Ints, end: Ints, *, last: bool
) -> tuple[Any, ...]:
    """Slope of entropy against ln n of all rows, then of each fold (fold, bin)."""
    values, weights = _known(mean, count, nan_count), count
    if last:
        # Of the rows there are: samples may all be shorter than the set's length.
        there = end[count[0] > 0]
        half = there.max() // 2 if there.size else 0
        weights = count * (start >= half)
    # A NaN row must show, so a bin that has one keeps a weight.
    weights = np.where(nan_count > 0, 1, weights)
    line = entropy_line(values, log_visible(start, end), weights)
    return (*intervals.fold_interval(line.slope), line.intercept[0])


def _all_rows(*arrays: Any) -> tuple[Any, ...]:
    return _slope(*arrays, last=False)


def _last_octave(*arrays: Any) -> tuple[Any, ...]:
    return _slope(*arrays, last=True)


def _doubling(
    mean: Floats, count: Ints, nan_count: Ints, start: Ints, end: Ints
) -> tuple[Any, ...]:
    """Entropy in the last bin less that in the bin at half its position, by fold (fold, bin)."""
    values, there = _known(mean, count, nan_count), np.flatnonzero(count[0] > 0)
    if not len(there) or start[there[-1]] < 2:
        return (float("nan"),) * 5
    last = int(there[-1])
    half = int(np.searchsorted(start, (start[last] + end[last] - 1) // 4, side="right")) - 1
    lengths = log_visible(start, end)
    estimate = intervals.fold_interval(values[:, last] - values[:, half])
    return (*estimate, lengths[last] - lengths[half])


def _scaled_by_position(
    entropy: Floats, start: Ints, end: Ints, rows: Ints, group: Ints
) -> tuple[Floats, ...]:
    """Mean over heads, then over the samples that reach it, of every bin (head, sample, bin)."""
    means = entropy.mean(axis=0)
    found = [_mean(m[n > 0], group[n > 0]) for m, n in zip(means.T, rows.T, strict=True)]
    return (*np.array(found).T, log_visible(start, end))


def _scaled_slope(
    entropy: Floats, start: Ints, end: Ints, rows: Ints, group: Ints
) -> tuple[float, ...]:
    """Mean over samples of each sample's slope (sample, bin)."""
    return _mean(entropy_line(entropy, log_visible(start, end), rows).slope, group)


def _mean(values: Floats, group: Ints) -> tuple[float, ...]:
    """Mean over samples (sample,); one NaN is a NaN."""
    if np.isnan(values).any() or not len(values):
        return (float("nan"),) * 4
    return tuple(clustered_mean(values[:, None], group))


_SCALED_GROUP = Read("entropy_scaled/scaled_group", ("scaled_sample",))
_SCALED_BINS = (
    Read("entropy_scaled/position_bin", ("position_bin",)),
    Read("entropy_scaled/position_end", ("position_bin",)),
    Read("entropy_scaled/rows", ("scaled_sample", "position_bin")),
)

ROWS: list[Row] = [
    Reduce(
        "entropy_by_position",
        "head",
        (*_reads(("fold", "position_bin")), *_EDGES),
        _by_position,
        unit="nats",
        source=f"mean row entropy of a head in each bin of query positions; after {_ZHANG}",
        interval=FOLDS,
        outputs=(*ESTIMATE, "log_visible"),
        core=("position_bin",),
    ),
    Reduce(
        "entropy_by_position",
        "zhang2024_paper",
        (*_reads(("head", "fold", "position_bin")), *_EDGES),
        _block_by_position,
        unit="nats",
        source=f"mean over samples and heads of the row entropy at one query position, {_ZHANG}",
        interval=FOLDS,
        outputs=(*ESTIMATE, "log_visible"),
        core=("position_bin",),
    ),
    Reduce(
        "entropy_slope",
        "all_rows",
        (*_reads(("fold", "position_bin")), *_EDGES),
        _all_rows,
        unit="1",
        source="least-squares slope of row entropy against ln(position + 1), of rows that see two keys; "
        "1 is uniform attention, 0 a fixed reach",
        interval=FOLDS,
        outputs=(*ESTIMATE, "intercept"),
    ),
    Reduce(
        "entropy_slope",
        "last_octave",
        (*_reads(("fold", "position_bin")), *_EDGES),
        _last_octave,
        unit="1",
        source="the same from the second half of the positions alone",
        interval=FOLDS,
        outputs=(*ESTIMATE, "intercept"),
    ),
    Reduce(
        "entropy_doubling",
        "zhang2024",
        (*_reads(("fold", "position_bin")), *_EDGES),
        _doubling,
        unit="nats",
        source="entropy of the last rows less that of rows at half their position: what a context twice "
        f"as long adds, ln 2 if attention is uniform; the length invariance of {_ZHANG}",
        interval=FOLDS,
        outputs=(*ESTIMATE, "uniform"),
    ),
    Reduce(
        "scaled_entropy_by_position",
        "zhang2024_paper",
        (
            Read("entropy_scaled/entropy", ("head", "scaled_sample", "position_bin")),
            *_SCALED_BINS,
            _SCALED_GROUP,
        ),
        _scaled_by_position,
        unit="nats",
        source=f"as entropy_by_position, with logits × max(log_c n, 1) and another RoPE base; {_ZHANG}",
        interval=CLUSTERS,
        outputs=(*ESTIMATE, "log_visible"),
        core=("position_bin",),
    ),
    Reduce(
        "scaled_entropy_slope",
        "all_rows",
        (
            Read("entropy_scaled/entropy", ("scaled_sample", "position_bin")),
            *_SCALED_BINS,
            _SCALED_GROUP,
        ),
        _scaled_slope,
        unit="1",
        source="mean over samples of the slope of entropy against ln(position + 1), under each change",
        interval=CLUSTERS,
    ),
    Reduce(
        "scaled_loss",
        "surprisal",
        (Read("entropy_scaled/loss", ("scaled_sample",)), _SCALED_GROUP),
        _mean,
        unit="nats",
        source="mean −ln p(next token) under each change",
        interval=CLUSTERS,
    ),
    *(
        Reduce(
            "last_row_entropy",
            convention,
            (Read(f"last_row/{variable}"),),
            lambda value: value,
            unit="nats",
            source=source,
            outputs=("value",),
        )
        for convention, variable, source in (
            (
                "zhang2024_code",
                "entropy_of_mean",
                "last row only, H(mean over samples of p): retrieve_attn.py of 2401.07004, every head",
            ),
            (
                "zhang2024_code_double_softmax",
                "double_softmax",
                "the same of softmax(p), as that code gives with a stock model, which returns p",
            ),
            (
                "mean_of_rows",
                "mean_entropy",
                "last row only, mean over samples of H(p), as the text says",
            ),
        )
    ),
]
