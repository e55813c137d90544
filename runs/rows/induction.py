"""Rows of what heads do: on repeated tokens, by their weights and by the loss's gradient."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.emergence import emergence
from probes.means import clustered_mean
from runs.rows.base import Read, Reduce, Row

Floats = NDArray[np.float64]

BEHAVIOURS = ("previous", "duplicate", "induction", "first_key")
THRESHOLD = 0.3  # the ε of sinks in arXiv 2410.10781, for all of them alike
_SAMPLES = "spread over samples, 95 %"
_REPEATED = "on repeated random tokens; 2209.11895"
_VALID = f"rows that follow a repeated token only, {_REPEATED}"
_NAIVE = f"the whole diagonal of the matrix, BOS included, for comparison, {_REPEATED}"


def _mean(values: NDArray[Any]) -> tuple[Any, ...]:
    """Mean over samples (sample,)."""
    return tuple(clustered_mean(values[:, None], np.arange(len(values))))


def _difference(later: NDArray[Any], first: NDArray[Any]) -> tuple[Any, ...]:
    """Mean over samples of a paired difference."""
    return _mean(later - first)


def _emerged(*curves: Any, threshold: float) -> tuple[Floats, Floats]:
    """Whether each behaviour has emerged for good by each checkpoint; (checkpoint, behaviour).

    curves are (checkpoint, sample) of each behaviour, then the branch of each checkpoint.
    """
    *masses, branch = curves
    value = np.full((len(branch), len(masses)), np.nan)
    probability = value.copy()
    for column, mass in enumerate(masses):
        for name in np.unique(branch):
            own = np.flatnonzero(branch == name)
            means = [clustered_mean(row[:, None], np.arange(len(row))) for row in mass[own]]
            found = emergence(
                np.array([m.value for m in means]),
                np.array([m.standard_error for m in means]),
                threshold=threshold,
            )
            probability[own, column] = found.probability
            value[own, column] = np.where(
                np.isnan([m.value for m in means]), np.nan, np.arange(len(own)) >= found.first
            )
    return value, probability


def _importance(gradient: NDArray[Any]) -> tuple[Any, ...]:
    """Mean over samples of the gradient's absolute value."""
    return _mean(np.abs(gradient))


def _layer_importance(gradient: NDArray[Any]) -> Floats:
    """The same (head, sample) -> (head,), divided by its 2-norm over the heads of a block."""
    each = np.abs(gradient).mean(axis=1)
    norm = float(np.linalg.norm(each))
    found: Floats = each / norm if norm > 0 else np.full_like(each, np.nan)
    return found


def _increases(loss: NDArray[Any]) -> tuple[Floats, ...]:
    """Increase of loss (group, sample) without each group of heads over that without none."""
    found = [_difference(one, loss[0]) for one in loss]
    return tuple(np.array(column) for column in zip(*found, strict=True))


def _reading(name: str, convention: str, reading: str, source: str, unit: str = "1") -> Row:
    return Reduce(
        name,
        convention,
        (Read("repeated_heads/mass", ("sample",), {"reading": reading}),),
        _mean,
        unit=unit,
        source=source,
        interval=_SAMPLES,
    )


_LOSS = Read("repeated_heads/loss", ("sample",))

ROWS: list[Row] = [
    _reading("induction_score", "valid_rows", "induction", f"attention at offset S − 1, {_VALID}"),
    _reading(
        "induction_score",
        "naive_diagonal",
        "induction_naive",
        f"diagonal at offset S − 1: {_NAIVE}",
    ),
    _reading(
        "previous_token_score", "valid_rows", "previous", f"attention at offset 1, {_REPEATED}"
    ),
    _reading(
        "previous_token_score",
        "naive_diagonal",
        "previous_naive",
        f"diagonal at offset 1: {_NAIVE}",
    ),
    _reading(
        "duplicate_token_score", "valid_rows", "duplicate", f"attention at offset S, {_VALID}"
    ),
    _reading(
        "duplicate_token_score",
        "naive_diagonal",
        "duplicate_naive",
        f"diagonal at offset S: {_NAIVE}",
    ),
    _reading(
        "prefix_matching",
        "total",
        "prefix_total",
        f"attention to the tokens after all earlier copies, summed, {_VALID}",
    ),
    _reading(
        "prefix_matching",
        "olsson2022",
        "prefix_mean",
        "mean over all entries at tokens after earlier copies, head activation evaluators of 2209.11895",
    ),
    _reading(
        "repeated_first_key",
        "mean",
        "first_key",
        "attention to the first token from the second copy on, repeated random tokens; 2410.10781",
    ),
    _reading(
        "repeated_uniformity",
        "normalised_visible",
        "uniformity",
        "row entropy over ln(visible keys) from the second copy on, repeated random tokens",
    ),
    Reduce(
        "repeated_loss",
        "by_copy",
        (_LOSS,),
        _mean,
        unit="nats",
        source="mean surprisal of each copy of a repeated period without its first token; 2209.11895",
        interval=_SAMPLES,
    ),
    Reduce(
        "induction_gain",
        "second_minus_first",
        (
            Read("repeated_heads/loss", ("sample",), {"copy": 2}),
            Read("repeated_heads/loss", ("sample",), {"copy": 1}),
        ),
        _difference,
        unit="nats",
        source="mean surprisal of the second copy less that of the first; below 0 the model learns in "
        "context; after 2209.11895",
        interval=f"paired, {_SAMPLES}",
    ),
    Reduce(
        "head_emergence",
        "above_0.3",
        (
            *(
                Read("repeated_heads/mass", ("checkpoint", "sample"), {"reading": name})
                for name in BEHAVIOURS
            ),
            Read("repeated_heads/branch", ("checkpoint",)),
        ),
        partial(_emerged, threshold=THRESHOLD),
        unit="1",
        source=f"1 from the checkpoint on from which attention stays at or above {THRESHOLD:g}; "
        "probability: of that, from its standard errors",
        interval="normal errors of each checkpoint, taken as independent",
        outputs=("value", "probability"),
        core=("checkpoint", "behaviour"),
        labels={"behaviour": BEHAVIOURS},
    ),
    Reduce(
        "ov_copying",
        "elhage2021",
        (Read("ov_copying/score"),),
        np.asarray,
        unit="1",
        source="Σ λ / Σ |λ| of W_E W_V W_O W_U, norms' gains and centring folded in (Elhage et al. 2021)",
        outputs=("value",),
    ),
    Reduce(
        "head_importance",
        "michel2019",
        (Read("head_importance/gradient", ("gated_sample",)),),
        _importance,
        unit="nats",
        source="E |∂L/∂ξ|, ξ a gate on the head's output; 1905.10650 §2.3",
        interval=_SAMPLES,
    ),
    Reduce(
        "head_importance",
        "michel2019_layer",
        (Read("head_importance/gradient", ("head", "gated_sample")),),
        _layer_importance,
        unit="1",
        source="E |∂L/∂ξ| over its 2-norm over the heads of a block; 1905.10650 §2.3",
        outputs=("value",),
        core=("head",),
    ),
    Reduce(
        "induction_ablation",
        "zero",
        (Read("induction_ablation/loss", ("group", "ablated_sample")),),
        _increases,
        unit="nats",
        source="loss of each copy without the strongest induction heads, and without random groups of as "
        "many others, less that of the whole model; after 2209.11895, argument 3",
        interval=f"paired, {_SAMPLES}",
        core=("group",),
    ),
]
