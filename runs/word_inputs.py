"""Sets of mode `words`: windows of words, labelled with the class of the word that follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from probes.word_windows import Sentence, WordWindows, balanced_windows, count_windows
from runs.brown import read_brown
from runs.documents import read_documents
from runs.errors import InputError
from runs.inputs import FOLDS, InputSet, assign_folds, set_digest
from runs.recipe import InputTable
from runs.tagging import tagged
from runs.word_alignment import aligned


def build_words(name: str, table: InputTable, tokenizer: Any) -> InputSet:
    """Draw windows of words and tokenise them.

    A sample is the window's words joined by spaces, after a BOS if asked for; its last token is the last
    one of its last word. Windows of more than `length` tokens are not drawn; samples are padded to the
    longest that is.

    Parameters
    ----------
    name
        Name of the set.
    table
        The checked table, of mode `words`.
    tokenizer
        A Hugging Face tokenizer.

    Returns
    -------
    InputSet
        With labels as `WordWindows.labels` has them; a group is a document.

    Raises
    ------
    InputError
        If the text is not there, or has too few windows of a class or too few documents.
    """
    start = [int(tokenizer.bos_token_id)] if table.add_bos else []
    room = table.length - len(start)

    def ids_of(words: Sequence[str]) -> list[int] | None:
        ids, ends = aligned(tokenizer, words)
        return ids[: ends[-1] + 1] if 0 <= ends[-1] < room else None

    windows = _draw(name, table, lambda words: ids_of(words) is not None)
    rows = [[*start, *(ids_of(words) or [])] for words in windows.shown]
    length = np.array([len(row) for row in rows], np.int32)
    pad = next(i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None)
    tokens = np.full((len(rows), max(int(length.max()), 2)), pad, np.int32)
    for target, row in zip(tokens, rows, strict=True):
        target[: len(row)] = row
    group = np.unique(windows.document, return_inverse=True)[1].astype(np.int32)
    fold = assign_folds(group, key=f"inputs.{name}.path (documents)")
    labels = windows.labels()
    digest = set_digest(
        [tokens, length, fold, group], labels, table.mode, table.add_bos, table.shuffle_seed
    )
    return InputSet(
        name, tokens, length, fold, group, labels, int(pad), _described(table, len(rows)), digest
    )


def _draw(name: str, table: InputTable, fits: Any) -> WordWindows:
    assert table.per_class is not None
    assert table.shuffle_seed is not None
    sentences = _sentences(table)
    try:
        windows = balanced_windows(
            sentences,
            classes=table.classes,
            per_class=table.per_class,
            seed=table.shuffle_seed,
            context=table.context,
            fits=fits,
        )
    except ValueError as error:
        counts = count_windows(sentences, context=table.context)
        there = ", ".join(f"{k} {v:,}" for k, v in sorted(counts.items(), key=lambda kv: -kv[1]))
        raise InputError(
            f"key `inputs.{name}.per_class`: {table.path} gives {error}; there are {there or 'none'} of "
            "any length: give fewer per_class or a larger length, or leave classes out"
        ) from None
    if len(windows) < FOLDS:
        raise InputError(f"key `inputs.{name}.per_class`: at least {FOLDS} samples are needed")
    return windows


def _sentences(table: InputTable) -> list[Sentence]:
    if table.source == "brown":
        return read_brown(table.path)
    columns = (table.group,) if table.group else ()
    documents = read_documents(table.path, text=table.text, columns=columns)
    names = [
        str(d.columns[table.group]) if table.group else str(i) for i, d in enumerate(documents)
    ]
    texts = [(name, document.text) for name, document in zip(names, documents, strict=True)]
    return list(tagged(texts, table.tagger))


def _described(table: InputTable, samples: int) -> str:
    source = "the Brown corpus, gold tags"
    if table.source == "text":
        source = f"{table.path.name}, tagged by {table.tagger}"
    bos = ", BOS added" if table.add_bos else ""
    return (
        f"{samples:,} windows of {table.context} words before one of {', '.join(table.classes)} "
        f"({table.per_class} each; {source}; no punctuation){bos}, shuffle seed {table.shuffle_seed}"
    )
