"""Rows of text-following against relative uncertainty: curves, balance points, monotonicity."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.balance_curves import equal_count_places
from probes.means import clustered_mean
from probes.modality import REASONS, balance_point, high_total, monotonicity
from runs.rows.base import ESTIMATE, Row
from runs.rows.modality_cases import (
    BY_GROUP,
    CONFIDENCE,
    DELTA_BINS,
    LOGITS,
    MARGIN,
    SUBSETS,
    TEXT_TIERS,
    VISUAL_TIERS,
    WIDTH,
    Answered,
    Bools,
    Floats,
    alternative,
    each,
    grid,
    row,
    strata,
)

RESAMPLES = 299
BINS, FEW_BINS = 10, 5
_PAPER = "arXiv 2511.02243"
_BOOTSTRAP = f"percentile of {RESAMPLES} resamplings of groups, 95 %"
_OF = "conflicts solved by each modality alone"
_BALANCE = (
    *("value", "lower", "upper", "crossed", "reason", "extrapolated", "slope", "cases", "groups"),
)
_MONOTONE = (*ESTIMATE, "p_value", "residual", "decreasing", "cases")
_CURVE = (*ESTIMATE, "delta", "cases")
_SUBSET = {"core": ("subset",), "labels": {"subset": SUBSETS}}
_TEXT_TIER = {"core": ("text_tier",), "labels": {"text_tier": TEXT_TIERS}}
_CODES = ", ".join(f"{i} {name}" for i, name in enumerate(REASONS) if name)


def balance(cases: Answered, part: Bools, *, method: Any = "logistic") -> tuple[float, ...]:
    """The balance point of some cases, its reason as the index into `REASONS`."""
    found = balance_point(
        cases.delta[part],
        cases.follows[part],
        groups=cases.group[part],
        method=method,
        resamples=RESAMPLES,
    )
    return tuple(
        float(REASONS.index(value)) if name == "reason" else float(value)
        for name, value in found._asdict().items()
    )


def parts_of(cases: Answered) -> dict[str, Bools]:
    """Solved conflicts, and the parts of them that are looked at alone."""
    solved = cases.solved
    high = np.zeros(len(solved), bool)
    high[solved] = high_total(*(h[solved] for h in cases.certainty))
    return {
        "all": solved,
        "low_entropy": solved & ~high,
        "high_entropy": high,
        "graded": solved & cases.graded,
    }


def _balance(cases: Answered, *, part: str, method: str) -> tuple[float, ...]:
    return balance(cases, parts_of(cases)[part], method=method)


def _balance_by(cases: Answered, *, column: str, labels: tuple[Any, ...]) -> tuple[Floats, ...]:
    parts = [cases.solved & part for part in strata(getattr(cases, column), labels)]
    return each(partial(balance, cases), parts, _BALANCE)


def _monotone(x: Floats, cases: Answered, part: Bools, flips: int = 999) -> tuple[float, ...]:
    found = monotonicity(x[part], cases.follows[part], cases.group[part], flips=flips)
    return tuple(map(float, found))


def _monotone_of(cases: Answered, *, part: str) -> tuple[float, ...]:
    return _monotone(cases.delta, cases, parts_of(cases)[part])


def _monotone_by_text(cases: Answered) -> tuple[Floats, ...]:
    parts = [cases.solved & part for part in strata(cases.text_tier, TEXT_TIERS)]
    return each(lambda part: _monotone(cases.delta, cases, part), parts, _MONOTONE)


def _monotone_by_tiers(cases: Answered) -> tuple[Floats, ...]:
    def one(part: Bools) -> tuple[float, ...]:
        return _monotone(cases.delta, cases, part & cases.solved, flips=0)

    return grid(one, cases, _MONOTONE)


def _monotone_other(cases: Answered, extra: Any = None, *, index: str) -> tuple[float, ...]:
    return _monotone(alternative(index, cases, extra), cases, cases.solved)


def _curve(cases: Answered, part: Bools, places: NDArray[Any], count: int) -> tuple[Floats, ...]:
    """Rate of following the text in each bin, with mean ΔH and the number of cases."""
    there = np.flatnonzero(part & ~np.isnan(cases.follows) & ~np.isnan(cases.delta))

    def one(inside: Bools) -> tuple[float, ...]:
        rows = there[inside]
        rate = clustered_mean(cases.follows[rows, None], cases.group[rows])
        return (*rate, float(cases.delta[rows].mean()), float(len(rows)))

    return each(one, [places == place for place in range(count)], _CURVE)


def _equal_count(cases: Answered, part: Bools, bins: int) -> tuple[Floats, ...]:
    there = part & ~np.isnan(cases.follows) & ~np.isnan(cases.delta)
    return _curve(cases, part, equal_count_places(cases.delta[there], bins=bins), bins)


def _curve_of(cases: Answered, *, part: str) -> tuple[Floats, ...]:
    return _equal_count(cases, parts_of(cases)[part], BINS)


def _curve_by(cases: Answered, *, column: str, labels: tuple[Any, ...]) -> tuple[Floats, ...]:
    parts = [cases.solved & part for part in strata(getattr(cases, column), labels)]
    found = [_equal_count(cases, part, FEW_BINS) for part in parts]
    return tuple(np.stack(one) for one in zip(*found, strict=True))


def fixed_places(delta: Floats) -> NDArray[Any]:
    """Bin of `DELTA_BINS` of each ΔH, without NaN."""
    found: NDArray[Any] = np.clip(((delta + 2) // WIDTH).astype(int), 0, len(DELTA_BINS) - 1)
    return found


def _fixed(cases: Answered) -> tuple[Floats, ...]:
    there = cases.solved & ~np.isnan(cases.follows) & ~np.isnan(cases.delta)
    return _curve(cases, cases.solved, fixed_places(cases.delta[there]), len(DELTA_BINS))


def _balance_row(convention: str, function: Any, what: str, **more: Any) -> Row:
    return row(
        "balance_point",
        convention,
        function,
        unit="1",
        source=f"ΔH at which text-following falls through ½, {what}; reason: {_CODES}; {_PAPER} §3.3",
        interval=_BOOTSTRAP,
        outputs=_BALANCE,
        version=2,
        **more,
    )


def _monotone_row(convention: str, function: Any, what: str, **more: Any) -> Row:
    return row(
        "following_monotone",
        convention,
        function,
        unit="1",
        source=f"Spearman of following the text with {what}, {_OF}; p_value: signs of groups' shares "
        f"drawn anew; residual of the isotonic fit, share of falling bins; after {_PAPER} §3.2",
        interval="infinitesimal jackknife by group, Fisher's z, 95 %",
        outputs=_MONOTONE,
        version=3,
        **more,
    )


def _curve_row(convention: str, function: Any, what: str, **more: Any) -> Row:
    return row(
        "following_curve",
        convention,
        function,
        unit="1",
        source=f"share that follows the text against ΔH, {what}; {_PAPER} Fig. 4",
        interval=BY_GROUP,
        outputs=_CURVE,
        **more,
    )


_PARTS = {
    "low_entropy": "H_t + H_v at or below its median",
    "high_entropy": "H_t + H_v above its median",
    "graded": "texts of typicality below 1",
}
_BIN = {"core": ("curve_bin",), "labels": {"curve_bin": tuple(range(1, BINS + 1))}}
_FEW = tuple(range(1, FEW_BINS + 1))
_BY: tuple[tuple[str, str, tuple[Any, ...]], ...] = (
    ("text_tier", "by text tier", TEXT_TIERS),
    ("visual_tier", "by visual tier", VISUAL_TIERS),
    ("subset", "by what is asked", SUBSETS),
)

ROWS: list[Row] = [
    _balance_row("logistic", partial(_balance, part="all", method="logistic"), "logistic fit"),
    _balance_row("isotonic", partial(_balance, part="all", method="isotonic"), "isotonic fit"),
    _balance_row(
        "binned", partial(_balance, part="all", method="binned"), f"{BINS} equal-count bins"
    ),
    *(
        _balance_row(
            f"logistic_{part}", partial(_balance, part=part, method="logistic"), f"logistic, {what}"
        )
        for part, what in _PARTS.items()
    ),
    *(
        _balance_row(
            f"logistic_by_{column}",
            partial(_balance_by, column=column, labels=labels),
            f"logistic, {what}",
            core=(column,),
            labels={column: labels},
        )
        for column, what, labels in _BY
    ),
    _curve_row("binned", partial(_curve_of, part="all"), f"{BINS} equal-count bins", **_BIN),
    *(
        _curve_row(part, partial(_curve_of, part=part), f"{BINS} equal-count bins, {what}", **_BIN)
        for part, what in _PARTS.items()
    ),
    *(
        _curve_row(
            f"by_{column}",
            partial(_curve_by, column=column, labels=labels),
            f"{FEW_BINS} equal-count bins, {what}",
            core=(column, "curve_bin"),
            labels={column: labels, "curve_bin": _FEW},
        )
        for column, what, labels in _BY
    ),
    _curve_row(
        "fixed",
        _fixed,
        f"bins {WIDTH:g} wide",
        core=("delta_bin",),
        labels={"delta_bin": DELTA_BINS},
    ),
    _monotone_row("spearman", partial(_monotone_of, part="all"), "ΔH"),
    _monotone_row("graded", partial(_monotone_of, part="graded"), "ΔH, typicality below 1"),
    _monotone_row("by_text_tier", _monotone_by_text, "ΔH, by text tier", **_TEXT_TIER),
    _monotone_row(
        "by_tiers",
        _monotone_by_tiers,
        "ΔH, by text tier and visual tier",
        core=("text_tier", "visual_tier"),
        labels={"text_tier": TEXT_TIERS, "visual_tier": VISUAL_TIERS},
    ),
    _monotone_row("difference", partial(_monotone_other, index="difference"), "H_t − H_v"),
    _monotone_row(
        "candidates",
        partial(_monotone_other, index="candidates"),
        "ΔH over the candidates",
        extra=(LOGITS,),
    ),
    _monotone_row(
        "confidence",
        partial(_monotone_other, index="confidence"),
        "the same ratio of 1 − p_max",
        extra=(CONFIDENCE,),
    ),
    _monotone_row(
        "margin",
        partial(_monotone_other, index="margin"),
        "the same ratio of 1 − (p_1 − p_2)",
        extra=(MARGIN,),
    ),
]
