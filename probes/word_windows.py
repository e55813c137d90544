"""Windows of words and the class of the word that follows: from tagged sentences to balanced samples.

In the style of arXiv 2302.07588 (abstract): inputs of nine words, labelled with the class of the tenth.
Windows lie within sentences, and punctuation is no word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probes.brown_tags import PUNCTUATION

Fits = Callable[[Sequence[str]], bool]


@dataclass(frozen=True)
class Sentence:
    """A tagged sentence without punctuation.

    Attributes
    ----------
    words, classes : tuple of str
        As they stand in the text, and their coarse classes.
    document : str
        Name of the document; windows of one document are resampled together.
    """

    words: tuple[str, ...]
    classes: tuple[str, ...]
    document: str


@dataclass(frozen=True)
class WordWindows:
    """Windows as columns, a row each.

    Attributes
    ----------
    words, classes : str array (sample, context + 1)
        The words shown and the one that follows, with their coarse classes.
    document : str array (sample,)
    """

    words: NDArray[np.str_]
    classes: NDArray[np.str_]
    document: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.document)

    @property
    def shown(self) -> list[list[str]]:
        """The words of each sample but the one to be predicted."""
        found: list[list[str]] = self.words[:, :-1].tolist()
        return found

    def labels(self) -> dict[str, NDArray[np.str_]]:
        """What is asked of each sample: the word that follows and the last two shown, with classes.

        Names speak of nine words shown: `word_class` and `word` of the tenth, `…_9` of the last word
        shown, `…_8` of the one before. Words are in lower case.
        """
        lower = np.strings.lower(self.words[:, -3:])
        return {
            "word_class": self.classes[:, -1],
            "word_class_9": self.classes[:, -2],
            "word_class_8": self.classes[:, -3],
            "word": lower[:, 2],
            "word_9": lower[:, 1],
            "word_8": lower[:, 0],
            "document": self.document,
        }


def without_punctuation(words: Sequence[str], classes: Sequence[str], document: str) -> Sentence:
    """A sentence of what is left when punctuation is taken out."""
    kept = [i for i, name in enumerate(classes) if name != PUNCTUATION]
    return Sentence(tuple(words[i] for i in kept), tuple(classes[i] for i in kept), document)


def count_windows(sentences: Iterable[Sentence], *, context: int = 9) -> dict[str, int]:
    """How many windows there are of each class of the word that follows `context` words."""
    names = [name for sentence in sentences for name in sentence.classes[context:]]
    found, counts = np.unique(np.array(names, dtype=str), return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def balanced_windows(
    sentences: Sequence[Sentence],
    *,
    classes: Sequence[str],
    per_class: int,
    seed: int,
    context: int = 9,
    fits: Fits = lambda words: True,
) -> WordWindows:
    """Draw equally many windows of each class, spread over documents as widely as they go.

    Of each class every document gives one window, in an order that the seed decides, before any gives a
    second. What is drawn of one class depends neither on the other classes nor, but for its number, on
    `per_class`. Samples are then shuffled, so that the first of them have all classes.

    Parameters
    ----------
    sentences
        Tagged, without punctuation.
    classes
        Classes of the word that follows.
    per_class
        Windows of each.
    seed
        Decides which, and their order.
    context
        Words shown, at least 2.
    fits
        Whether the words shown can be used (a tokenizer may give too many tokens); asked of as many as
        are needed.

    Returns
    -------
    WordWindows
        `per_class` · number of classes of them, all different places.

    Raises
    ------
    ValueError
        If `context` is below 2, a class is named twice, or there are too few windows of a class.
    """
    if context < 2:
        raise ValueError(f"context must be at least 2, not {context}")
    if len(set(classes)) < len(classes):
        raise ValueError(f"classes name one twice: {', '.join(classes)}")
    lengths = np.array([len(s.words) for s in sentences], np.int64)
    counts = np.maximum(lengths - context, 0)
    sentence = np.repeat(np.arange(len(sentences)), counts)
    start = np.arange(len(sentence)) - np.repeat(np.cumsum(counts) - counts, counts)
    follows = np.array([n for s in sentences for n in s.classes[context:]], dtype=str)
    document = np.unique(np.array([s.document for s in sentences], dtype=str), return_inverse=True)
    chosen: list[int] = []
    for name in classes:
        candidates = np.flatnonzero(follows == name)
        generator = np.random.default_rng([seed, *name.encode()])
        order = _spread(document[1][sentence[candidates]], generator)
        found: list[int] = []
        for window in candidates[order].tolist():
            if len(found) == per_class:
                break
            words = sentences[sentence[window]].words
            if fits(words[start[window] : start[window] + context]):
                found.append(window)
        if len(found) < per_class:
            raise ValueError(f"{len(found)} windows before a {name}, and {per_class} are wanted")
        chosen += found
    mixed = np.array(chosen, np.int64)[np.random.default_rng(seed).permutation(len(chosen))]
    places = [(sentences[sentence[w]], int(start[w]), int(start[w]) + context + 1) for w in mixed]
    return WordWindows(
        np.array([s.words[first:end] for s, first, end in places], dtype=str),
        np.array([s.classes[first:end] for s, first, end in places], dtype=str),
        np.array([s.document for s, _, _ in places], dtype=str),
    )


def _spread(document: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """An order in which every document comes once before any comes twice."""
    if not len(document):
        return np.zeros(0, np.int64)
    mixed = generator.permutation(len(document))
    owner = document[mixed]
    by_owner = np.argsort(owner, kind="stable")
    sizes = np.bincount(owner)
    turn = np.empty(len(owner), np.int64)
    turn[by_owner] = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    priority = generator.permutation(len(sizes))
    order: NDArray[np.int64] = mixed[np.lexsort((priority[owner], turn))]
    return order
