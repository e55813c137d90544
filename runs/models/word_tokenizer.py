"""A tokenizer of whole words: lower case, no punctuation, the commonest words of a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import tokenizers
from tokenizers import Regex, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

END, UNKNOWN = "<eos>", "<unk>"
_SPECIAL = (END, UNKNOWN)
# Letters and digits, joined inside by an apostrophe, a hyphen, a dot or a comma: "don't", "1,000.5".
_WORD = r"[^\W_]+(?:[-'’.,][^\W_]+)*"


def train_word_tokenizer(texts: Sequence[str], *, vocabulary: int) -> PreTrainedTokenizerFast:
    """Make a tokenizer of the commonest words of texts.

    The end of a document, which is also padding, is id 0 and every other word id 1; words of equal count
    stand in alphabetic order, so the same texts give the same tokenizer.

    Parameters
    ----------
    texts
        Where words are counted.
    vocabulary
        Number of tokens, the two special ones included.

    Returns
    -------
    PreTrainedTokenizerFast
        With exactly `vocabulary` tokens.

    Raises
    ------
    ValueError
        If the texts have fewer different words.
    """
    normalizer, splitter = (
        normalizers.Lowercase(),
        pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True),
    )
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    wanted = vocabulary - len(_SPECIAL)
    if not 1 <= wanted <= len(counts):
        raise ValueError(
            f"vocabulary must be from {len(_SPECIAL) + 1} to the {len(counts) + len(_SPECIAL)} tokens of "
            f"the texts, not {vocabulary}"
        )
    ordered = sorted(counts, key=lambda word: (-counts[word], word))[:wanted]
    ids = {word: i for i, word in enumerate([*_SPECIAL, *ordered])}
    backend = tokenizers.Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    backend.normalizer, backend.pre_tokenizer = normalizer, splitter
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=END,
        pad_token=END,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )
