"""Tags of Brown and balanced windows of words."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.brown_tags import (
    COMMON_CLASSES,
    PUNCTUATION,
    WORD_CLASSES,
    brown_class,
    universal_class,
)
from probes.word_windows import (
    Sentence,
    WordWindows,
    balanced_windows,
    count_windows,
    without_punctuation,
)


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("np-tl", "NOUN"),
        ("NN-HL", "NOUN"),
        ("nn$-tl", "NOUN"),
        ("fw-nn-tl", "NOUN"),
        ("pps+bez", "PRON"),
        ("do*", "VERB"),
        ("md*+hv", "VERB"),
        ("*", "PRT"),
        ("to-hl", "PRT"),
        ("pp$", "PRON"),
        ("ap$", "DET"),
        ("od-tl", "ADJ"),
        ("wql", "ADV"),
        ("cs-nc", "CONJ"),
        ("fw-in+at-tl", "ADP"),
        ("--", PUNCTUATION),
        ("'", PUNCTUATION),
        (",-hl", PUNCTUATION),
        ("nil", "X"),
    ],
)
def test_marks_are_dropped_and_the_first_of_two_words_counts(tag: str, name: str) -> None:
    assert brown_class(tag) == name


@pytest.mark.parametrize("tag", ["", "noun", "nn-", "+nn", "nn*x"])
def test_what_is_no_tag_of_brown_is_refused(tag: str) -> None:
    with pytest.raises(ValueError, match="not a tag of the Brown corpus"):
        brown_class(tag)


def test_universal_tags_all_have_a_class() -> None:
    tags = [
        "ADJ",
        "ADP",
        "ADV",
        "AUX",
        "CCONJ",
        "DET",
        "INTJ",
        "NOUN",
        "NUM",
        "PART",
        "PRON",
        "PROPN",
        "PUNCT",
        "SCONJ",
        "SYM",
        "VERB",
        "X",
    ]
    assert {universal_class(tag) for tag in tags} == {*WORD_CLASSES, PUNCTUATION}
    with pytest.raises(ValueError, match="Universal Dependencies"):
        universal_class("NN")
    assert len(COMMON_CLASSES) == 8


def made_up(documents: int, sentences: int, words: int, seed: int = 0) -> list[Sentence]:
    """Sentences whose every word says where it stands and what class it has."""
    generator = np.random.default_rng(seed)
    found = []
    for d in range(documents):
        for s in range(sentences):
            names = generator.choice(["NOUN", "VERB", "ADV"], words, p=[0.6, 0.3, 0.1]).tolist()
            found.append(
                Sentence(
                    tuple(f"D{d}.{s}.{i}.{n}" for i, n in enumerate(names)),
                    tuple(names),
                    f"d{d:02}",
                )
            )
    return found


def test_punctuation_is_no_word() -> None:
    found = without_punctuation(["Well", ",", "go", "."], ["X", "PUNCT", "VERB", "PUNCT"], "ca01")
    assert found == Sentence(("Well", "go"), ("X", "VERB"), "ca01")


def test_windows_are_counted_by_the_class_that_follows() -> None:
    sentence = Sentence(tuple("abcde"), ("NOUN", "VERB", "NOUN", "ADJ", "NOUN"), "d")
    assert count_windows([sentence], context=2) == {"NOUN": 2, "ADJ": 1}
    assert count_windows([sentence], context=5) == {}


def check(windows: WordWindows, sentences: list[Sentence], context: int) -> None:
    """Every window is a run of words of one sentence, with the classes of those words."""
    for words, classes, document in zip(
        windows.words.tolist(), windows.classes.tolist(), windows.document.tolist(), strict=True
    ):
        d, s, first, _ = words[0].split(".")
        home = next(x for x in sentences if x.words[0].startswith(f"{d}.{s}.0."))
        span = slice(int(first), int(first) + context + 1)
        assert tuple(words) == home.words[span]
        assert tuple(classes) == home.classes[span]
        assert document == home.document


@settings(max_examples=25)
@given(
    context=st.integers(2, 6),
    per_class=st.integers(1, 12),
    seed=st.integers(0, 2**32),
    words=st.integers(9, 14),
)
def test_windows_are_balanced_spread_and_all_different(
    context: int, per_class: int, seed: int, words: int
) -> None:
    sentences = made_up(12, 4, words)
    classes = ("VERB", "NOUN")
    drawn = balanced_windows(
        sentences, classes=classes, per_class=per_class, seed=seed, context=context
    )
    check(drawn, sentences, context)
    assert Counter(drawn.classes[:, -1].tolist()) == dict.fromkeys(classes, per_class)
    assert len({tuple(row) for row in drawn.words.tolist()}) == 2 * per_class
    per_document = Counter(zip(drawn.classes[:, -1].tolist(), drawn.document.tolist(), strict=True))
    # Every document has windows of both classes here, so none gives two before all gave one.
    assert set(per_document.values()) <= {1}
    again = balanced_windows(
        sentences, classes=classes, per_class=per_class, seed=seed, context=context
    )
    assert np.array_equal(again.words, drawn.words)


def test_more_than_documents_are_spread_evenly() -> None:
    drawn = balanced_windows(made_up(5, 6, 14), classes=["NOUN"], per_class=23, seed=1, context=4)
    assert sorted(Counter(drawn.document.tolist()).values()) == [4, 4, 5, 5, 5]


def test_one_class_does_not_depend_on_the_others_and_seeds_differ() -> None:
    sentences = made_up(9, 6, 14)

    def rows(classes: list[str], per_class: int = 9, seed: int = 0) -> set[tuple[str, ...]]:
        drawn = balanced_windows(sentences, classes=classes, per_class=per_class, seed=seed)
        return {
            tuple(w)
            for w, c in zip(drawn.words.tolist(), drawn.classes[:, -1], strict=True)
            if c == "VERB"
        }

    alone = rows(["VERB"])
    assert rows(["NOUN", "VERB"]) == alone
    assert rows(["VERB"], per_class=5) < alone
    assert rows(["VERB"], seed=1) != alone


def test_the_first_samples_have_every_class() -> None:
    drawn = balanced_windows(made_up(9, 6, 14), classes=["NOUN", "VERB"], per_class=40, seed=0)
    assert set(drawn.classes[:20, -1].tolist()) == {"NOUN", "VERB"}


def test_what_does_not_fit_is_not_drawn() -> None:
    sentences = made_up(9, 6, 14)
    drawn = balanced_windows(
        sentences,
        classes=["NOUN"],
        per_class=20,
        seed=0,
        context=3,
        fits=lambda words: words[0].split(".")[2] in "02468",
    )
    assert len(drawn) == 20
    assert {words[0].split(".")[2] for words in drawn.words.tolist()} <= set("02468")


def test_labels_are_of_the_tenth_ninth_and_eighth_word() -> None:
    sentence = Sentence(
        ("The", "Cat", "saw", "A", "Dog", "and", "IT", "ran", "Off", "Home"),
        ("DET", "NOUN", "VERB", "DET", "NOUN", "CONJ", "PRON", "VERB", "PRT", "ADV"),
        "ca07",
    )
    drawn = balanced_windows([sentence], classes=["ADV"], per_class=1, seed=0)
    assert {k: v.tolist() for k, v in drawn.labels().items()} == {
        "word_class": ["ADV"],
        "word_class_9": ["PRT"],
        "word_class_8": ["VERB"],
        "word": ["home"],
        "word_9": ["off"],
        "word_8": ["ran"],
        "document": ["ca07"],
    }
    assert drawn.shown == [["The", "Cat", "saw", "A", "Dog", "and", "IT", "ran", "Off"]]


def test_too_few_windows_and_wrong_arguments_are_refused() -> None:
    sentences = made_up(3, 1, 12)
    with pytest.raises(ValueError, match=r"0 windows before a NUM, and 2 are wanted"):
        balanced_windows(sentences, classes=["NUM"], per_class=2, seed=0)
    with pytest.raises(ValueError, match=r"0 windows before a NOUN"):
        balanced_windows([], classes=["NOUN"], per_class=1, seed=0)
    with pytest.raises(ValueError, match="context must be at least 2"):
        balanced_windows(sentences, classes=["NOUN"], per_class=1, seed=0, context=1)
    with pytest.raises(ValueError, match="name one twice"):
        balanced_windows(sentences, classes=["NOUN", "NOUN"], per_class=1, seed=0)
