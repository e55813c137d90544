"""What rows about modalities read of a checkpoint's answers, decoded once for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.modality import (
    candidate_entropy,
    followed,
    relative_uncertainty,
    solved_both,
    uncertainty_difference,
)
from runs.rows.base import ESTIMATE, Read, Reduce, Row

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

IMAGE, TEXT, BOTH = 0, 1, 2  # places of runs.vision.base.CONDITIONS along `condition`
SUBSETS = ("colour", "shape", "material", "position")
VISUAL_TIERS = tuple(range(14))  # arXiv 2511.02243, Table 1
TEXT_TIERS = tuple(range(17))  # its 0 … 3; graded texts go on, and texts with two facts begin at 10
WIDTH = 0.25
DELTA_BINS = tuple((np.arange(-2, 2, WIDTH) + WIDTH / 2).tolist())
SPEAKS_OF_TARGET = {
    IMAGE: ("conflict", "agreement", "irrelevant_text"),
    TEXT: ("conflict", "agreement", "irrelevant_image"),
}
BY_GROUP = "by group of cases, Student t, 95 %"
_NOBODY = -2  # a token no answer is
_COUNTS = ("cases", "groups")  # outputs that count

_PLACES = ("condition", "layer", "sample")
_COMMON = (
    Read("answers/top1", _PLACES),
    Read("answers/entropy", _PLACES),
    Read("answers/candidate_token", ("sample", "candidate")),
    Read("answers/image_candidate", ("sample",)),
    Read("answers/text_candidate", ("sample",)),
    Read("answers/visual_tier", ("sample",)),
    Read("answers/text_tier", ("sample",)),
    Read("answers/typicality", ("sample",)),
    Read("inputs/kind", ("sample",)),
    Read("inputs/subset", ("sample",)),
    Read("inputs/group", ("sample",)),
)
LOGITS = Read("answers/candidate_logits", (*_PLACES, "candidate"))
CONFIDENCE = Read("answers/top1_probability", _PLACES)
MARGIN = Read("answers/margin", _PLACES)


@dataclass(frozen=True)
class Answered:
    """One checkpoint's answers to a set of cases.

    Attributes
    ----------
    top1 : int array (condition, layer, sample)
        Leading token of the vocabulary.
    entropy : float array (condition, layer, sample)
        Nats, over the vocabulary.
    token : int array (sample, candidate)
        First token of each candidate answer, −1 for none.
    image, text : int array (sample,)
        Candidate that the image supports, and the text; −1 for none.
    visual_tier, text_tier : int array (sample,)
        Difficulties.
    typicality : float array (sample,)
        Of the text's words, NaN where the text is certain.
    kind, subset : str array (sample,)
        As in `probes.cases.Cases`.
    group : int array (sample,)
        The unit of resampling.
    """

    top1: NDArray[Any]
    entropy: NDArray[Any]
    token: NDArray[Any]
    image: NDArray[Any]
    text: NDArray[Any]
    visual_tier: NDArray[Any]
    text_tier: NDArray[Any]
    typicality: NDArray[Any]
    kind: NDArray[Any]
    subset: NDArray[Any]
    group: NDArray[Any]

    def supported(self, candidate: NDArray[Any]) -> NDArray[Any]:
        """Token of a candidate of each sample; one that no answer is where there is none."""
        rows = np.arange(len(candidate))
        return np.where(candidate >= 0, self.token[rows, candidate], _NOBODY)

    @cached_property
    def said(self) -> NDArray[Any]:
        """The model's answers, at its output (condition, sample)."""
        return self.top1[:, -1]

    @cached_property
    def right(self) -> Bools:
        """Whether image alone, and text alone, are answered as they support (2, sample)."""
        return np.stack(
            [
                self.said[IMAGE] == self.supported(self.image),
                self.said[TEXT] == self.supported(self.text),
            ]
        )

    @cached_property
    def solved(self) -> Bools:
        """Conflicts that each modality alone solves (sample,)."""
        answers = self.supported(self.text), self.supported(self.image)
        both = solved_both(self.said[TEXT], self.said[IMAGE], *answers)
        return np.asarray((self.kind == "conflict") & both)

    @cached_property
    def follows(self) -> Floats:
        """1 text, 0 vision, NaN neither, by the model's own unimodal answers (sample,)."""
        return followed(self.said[BOTH], self.said[TEXT], self.said[IMAGE])

    @cached_property
    def certainty(self) -> tuple[Floats, Floats]:
        """Entropy at the output from text alone and from the image alone (sample,)."""
        text, image = self.entropy[[TEXT, IMAGE], -1].astype(np.float64)
        return text, image

    @cached_property
    def delta(self) -> Floats:
        """Relative uncertainty (sample,)."""
        return relative_uncertainty(*self.certainty)

    @cached_property
    def graded(self) -> Bools:
        """Cases whose text is uncertain by what its words mean (sample,)."""
        return np.asarray(self.typicality < 1)


_NAMES = tuple(field.name for field in fields(Answered))  # in the order of `_COMMON`


def answered(arrays: tuple[Any, ...]) -> Answered:
    """The cases from the arrays of `_COMMON`, text as fixed-width text."""
    kind, subset = (np.asarray(column).astype(str) for column in arrays[-3:-1])
    columns = dict(zip(_NAMES, [*arrays[:-3], kind, subset, arrays[-1]], strict=True))
    return Answered(**columns)


def alternative(name: str, cases: Answered, extra: Any) -> Floats:
    """Another index of relative uncertainty (sample,): below 0 the text is easier.

    Parameters
    ----------
    name
        "difference": H_t − H_v. "candidates": ΔH of entropies over the candidates alone. "confidence",
        "margin": ΔH's formula on 1 − p_max and 1 − (p_1 − p_2).
    cases
        The checkpoint's.
    extra
        Candidate logits, top-1 probability or margin, as the index needs; unused by "difference".

    Raises
    ------
    KeyError
        If there is no such index.
    """
    if name == "difference":
        return uncertainty_difference(*cases.certainty)
    last = np.asarray(extra, np.float64)[:, -1]
    if name == "candidates":
        return relative_uncertainty(candidate_entropy(last[TEXT]), candidate_entropy(last[IMAGE]))
    return relative_uncertainty(
        *{name: 1 - np.minimum(last[[TEXT, IMAGE]], 1) for name in ("confidence", "margin")}[name]
    )


def strata(column: NDArray[Any], labels: tuple[Any, ...]) -> list[Bools]:
    """Which cases have each label."""
    return [np.asarray(column == label) for label in labels]


def each(
    function: Callable[[Bools], tuple[float, ...]], parts: list[Bools], outputs: tuple[str, ...]
) -> tuple[Floats, ...]:
    """A function of every part of the cases, output by output; no case counts 0 and is NaN otherwise."""
    nothing = tuple(0.0 if name in _COUNTS else float("nan") for name in outputs)
    found = [function(part) if part.any() else nothing for part in parts]
    return tuple(np.array(column, np.float64) for column in zip(*found, strict=True))


def grid(
    function: Callable[[Bools], tuple[float, ...]], cases: Answered, outputs: tuple[str, ...]
) -> tuple[Floats, ...]:
    """The same of every text tier × visual tier."""
    parts = [
        text & visual
        for text in strata(cases.text_tier, TEXT_TIERS)
        for visual in strata(cases.visual_tier, VISUAL_TIERS)
    ]
    shape = (len(TEXT_TIERS), len(VISUAL_TIERS))
    return tuple(column.reshape(shape) for column in each(function, parts, outputs))


def row(
    name: str,
    convention: str,
    function: Callable[..., Any],
    *,
    unit: str,
    source: str,
    interval: str = BY_GROUP,
    extra: tuple[Read, ...] = (),
    outputs: tuple[str, ...] = ESTIMATE,
    core: tuple[str, ...] = (),
    labels: dict[str, tuple[Any, ...]] | None = None,
    version: int = 1,
) -> Row:
    """A row whose function takes the decoded cases, then the arrays of `extra`."""
    return Reduce(
        name,
        convention,
        (*_COMMON, *extra),
        partial(_decoded, function=function),
        unit=unit,
        source=source,
        interval=interval,
        outputs=outputs,
        core=core,
        labels=labels or {},
        version=version,
    )


def _decoded(*arrays: Any, function: Callable[..., Any]) -> Any:
    count = len(_COMMON)
    return function(answered(arrays[:count]), *arrays[count:])
