"""Rows of modalities in conflict: what each alone answers, how sure it is, and which is followed."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.means import clustered_mean
from probes.modality import candidate_entropy, following_rate, saturated_share
from runs.rows import modality_balance, modality_layers
from runs.rows.base import ESTIMATE, Row
from runs.rows.modality_cases import (
    BOTH,
    DELTA_BINS,
    IMAGE,
    LOGITS,
    SPEAKS_OF_TARGET,
    SUBSETS,
    TEXT,
    TEXT_TIERS,
    VISUAL_TIERS,
    WIDTH,
    Answered,
    Bools,
    Floats,
    each,
    grid,
    row,
    strata,
)

_PAPER = "arXiv 2511.02243"
_TIERS = {"visual_tier": VISUAL_TIERS, "text_tier": TEXT_TIERS}
_SOLVED = "conflicts solved by each modality alone"
_RATE = (*ESTIMATE, "other", "cases")


def _mean(values: Any, group: Any, part: Bools) -> tuple[float, ...]:
    return tuple(clustered_mean(np.asarray(values, np.float64)[part, None], group[part]))


def _asked(cases: Answered, modality: int) -> Bools:
    """Cases in which this modality speaks of what is asked."""
    return np.isin(cases.kind, SPEAKS_OF_TARGET[modality])


def _accuracy(cases: Answered, *, modality: int, tiers: bool) -> tuple[Any, ...]:
    right, asked = cases.right[modality], _asked(cases, modality)
    mean = partial(_mean, right, cases.group)
    if not tiers:
        return mean(asked)
    column, labels = (
        (cases.visual_tier, VISUAL_TIERS) if modality == IMAGE else (cases.text_tier, TEXT_TIERS)
    )
    return each(mean, [asked & part for part in strata(column, labels)], ESTIMATE)


def _agreement(cases: Answered) -> tuple[Any, ...]:
    """How often the shared answer is given where image and text agree."""
    right = cases.said[BOTH] == cases.supported(cases.image)
    return _mean(right, cases.group, cases.kind == "agreement")


def _entropies(cases: Answered, by_modality: Floats) -> tuple[Floats, ...]:
    """Mean entropy by tier: (modality, tier), an entropy a case of each modality given."""
    columns = []
    for modality, tier in ((IMAGE, cases.visual_tier), (TEXT, cases.text_tier)):
        mean = partial(_mean, by_modality[modality], cases.group)
        asked = _asked(cases, modality)
        parts = [asked & part for part in strata(tier, TEXT_TIERS)]
        columns.append(each(mean, parts, ESTIMATE))
    return tuple(np.stack(pair) for pair in zip(*columns, strict=True))


def _full_entropy(cases: Answered) -> tuple[Floats, ...]:
    return _entropies(cases, cases.entropy[:, -1].astype(np.float64))


def _candidates_entropy(cases: Answered, logits: NDArray[Any]) -> tuple[Floats, ...]:
    return _entropies(cases, candidate_entropy(logits[:, -1]))


def _relative(cases: Answered) -> tuple[float, ...]:
    """Mean ΔH of solved conflicts, with the shares that say how far to trust it."""
    part = cases.solved
    near, beyond = saturated_share(*(h[part] for h in cases.certainty))
    return (*_mean(cases.delta, cases.group, part), near, beyond, float(part.sum()))


def _histogram(cases: Answered) -> tuple[Floats, Floats]:
    """Share of solved conflicts by ΔH, and how many there are in each bin."""
    values = cases.delta[cases.solved]
    values = values[~np.isnan(values)]
    edges = np.linspace(-2, 2, len(DELTA_BINS) + 1)
    counts = np.histogram(values, edges)[0].astype(np.float64)
    shares = counts / counts.sum() if counts.sum() else np.full_like(counts, np.nan)
    return shares, counts


def _following(cases: Answered, part: Bools) -> tuple[float, ...]:
    return tuple(following_rate(cases.follows[part], cases.group[part]))


def _pooled(cases: Answered, *, which: str) -> tuple[float, ...]:
    parts = {
        "solved_both": cases.solved,
        "graded": cases.solved & cases.graded,
        "predictions": (cases.kind == "conflict") & (cases.said[TEXT] != cases.said[IMAGE]),
    }
    return _following(cases, parts[which])


def _by_tiers(cases: Answered) -> tuple[Floats, ...]:
    return grid(lambda part: _following(cases, part & cases.solved), cases, _RATE)


def _by_subset(cases: Answered) -> tuple[Floats, ...]:
    parts = [cases.solved & part for part in strata(cases.subset, SUBSETS)]
    return each(partial(_following, cases), parts, _RATE)


_ACCURACY = [
    row(
        "modality_accuracy",
        f"{name}{'' if tiers else '_pooled'}",
        partial(_accuracy, modality=modality, tiers=tiers),
        unit="1",
        source=f"share of right answers from the {name} alone{', by its tier' * tiers}; {_PAPER} §3",
        core=(tier,) if tiers else (),
        labels={tier: _TIERS[tier]} if tiers else {},
    )
    for name, modality, tier in (("image", IMAGE, "visual_tier"), ("text", TEXT, "text_tier"))
    for tiers in (True, False)
]
_ENTROPY: dict[str, Any] = {
    "core": ("modality", "tier"),
    "labels": {"modality": ("image", "text"), "tier": TEXT_TIERS},
}
_POOLED = {
    "solved_both": f"share that follows the text of {_SOLVED}; {_PAPER} §3.1",
    "graded": f"the same where the text's words are of typicality below 1, after {_PAPER} §3.1",
    "predictions": f"the same of all conflicts with Y_t ≠ Y_v, right or wrong, after {_PAPER} §3.1",
}

ROWS: list[Row] = [
    *_ACCURACY,
    row(
        "modality_accuracy",
        "agreement",
        _agreement,
        unit="1",
        source="share of right answers where image and text agree",
    ),
    row(
        "answer_entropy",
        "full",
        _full_entropy,
        unit="nats",
        source=f"entropy of the answer over the vocabulary, one modality, by its tier; {_PAPER} Fig. 2",
        **_ENTROPY,
    ),
    row(
        "answer_entropy",
        "candidates",
        _candidates_entropy,
        unit="nats",
        source=f"the same over the candidates renormalised, after {_PAPER} Fig. 2",
        extra=(LOGITS,),
        **_ENTROPY,
    ),
    row(
        "relative_uncertainty",
        "mean",
        _relative,
        unit="1",
        source=f"mean ΔH = 2 (H_t − H_v) / (H_t + H_v) of {_SOLVED}; near_zero: share with H_t + H_v "
        f"below 0.01 nats; beyond: share with |ΔH| > 1.8; {_PAPER} §3",
        outputs=(*ESTIMATE, "near_zero", "beyond", "cases"),
    ),
    row(
        "relative_uncertainty",
        "histogram",
        _histogram,
        unit="1",
        source=f"share of {_SOLVED} in bins of ΔH {WIDTH:g} wide; {_PAPER} Fig. 3b",
        interval="",
        outputs=("value", "cases"),
        version=2,
        core=("delta_bin",),
        labels={"delta_bin": DELTA_BINS},
    ),
    *(
        row(
            "text_following",
            which,
            partial(_pooled, which=which),
            unit="1",
            source=source,
            outputs=_RATE,
        )
        for which, source in _POOLED.items()
    ),
    row(
        "text_following",
        "by_tiers",
        _by_tiers,
        unit="1",
        source=f"share that follows the text of {_SOLVED}, by text tier and visual tier",
        outputs=_RATE,
        core=("text_tier", "visual_tier"),
        version=2,
        labels={"text_tier": TEXT_TIERS, "visual_tier": VISUAL_TIERS},
    ),
    row(
        "text_following",
        "by_subset",
        _by_subset,
        unit="1",
        source=f"share that follows the text of {_SOLVED}, by what is asked",
        outputs=_RATE,
        core=("subset",),
        version=2,
        labels={"subset": SUBSETS},
    ),
    *modality_balance.ROWS,
    *modality_layers.ROWS,
]
