"""Sums with a known answer, in words a model can be asked and a program can check."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FORMS = {
    "asked": "Question: {a} + {b}\nAnswer:",
    "worded": "What do {a} and {b} make together?\nAnswer:",
}


@dataclass(frozen=True)
class Problem:
    """A prompt and the one continuation that is right."""

    prompt: str
    answer: str


def addition_problems(
    count: int, *, seed: int, split: str, largest: int = 30, form: str = "asked"
) -> list[Problem]:
    """Sums of two whole numbers, each digit a word of its own.

    Parameters
    ----------
    count
        How many problems; pairs (a, b) are drawn without replacement.
    seed
        Of the draw, and of the split.
    split
        `train` or `test`: no pair is in both.
    largest
        Numbers are 0 … `largest`.
    form
        A key of `FORMS`: how the question is put.

    Returns
    -------
    list of Problem

    Raises
    ------
    ValueError
        If the split has fewer pairs than asked for, or a name is unknown.
    """
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; give one of {', '.join(FORMS)}")
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}; give train or test")
    pairs = np.stack(np.meshgrid(*[np.arange(largest + 1)] * 2, indexing="ij"), -1).reshape(-1, 2)
    order = np.random.default_rng(seed).permutation(len(pairs))
    held = len(pairs) // 5
    mine = pairs[order[:held] if split == "test" else order[held:]]
    if count > len(mine):
        raise ValueError(f"{split} has {len(mine)} sums up to {largest}; {count} were asked for")
    return [
        Problem(FORMS[form].format(a=spelled(a), b=spelled(b)), f" {spelled(a + b)}")
        for a, b in mine[:count].tolist()
    ]


def spelled(number: int) -> str:
    """A number digit by digit, so that no tokenizer joins its digits: 42 is `4 2`."""
    return " ".join(str(number))
