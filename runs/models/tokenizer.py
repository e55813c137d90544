"""A byte-level BPE tokenizer, trained on a given text."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from runs.models.atomic import whole

END_OF_TEXT = "<|endoftext|>"
SMALLEST = 257  # the bytes and the one special token
_FILES = ("tokenizer_config.json", "tokenizer.json")  # the second says that both are there


def train_tokenizer(texts: Sequence[str], *, vocabulary: int = 2048) -> PreTrainedTokenizerFast:
    """Train a tokenizer on texts.

    Every byte is a token, so any text survives a round trip; the one special token, id 0, stands for
    beginning, end and padding. The same texts give the same tokenizer. Gage 1994; Radford 2019.

    Parameters
    ----------
    texts
        What to learn merges from; 11 MB take about two seconds.
    vocabulary
        Number of tokens, the special one included.

    Returns
    -------
    PreTrainedTokenizerFast
        With exactly `vocabulary` tokens.

    Raises
    ------
    ValueError
        If `vocabulary` is below 257, or the texts are too short for so many tokens.
    """
    if vocabulary < SMALLEST:
        raise ValueError(f"vocabulary must be at least {SMALLEST} (the bytes), not {vocabulary}")
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    size = backend.get_vocab_size()
    if size != vocabulary:
        raise ValueError(
            f"texts give only {size} tokens of vocabulary {vocabulary}; give more text"
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )


def has_tokenizer(folder: Path) -> bool:
    """Whether `save_tokenizer` has finished in this folder."""
    return (folder / _FILES[-1]).is_file()


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a tokenizer so that `AutoTokenizer.from_pretrained(folder)` reads it offline."""
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer.save_pretrained(scratch)
        for name in _FILES:
            with whole(folder / name) as partial:
                shutil.copyfile(Path(scratch) / name, partial)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy a tokenizer that `save_tokenizer` wrote, if it is not there."""
    for name in _FILES:
        if not (folder / name).is_file():
            with whole(folder / name) as partial:
                shutil.copyfile(source / name, partial)
