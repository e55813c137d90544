"""Rows of what makes a model follow image or text: carried-over states, and a direction that is added."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.means import clustered_mean
from probes.patching import normalised_recovery
from runs.rows.base import ESTIMATE, Read, Reduce, Row

Floats = NDArray[np.float64]

_SITES = (
    "at the answer's position, the image's, the text's and question's, or all; easiest text with hardest "
    "image against easiest image with hardest text"
)
_COUNTED = (*ESTIMATE, "cases")
_GROUPS = "over groups, Student t, 95 %"


def _recovered(
    patched: NDArray[Any], receiver: NDArray[Any], donor: NDArray[Any], groups: NDArray[Any]
) -> tuple[Any, ...]:
    return tuple(normalised_recovery(patched, receiver, donor, groups))


def _moved(patched: NDArray[Any], receiver: NDArray[Any], groups: NDArray[Any]) -> tuple[Any, ...]:
    """Mean change of the logit difference (pair,)."""
    return tuple(clustered_mean((patched - receiver)[:, None], groups))


def _following(difference: NDArray[Any], other: NDArray[Any], groups: NDArray[Any]) -> Any:
    """Share of cases that follow the text, of those that follow either modality (case,)."""
    return _mean(_followed(difference, other), groups)


def _mean(values: Floats, groups: NDArray[Any]) -> tuple[Any, ...]:
    """Mean by group, and of how many cases it is."""
    there = float(np.count_nonzero(~np.isnan(values)))
    return (*clustered_mean(values[:, None], groups), there)


def _followed(difference: NDArray[Any], other: NDArray[Any]) -> Floats:
    return np.where(np.isnan(difference) | (other > 0.5), np.nan, (difference > 0).astype(float))


def _turned(difference: NDArray[Any], other: NDArray[Any], groups: NDArray[Any]) -> Any:
    """Following at the largest strength less that at the smallest, of (strength, case); paired."""
    ends = _followed(difference[-1], other[-1]) - _followed(difference[0], other[0])
    return _mean(ends, groups)


def _neither(other: NDArray[Any], groups: NDArray[Any]) -> Any:
    return _mean(np.asarray(other, float), groups)


_PATCHED = Read("modality_patching/patched", ("pair",))
_RECEIVER = Read("modality_patching/receiver", ("pair",))
_PAIR = Read("modality_patching/pair_group", ("pair",))
_PUSHED = tuple(
    Read(f"modality_steering/{name}", ("near_case",)) for name in ("difference", "other")
)
_CASE = Read("modality_steering/steered_group", ("near_case",))
_ENDS = tuple(
    Read(f"modality_steering/{name}", ("strength", "near_case")) for name in ("difference", "other")
)
_STEERED = (
    "difference of mean states between following text and following the image (2310.06824), fitted on "
    "other groups, added at the answer's position of cases nearest the balance point of 2511.02243; "
    "random directions as long beside it"
)

ROWS: list[Row] = [
    Reduce(
        "modality_recovery",
        "ratio_of_sums",
        (_PATCHED, _RECEIVER, Read("modality_patching/donor", ("pair",)), _PAIR),
        _recovered,
        unit="1",
        source="Σ (patched − receiver) / Σ (donor − receiver) of the logit difference text − image, "
        f"states carried over {_SITES}; 2309.16042 §2",
        interval=f"jackknife {_GROUPS}",
        version=2,  # NaN where donors and receivers differ by rounding
    ),
    Reduce(
        "modality_patching_effect",
        "logit_difference",
        (_PATCHED, _RECEIVER, _PAIR),
        _moved,
        unit="logit",
        source=f"mean change of the logit difference text − image, states carried over {_SITES}",
        interval=f"spread {_GROUPS}",
    ),
    Reduce(
        "steered_following",
        "top1",
        (*_PUSHED, _CASE),
        _following,
        unit="1",
        outputs=_COUNTED,
        version=2,
        source=f"share that answers as the text says, of those that follow either: {_STEERED}",
        interval=f"spread {_GROUPS}",
    ),
    Reduce(
        "steered_range",
        "largest_minus_smallest",
        (*_ENDS, _CASE),
        _turned,
        unit="1",
        outputs=_COUNTED,
        version=2,
        source="text-following at the largest strength less that at the smallest, cases that follow "
        f"either at both: {_STEERED}",
        interval=f"paired, spread {_GROUPS}",
    ),
    Reduce(
        "steered_other",
        "top1",
        (_PUSHED[1], _CASE),
        _neither,
        unit="1",
        outputs=_COUNTED,
        version=2,
        source=f"share whose strongest word is neither answer: {_STEERED}",
        interval=f"spread {_GROUPS}",
    ),
]
