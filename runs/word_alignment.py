"""Which tokens are the last ones of which words, whatever the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MISSING = -1


def aligned(tokenizer: Any, words: Sequence[str]) -> tuple[list[int], list[int]]:
    """Tokenise words joined by single spaces, and find the last token of each.

    Fast tokenizers say which characters a token stands for; the last token of a word is the last one
    that has a character of it, so a character of several bytes or a token of several words is no
    trouble. Others are asked for the beginnings of the text, word by word.

    Parameters
    ----------
    tokenizer
        A Hugging Face tokenizer; no special tokens are added.
    words
        Without spaces inside.

    Returns
    -------
    ids : list of int
        Tokens of the text.
    ends : list of int
        Index of each word's last token; −1 for a word without one.
    """
    text = " ".join(words)
    if not getattr(tokenizer, "is_fast", False):
        return _by_beginnings(tokenizer, words)
    encoded = tokenizer([text], add_special_tokens=False, return_offsets_mapping=True)
    ids, spans = list(encoded["input_ids"][0]), encoded["offset_mapping"][0]
    owner = [MISSING] * len(text)
    for index, (first, end) in enumerate(spans):
        for place in range(first, end):
            owner[place] = index
    ends, first = [], 0
    for word in words:
        ends.append(max(owner[first : first + len(word)], default=MISSING))
        first += len(word) + 1
    return ids, ends


def _by_beginnings(tokenizer: Any, words: Sequence[str]) -> tuple[list[int], list[int]]:
    texts = [" ".join(words[: k + 1]) for k in range(len(words))]
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    ids = list(encoded[-1])
    ends: list[int] = []
    seen = 0
    for part in map(list, encoded):
        fits = len(part) > seen and ids[: len(part)] == part
        ends.append(len(part) - 1 if fits else MISSING)
        seen = len(part) if fits else seen
    return ids, ends
