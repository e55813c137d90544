"""Rows of conflict cases, gathered one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from probes.cases import Cases

COMMAND = "Please use one word to answer this question."


@dataclass(frozen=True)
class Row:
    """One case; see `Cases` for what its fields mean."""

    image: int
    group: int
    question: str
    text: str
    answer_image: str
    answer_text: str
    subset: str
    kind: str
    visual_tier: int
    text_tier: int
    typicality: float = float("nan")


_DTYPES: dict[str, type] = {
    "image": np.int32,
    "group": np.int32,
    "visual_tier": np.int16,
    "text_tier": np.int16,
    "typicality": np.float64,
}


def cases_of(rows: Sequence[Row], candidates: Mapping[str, tuple[str, ...]]) -> Cases:
    """Cases as columns, from rows."""
    columns = {f.name: [getattr(row, f.name) for row in rows] for f in fields(Row)}
    return cases_of_columns(columns, candidates)


def cases_of_columns(
    columns: Mapping[str, Any], candidates: Mapping[str, tuple[str, ...]]
) -> Cases:
    """Cases from sequences by name, each of the kind `Cases` says."""
    typed: dict[str, Any] = {
        f.name: np.array(columns[f.name], _DTYPES.get(f.name, np.str_)) for f in fields(Row)
    }
    return Cases(**typed, candidates=dict(candidates))


@dataclass(frozen=True)
class Wording:
    """What one group says and asks.

    Attributes
    ----------
    question : str
        The same for all cases of the group.
    texts, agreeing, irrelevant : mapping of int to str
        A text a tier: that supports the text's answer, that supports the image's, and that speaks of
        another object.
    """

    question: str
    texts: Mapping[int, str]
    agreeing: Mapping[int, str]
    irrelevant: Mapping[int, str]


def worded(
    question: str,
    say: Callable[[str, str, int, np.random.Generator], str],
    *,
    named: str,
    other: str,
    answers: tuple[str, str],
    tiers: Sequence[int],
    seed: Sequence[int],
) -> Wording:
    """What a group says, tier by tier.

    Parameters
    ----------
    question
        What it asks, without the command.
    say
        From an object, an answer, a tier and chance to a text.
    named, other
        The object asked for, and the one that irrelevant texts speak of.
    answers
        The image's and the text's.
    tiers
        Of texts.
    seed
        Where chance begins: the same for all three kinds, so that they differ in nothing but object and
        answer.
    """

    def said(of: str, answer: str) -> dict[int, str]:
        return {t: say(of, answer, t, np.random.default_rng([*seed, 1, t])) for t in tiers}

    return Wording(
        question=f"{question} {COMMAND}",
        texts=said(named, answers[1]),
        agreeing=said(named, answers[0]),
        irrelevant=said(other, answers[1]),
    )


def rows_of_group(
    wording: Wording,
    *,
    subset: str,
    group: int,
    first_image: int,
    answers: tuple[str, str],
    visual_tiers: Sequence[int],
) -> list[Row]:
    """Every case of one group, image by image.

    Each visual tier has two images: the scene, and the same with another object in the target's place.
    Of the scene there is a conflict with each text, and of one text, which goes round with group and
    tier, an agreement and an irrelevant text; of the second image one irrelevant image.

    Parameters
    ----------
    wording
        The group's texts and question.
    subset, group
        Where the cases belong.
    first_image
        Number of the group's first image; it has two a visual tier.
    answers
        What the image supports, what the text supports.
    visual_tiers
        Which tiers there are.
    """
    image_answer, text_answer = answers
    tiers = list(wording.texts)
    rows: list[Row] = []
    for place, visual in enumerate(visual_tiers):
        turn = tiers[(group + place) % len(tiers)]
        said = [("conflict", t, wording.texts[t], text_answer, 0) for t in tiers]
        said.append(("agreement", turn, wording.agreeing[turn], image_answer, 0))
        said.append(("irrelevant_text", turn, wording.irrelevant[turn], text_answer, 0))
        said.append(("irrelevant_image", turn, wording.texts[turn], text_answer, 1))
        for kind, tier, text, supported, other in said:
            rows.append(
                Row(
                    image=first_image + 2 * place + other,
                    group=group,
                    question=wording.question,
                    text=text,
                    answer_image=image_answer,
                    answer_text=supported,
                    subset=subset,
                    kind=kind,
                    visual_tier=visual,
                    text_tier=tier,
                )
            )
    return rows


def chosen_tiers(wanted: Sequence[int] | None, known: int, *, what: str, subset: str) -> list[int]:
    """The tiers asked for, all if none were.

    Raises
    ------
    ValueError
        If one does not exist or comes twice.
    """
    tiers = list(range(known)) if wanted is None else [int(tier) for tier in wanted]
    if not tiers or len(set(tiers)) < len(tiers) or not all(0 <= t < known for t in tiers):
        raise ValueError(
            f"{what} {tiers}: subset {subset} has tiers 0 to {known - 1}; name each once"
        )
    return tiers
