"""Which keys are separators and delimiters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runs.inputs import load_tokenizer
from runs.visits.sinks import CLASSES, key_classes, uniform_class_mass


class Words:
    """A tokenizer of five tokens."""

    bos_token_id, eos_token_id = None, 0

    def decode(self, ids: list[int]) -> str:
        return ["<end>", " word", " .", "\n", "ab,", " "][ids[0]]


def test_classes_of_keys() -> None:
    tokens = np.array([[2, 0, 1, 2, 3, 4, 5], [1, 1, 2, 0, 0, 0, 0]], np.int32)
    length = np.array([7, 3], np.int32)
    names = [*CLASSES, "padding"]
    found = key_classes(tokens, length, Words())
    assert [names[c] for c in found[0]] == [
        "first", "separator", "other", "delimiter", "delimiter", "other", "other",
    ]  # fmt: skip
    assert [names[c] for c in found[1]] == ["first", "other", "delimiter", *["padding"] * 4]
    mass = uniform_class_mass(found, length)
    np.testing.assert_allclose(mass.sum(1), 1)
    assert mass[1, CLASSES.index("first")] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_the_tokenizer_of_the_series_knows_its_delimiters(series_folder: Path) -> None:
    tokenizer: Any = load_tokenizer(series_folder)
    ids = np.array([tokenizer("the union. of", add_special_tokens=False)["input_ids"]], np.int32)
    found = key_classes(ids, np.array([ids.shape[1]], np.int32), tokenizer)
    dots = [tokenizer.decode([i]).strip() == "." for i in ids[0]]
    assert any(dots)
    assert (found[0] == CLASSES.index("delimiter")).tolist() == dots
