"""Cloze tasks: how does this text go on? One true continuation among others from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ClozeItem:
    """One question.

    Attributes
    ----------
    context : str
        The beginning of a text.
    choices : tuple of str
        Continuations of equal length in words.
    answer : int
        Which of them is the text's own.
    """

    context: str
    choices: tuple[str, ...]
    answer: int


def cloze_items(
    texts: Sequence[str],
    *,
    context_words: int = 40,
    continuation_words: int = 8,
    choices: int = 4,
    limit: int | None = None,
    seed: int = 0,
) -> list[ClozeItem]:
    """Make one multiple-choice question of every text that is long enough.

    Parameters
    ----------
    texts
        Documents; line breaks become spaces.
    context_words, continuation_words
        Lengths in words.
    choices
        Continuations a question, one of them true; chance is 1/choices.
    limit
        Questions at most, taken from all over the texts.
    seed
        Of the order, the wrong continuations and the answer's place.

    Returns
    -------
    list of ClozeItem
        Wrong continuations stand at the same place of other texts, so that neither place in the text
        nor length tells; no two choices of a question are the same words.

    Raises
    ------
    ValueError
        If fewer texts than `choices` are long enough, or a number is too small.

    Notes
    -----
    After the narrative cloze of Zellers et al. 2019 (arXiv 1905.07830) without its adversarial filter:
    easy for a model that knows topics, and above chance for one that knows only which words follow which.
    """
    if context_words < 1 or continuation_words < 1 or choices < 2:
        raise ValueError("give at least 1 word of context and continuation, and 2 choices")
    split = [text.split() for text in texts]
    cut = context_words
    long = [words for words in split if len(words) >= cut + continuation_words]
    endings = [" ".join(words[cut : cut + continuation_words]) for words in long]
    if len(set(endings)) < choices:
        raise ValueError(
            f"{len(long)} of {len(split)} texts have {cut + continuation_words} words; a question "
            f"needs {choices} different ones"
        )
    rng = np.random.default_rng(seed)
    found = []
    for index in rng.permutation(len(long))[:limit]:
        chosen = [endings[index]]
        while len(chosen) < choices:
            other = endings[int(rng.integers(len(endings)))]
            if other not in chosen:
                chosen.append(other)
        order = rng.permutation(choices)
        found.append(
            ClozeItem(
                " ".join(long[index][:cut]),
                tuple(chosen[i] for i in order),
                int(np.flatnonzero(order == 0)[0]),
            )
        )
    return found
