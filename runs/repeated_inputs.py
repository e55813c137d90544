"""Sets without text: random tokens of the vocabulary, repeated."""

from __future__ import annotations

from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from probes.repetition import middle_ids, repeated_tokens
from runs.errors import InputError
from runs.recipe import InputTable


def draw_repeated(name: str, table: InputTable, tokenizer: Any) -> NDArray[np.int32]:
    """Token ids (sample, position) of an `[inputs.NAME]` table in mode `repeated`, a BOS included.

    Raises
    ------
    InputError
        If the vocabulary has too few tokens for the period, or memory is short.
    """
    layout, samples = table.repetition, table.limit
    assert layout is not None
    assert samples is not None
    assert table.shuffle_seed is not None
    key = f"key `inputs.{name}.period`"
    candidates = _candidates(table, tokenizer)
    if layout.period > len(candidates):
        raise InputError(
            f"{key}: {layout.period} different tokens are wanted and there are {len(candidates)} to draw "
            "from; give a smaller period or a wider id_range"
        )
    check_memory(name, samples, layout.length, times=4)
    drawn = repeated_tokens(
        candidates,
        samples=samples,
        period=layout.period,
        repeats=layout.repeats,
        seed=table.shuffle_seed,
    )
    if not table.add_bos:
        return drawn
    start = np.full((samples, 1), tokenizer.bos_token_id, np.int32)
    return np.concatenate([start, drawn], axis=1)


def describe_repeated(table: InputTable) -> str:
    """A set of repeated tokens in one line, for captions."""
    assert table.repetition is not None
    chosen = "the vocabulary's middle three quarters by id"
    if table.id_range is not None:
        chosen = f"ids {table.id_range[0]}–{table.id_range[1] - 1}"
    bos = " after a BOS" if table.add_bos else ""
    return (
        f"{table.period} different random tokens ({chosen}) × {table.repeats}{bos}, "
        f"seed {table.shuffle_seed}"
    )


def check_memory(name: str, samples: int, length: int, *, times: int = 1) -> None:
    """Refuse a set that does not fit.

    Raises
    ------
    InputError
        If so many copies of its tokens are more than what is free.
    """
    needed, free = samples * length * 4 * times, psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"key `inputs.{name}.length`: {samples} samples × {length} tokens need "
            f"{needed / 1e9:.1f} GB and {free / 1e9:.1f} GB of memory are free; give a smaller length"
        )


def _candidates(table: InputTable, tokenizer: Any) -> NDArray[np.int64]:
    """Ids that may be drawn: no special token, and of the rest the middle or the range asked for."""
    size = len(tokenizer)
    special = set(getattr(tokenizer, "all_special_ids", []))
    named = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    special |= {i for i in named if i is not None}
    added = getattr(tokenizer, "added_tokens_decoder", {})
    special |= {int(i) for i, token in added.items() if getattr(token, "special", False)}
    if table.id_range is None:
        return middle_ids(size, special)
    first, last = table.id_range
    return np.array([i for i in range(first, min(last, size)) if i not in special], dtype=np.int64)
