"""Cloze items: the true continuation is there once, and nothing but its content gives it away."""

from __future__ import annotations

from collections import Counter

import pytest

from probes.cloze import cloze_items


def texts(count: int = 200, words: int = 12) -> list[str]:
    # Each word names its text and place, so that where a choice is from can be read off.
    return [" ".join(f"t{t}w{w}" for w in range(words)) for t in range(count)]


def test_one_choice_goes_on_and_the_others_are_of_other_texts_at_the_same_place():
    items = cloze_items(texts(), context_words=7, continuation_words=3)
    assert len(items) == 200
    assert len({item.context for item in items}) == 200
    for item in items:
        own = item.context.split("w")[0]
        assert len(item.context.split()) == 7
        assert len({*item.choices}) == 4
        for place, choice in enumerate(item.choices):
            words = choice.split()
            assert [w.split("w")[1] for w in words] == ["7", "8", "9"]
            assert len({w.split("w")[0] for w in words}) == 1
            assert (words[0].split("w")[0] == own) == (place == item.answer)


def test_the_answer_stands_anywhere_and_the_seed_decides():
    made = [cloze_items(texts(), context_words=7, continuation_words=3, seed=s) for s in (1, 1, 2)]
    assert made[0] == made[1] != made[2]
    places = Counter(item.answer for item in made[0])
    assert set(places) == {0, 1, 2, 3}
    assert max(places.values()) < 80  # 50 expected, standard deviation 6


def test_short_texts_are_left_out_and_the_same_words_are_no_other_choice():
    long = texts(4)
    found = cloze_items([*long, *long, "too short"], context_words=7, continuation_words=5)
    assert len(found) == 8
    assert all(len({*item.choices}) == 4 for item in found)
    assert len(cloze_items(texts(), context_words=7, continuation_words=3, limit=11)) == 11
    with pytest.raises(ValueError, match="3 of 3 texts have 12 words"):
        cloze_items(texts(3), context_words=7, continuation_words=5)
    with pytest.raises(ValueError, match="2 choices"):
        cloze_items(texts(), choices=1)
