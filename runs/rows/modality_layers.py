"""Rows of modalities layer by layer: which answer leads, and how often the lead changes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.means import clustered_mean
from probes.modality import (
    NEAR,
    oscillations,
    oscillations_by_third,
    sign_changes,
    swapped_labels,
)
from probes.oscillation import THIRDS
from runs.rows.base import ESTIMATE, Row
from runs.rows.modality_balance import balance, fixed_places
from runs.rows.modality_cases import (
    BOTH,
    DELTA_BINS,
    LOGITS,
    TEXT_TIERS,
    VISUAL_TIERS,
    Answered,
    Bools,
    Floats,
    each,
    row,
    strata,
)

_PAPER = "arXiv 2511.02243"
_LEADING = ("vocabulary", "answers")
_DEPTHS = ("all", *THIRDS)
_SEED = 0
_MEANS = (*ESTIMATE, "cases")
_COUNTS = (*ESTIMATE, "null", "null_lower", "null_upper", "cases")
_WHERE = {
    "near": f"within {NEAR:g} of the balance point",
    "clear": f"further than {NEAR:g} from the balance point",
    "irrelevant": "text or image about another thing",
}


def region(cases: Answered, name: str) -> Bools:
    """Cases near the balance point, clear of it, or of an irrelevant modality.

    Without a balance point there is neither near nor clear.
    """
    if name == "irrelevant":
        known = (cases.image >= 0) & (cases.text >= 0) & (cases.image != cases.text)
        irrelevant = np.char.startswith(cases.kind, "irrelevant")
        # The modality that speaks of what is asked is to be answered, as both are in conflicts.
        return np.asarray(irrelevant & known & cases.right[_speaking(cases), np.arange(len(known))])
    place = balance(cases, cases.solved)[0]
    away = np.abs(cases.delta - place)
    close = away <= NEAR if name == "near" else away > NEAR
    return np.asarray(cases.solved & close)


def _speaking(cases: Answered) -> NDArray[np.intp]:
    """Place in `Answered.right` of the modality that speaks of what is asked: the image first."""
    return np.asarray(cases.kind == "irrelevant_image").astype(np.intp)


def _sides(
    cases: Answered, logits: NDArray[Any], part: Bools, image: NDArray[Any], text: NDArray[Any]
) -> list[NDArray[np.int8]]:
    """Which side leads at each block, (sample, block), in the vocabulary and of the two alone."""
    rows = np.flatnonzero(part)
    image, text = image[rows], text[rows]
    top = cases.top1[BOTH, 1:-1][:, rows].T
    tokens = cases.token[rows]
    at = np.arange(len(rows))
    own = [tokens[at, candidate][:, None] for candidate in (text, image)]
    lead = (top == own[0]).astype(np.int8) - (top == own[1]).astype(np.int8)
    both = logits[BOTH, 1:-1][:, rows]
    difference = both[:, at, text] - both[:, at, image]
    return [lead, sign_changes(difference.T)]


def _counts(sides: NDArray[np.int8]) -> NDArray[np.int64]:
    """Switches of each case in all blocks and in each third (sample, 4)."""
    return np.concatenate([oscillations(sides)[:, None], oscillations_by_third(sides)], axis=1)


def _oscillation(cases: Answered, logits: NDArray[Any], *, where: str) -> tuple[Floats, ...]:
    """Mean switches a case (leading, depth), and the same between two swapped labels."""
    part = region(cases, where)
    given = (cases.token >= 0).sum(1)
    one, two = swapped_labels(cases.image, cases.text, given, seed=_SEED)
    swapped = part & (one >= 0)
    own = _means(_sides(cases, logits, part, cases.image, cases.text), cases.group[part])
    null = _means(_sides(cases, logits, swapped, one, two), cases.group[swapped])
    shape = (len(_LEADING), len(_DEPTHS))
    return (*own, null[0], *null[2:], np.full(shape, float(part.sum())))


def _means(sides: list[NDArray[np.int8]], group: NDArray[Any]) -> list[Floats]:
    """Value, error and interval, each (leading, depth)."""
    found = [[clustered_mean(column[:, None], group) for column in _counts(one).T] for one in sides]
    return list(np.moveaxis(np.array(found, np.float64), -1, 0))


def _by_delta(cases: Answered, logits: NDArray[Any]) -> tuple[Floats, ...]:
    """Logit differences (layer, delta_bin)."""
    rows = np.flatnonzero(cases.solved & ~np.isnan(cases.delta))
    places = fixed_places(cases.delta[rows])
    parts = [places == place for place in range(len(DELTA_BINS))]
    return _logit_differences(cases, logits, rows, parts)


def _by_tiers(cases: Answered, logits: NDArray[Any]) -> tuple[Floats, ...]:
    """Logit differences (layer, text_tier, visual_tier)."""
    rows = np.flatnonzero(cases.solved)
    parts = [
        text & visual
        for text in strata(cases.text_tier[rows], TEXT_TIERS)
        for visual in strata(cases.visual_tier[rows], VISUAL_TIERS)
    ]
    found = _logit_differences(cases, logits, rows, parts)
    return tuple(one.reshape(len(one), len(TEXT_TIERS), len(VISUAL_TIERS)) for one in found)


def _logit_differences(
    cases: Answered, logits: NDArray[Any], rows: NDArray[np.intp], parts: list[Bools]
) -> tuple[Floats, ...]:
    """Mean logit of the text's answer less that of the image's of parts of rows (layer, part)."""
    at = np.arange(len(rows))
    both = logits[BOTH][:, rows].astype(np.float64)
    difference = both[:, at, cases.text[rows]] - both[:, at, cases.image[rows]]

    def layer(values: Floats) -> tuple[Floats, ...]:
        def one(inside: Bools) -> tuple[float, ...]:
            mean = clustered_mean(values[inside, None], cases.group[rows[inside]])
            return (*mean, float(inside.sum()))

        return each(one, parts, _MEANS)

    found = [layer(values) for values in difference]
    return tuple(np.stack(column) for column in zip(*found, strict=True))


ROWS: list[Row] = [
    *(
        row(
            "oscillation",
            where,
            partial(_oscillation, where=where),
            unit="1",
            source=f"switches of the leading answer between blocks, a case, {what}; answers: of the two "
            f"alone; null: between two candidates that nothing supports; {_PAPER} §4.2, Fig. 5",
            extra=(LOGITS,),
            outputs=_COUNTS,
            core=("leading", "depth"),
            labels={"leading": _LEADING, "depth": _DEPTHS},
        )
        for where, what in _WHERE.items()
    ),
    row(
        "logit_difference",
        "by_delta",
        _by_delta,
        unit="1",
        source=f"logit of the text's answer less that of the image's, by layer and ΔH; {_PAPER} Fig. 6",
        extra=(LOGITS,),
        outputs=_MEANS,
        core=("layer", "delta_bin"),
        version=2,
        labels={"delta_bin": DELTA_BINS},
    ),
    row(
        "logit_difference",
        "by_tiers",
        _by_tiers,
        unit="1",
        source=f"the same by text tier and visual tier; {_PAPER} Fig. 6b",
        extra=(LOGITS,),
        outputs=_MEANS,
        core=("layer", "text_tier", "visual_tier"),
        labels={"text_tier": TEXT_TIERS, "visual_tier": VISUAL_TIERS},
    ),
]
