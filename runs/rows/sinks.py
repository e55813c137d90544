"""Rows of sinks, heads that put out little, and massive activations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attention.sinks import THRESHOLD, is_sink, relative_output_norm, uniform_importance
from geometry.massive import ABSOLUTE, RATIO, is_massive
from probes.means import clustered_mean
from runs.rows.base import ESTIMATE, Read, Reduce, Row
from runs.rows.points import CLUSTERS

Floats = NDArray[np.float64]
NORMS = (0.05, 0.1, 0.25, 0.5)
MASSES = (0.3, 0.5, 0.7, 0.9)
_GROUP = Read("sinks/sink_group", ("sink_sample",))
_FIRST = {"key": 1}
_GU = "α_1 > 0.3 in each sample, 2410.10781 §3"


def _mean(values: Floats, group: NDArray[Any]) -> tuple[float, ...]:
    """Mean over samples (sample,); one NaN is a NaN, as no sample is missing by design."""
    if np.isnan(values).any():
        return (float("nan"),) * 4
    return tuple(clustered_mean(values[:, None], group))


def _columns(values: Floats, group: NDArray[Any]) -> tuple[Floats, ...]:
    """Means over samples of every column (sample, column)."""
    return tuple(np.array([_mean(column, group) for column in values.T]).T)


def _sink_rate(importance: Floats, group: NDArray[Any]) -> tuple[float, ...]:
    return _mean(is_sink(importance), group)


def _without_first_row(
    importance: Floats, length: NDArray[Any], group: NDArray[Any]
) -> tuple[float, ...]:
    """The first row's forced 1 taken out: (T α − 1) / (T − 1)."""
    rows = length.astype(np.float64)
    return _mean(is_sink((rows * importance - 1) / (rows - 1)), group)


def _model_rate(importance: Floats, group: NDArray[Any]) -> tuple[float, ...]:
    """Mean over blocks and heads (block, head, sample), then over samples."""
    return _mean(is_sink(importance).mean(axis=(0, 1)), group)


def _rate_by_key(importance: Floats, group: NDArray[Any]) -> tuple[Floats, ...]:
    return _columns(is_sink(importance), group)


def _mass_by_key(
    importance: Floats, length: NDArray[Any], group: NDArray[Any]
) -> tuple[Floats, ...]:
    """Means over samples of every key (sample, key), and what uniform attention gives it."""
    uniform = uniform_importance(int(length[0]))[: importance.shape[1]]
    return (*_columns(importance, group), uniform)


def _over_uniform(mass: Floats, uniform: Floats, group: NDArray[Any]) -> tuple[Floats, ...]:
    """Ratio of summed masses (sample, class), by linearisation over samples; NaN without such a key."""
    there = uniform.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = mass.sum(axis=0) / there
        # The error of a ratio of means is that of the mean of these.
        parts = ratio + (mass - ratio * uniform) / uniform.mean(axis=0)
    return _columns(parts, group)


def _relative_norm(norms: Floats, group: NDArray[Any]) -> tuple[Floats, ...]:
    """Of each head (head, sample)."""
    return _columns(relative_output_norm(norms, axis=0).T, group)


def _below(norms: Floats, group: NDArray[Any]) -> tuple[Floats, ...]:
    """Share of samples in which the relative norm is below each threshold: (head, threshold)."""
    relative = relative_output_norm(norms, axis=0)
    return _shares(
        np.where(np.isnan(relative)[..., None], np.nan, relative[..., None] < NORMS), group
    )


def _above(importance: Floats, group: NDArray[Any]) -> tuple[Floats, ...]:
    """Share of samples in which the first key's importance is above each threshold: (threshold,)."""
    alpha = importance[:, None]
    return _columns(np.where(np.isnan(alpha), np.nan, alpha > np.array(MASSES)), group)


def _shares(flags: Floats, group: NDArray[Any]) -> tuple[Floats, ...]:
    """Means over samples of (head, sample, threshold)."""
    found = np.array([_columns(head, group) for head in flags])
    return tuple(np.moveaxis(found, 1, 0))


def _magnitude(magnitude: Floats, group: NDArray[Any]) -> tuple[Floats, ...]:
    return _columns(magnitude, group)


def _ratio(magnitude: Floats, median: Floats, group: NDArray[Any]) -> tuple[float, ...]:
    """Geometric mean of the ratio over samples, its interval made on the logarithm."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(magnitude.astype(np.float64) / median)
    if not np.isfinite(logs).all():
        return (float("nan"),) * 4
    value, error, lower, upper = _mean(logs, group)
    return float(np.exp(value)), error, float(np.exp(lower)), float(np.exp(upper))


def _massive_share(magnitude: Floats, median: Floats, group: NDArray[Any]) -> tuple[float, ...]:
    return _mean(is_massive(magnitude, median), group)


def _place(feature: NDArray[Any], position: NDArray[Any]) -> tuple[float, ...]:
    """The commonest feature and position (sample,) of the largest activation, and how common they are."""
    found: list[float] = []
    for values in (feature, position):
        names, counts = np.unique(values, return_counts=True)
        found += [float(names[counts.argmax()]), counts.max() / len(values)]
    return tuple(found)


def _sink_row(
    name: str, convention: str, variable: str, function: Any, source: str, *more: Read
) -> Row:
    read = Read(f"sinks/{variable}", ("sink_sample",), _FIRST)
    return Reduce(
        name,
        convention,
        (read, *more, _GROUP),
        function,
        unit="1",
        source=source,
        interval=CLUSTERS,
    )


def _largest(variable: str, rank: int | None = 1) -> Read:
    core = ("massive_sample",) if rank or variable == "median" else ("massive_sample", "largest")
    select = {"largest": rank} if rank and variable != "median" else {}
    return Read(f"massive/{variable}", core, select)


_MASSIVE_GROUP = Read("massive/massive_group", ("massive_sample",))
_SUN = f"|x| > {ABSOLUTE:g} and > {RATIO:g} × the median |x| of the sample's states, 2402.17762 §2"

ROWS: list[Row] = [
    _sink_row(
        "sink_rate",
        "gu2025",
        "window_importance",
        _sink_rate,
        f"{_GU}; windows of the first tokens",
    ),
    _sink_row(
        "sink_rate",
        "gu2025_without_first_row",
        "window_importance",
        _without_first_row,
        f"{_GU}, less the 1 that row 0 has by force",
        Read("sinks/window_length", ("sink_sample",)),
    ),
    _sink_row("sink_rate", "whole_sample", "importance", _sink_rate, f"{_GU}, over whole samples"),
    Reduce(
        "model_sink_rate",
        "gu2025",
        (Read("sinks/window_importance", ("block", "head", "sink_sample"), _FIRST), _GROUP),
        _model_rate,
        unit="1",
        source=f"Sink_1: mean over blocks and heads of {_GU}",
        interval=CLUSTERS,
    ),
    Reduce(
        "sink_rate_by_key",
        "gu2025",
        (Read("sinks/window_importance", ("sink_sample", "key")), _GROUP),
        _rate_by_key,
        unit="1",
        source=f"α_k > {THRESHOLD:g} of the first keys, 2410.10781 §3",
        interval=CLUSTERS,
        core=("key",),
    ),
    Reduce(
        "sink_mass",
        "by_key",
        (
            Read("sinks/window_importance", ("sink_sample", "key")),
            Read("sinks/window_length", ("sink_sample",)),
            _GROUP,
        ),
        _mass_by_key,
        unit="1",
        source="α_k = 1/(T − k + 1) Σ_{i ≥ k} A_ik of the first keys, 2410.10781 §3",
        interval=CLUSTERS,
        outputs=(*ESTIMATE, "uniform"),
        core=("key",),
    ),
    Reduce(
        "sink_mass",
        "by_class",
        (Read("sinks/class_mass", ("sink_sample", "key_class")), _GROUP),
        _columns,
        unit="1",
        source="share of attention to the first key, to separators, to delimiters and to the rest",
        interval=CLUSTERS,
        core=("key_class",),
    ),
    Reduce(
        "sink_mass",
        "by_class_over_uniform",
        (
            Read("sinks/class_mass", ("sink_sample", "key_class")),
            Read("sinks/uniform_class_mass", ("sink_sample", "key_class")),
            _GROUP,
        ),
        _over_uniform,
        unit="1",
        source="the same over what uniform causal attention gives these keys",
        interval=CLUSTERS,
        core=("key_class",),
    ),
    Reduce(
        "head_output_norm",
        "relative_to_block",
        (Read("sinks/output_norm", ("head", "sink_sample")), _GROUP),
        _relative_norm,
        unit="1",
        source="mean norm of a head's output before the output projection over the mean of its block's "
        "heads; after 2504.03889, whose formula was not read",
        interval=CLUSTERS,
        core=("head",),
    ),
    Reduce(
        "inactive_head",
        "output_norm",
        (Read("sinks/output_norm", ("head", "sink_sample")), _GROUP),
        _below,
        unit="1",
        source="share of samples whose head_output_norm/relative_to_block is below the threshold",
        interval=CLUSTERS,
        core=("head", "norm_threshold"),
        labels={"norm_threshold": NORMS},
    ),
    Reduce(
        "inactive_head",
        "first_key",
        (Read("sinks/importance", ("sink_sample",), _FIRST), _GROUP),
        _above,
        unit="1",
        source="share of samples whose first key has more than the threshold; after 2504.03889, AWFT",
        interval=CLUSTERS,
        core=("mass_threshold",),
        labels={"mass_threshold": MASSES},
    ),
    Reduce(
        "largest_activation",
        "sun2024",
        (_largest("magnitude", None), _MASSIVE_GROUP),
        _magnitude,
        unit="activation",
        source="the three largest |x| of a sample's states, mean over samples, 2402.17762 fig. 2",
        interval=CLUSTERS,
        core=("largest",),
    ),
    Reduce(
        "median_activation",
        "sun2024",
        (_largest("median"), _MASSIVE_GROUP),
        _mean,
        unit="activation",
        source="median |x| of a sample's states, mean over samples, 2402.17762 fig. 2",
        interval=CLUSTERS,
    ),
    Reduce(
        "massive_ratio",
        "geometric",
        (_largest("magnitude"), _largest("median"), _MASSIVE_GROUP),
        _ratio,
        unit="1",
        source="largest |x| over median |x|, geometric mean over samples; 2402.17762 §2 asks for 1000",
        interval=f"{CLUSTERS}, on the logarithm",
    ),
    Reduce(
        "massive_share",
        "sun2024",
        (_largest("magnitude"), _largest("median"), _MASSIVE_GROUP),
        _massive_share,
        unit="1",
        source=f"share of samples with a massive activation: {_SUN}",
        interval=CLUSTERS,
    ),
    Reduce(
        "massive_place",
        "commonest",
        (_largest("feature"), _largest("position")),
        _place,
        unit="1",
        source="feature, and position from 0, where the largest |x| of a sample is most often",
        outputs=("value", "feature_share", "position", "position_share"),
    ),
]
