"""Counting baselines against a plain loop; balanced subsets."""

from collections import Counter

import numpy as np
import pytest

from probes.balancing import balanced_subset
from probes.word_baselines import by_counting

RNG = np.random.default_rng


def by_loop(labels, fold, *contexts):
    out = []
    names = sorted(set(labels))
    for i in range(len(labels)):
        others = [j for j in range(len(labels)) if fold[j] != fold[i]]
        overall = Counter(labels[j] for j in others)
        same = [j for j in others if all(c[j] == c[i] for c in contexts)]
        here = Counter(labels[j] for j in same)
        out.append(max(range(len(names)), key=lambda k: (here[names[k]], overall[names[k]], -k)))
    return np.array(out)


@pytest.mark.parametrize("known", [0, 1, 2])
def test_is_the_plain_loop(known):
    rng = RNG(known)
    labels = rng.choice(["D", "N", "V"], 200, p=[0.2, 0.5, 0.3])
    contexts = [rng.choice(list("abcdefgh"), 200) for _ in range(known)]
    fold = np.arange(200) // 7 % 5
    found = by_counting(labels, fold, *contexts)
    np.testing.assert_array_equal(found, by_loop(labels.tolist(), fold, *contexts))


def test_a_word_that_decides_the_class_is_enough_and_an_unseen_one_falls_back():
    words = np.array(["the", "to", "the", "to", "a", "the", "to", "the"])
    labels = np.array(["N", "V", "N", "V", "X", "N", "V", "N"])
    fold = np.array([0, 0, 1, 1, 1, 2, 2, 2])
    found = np.array(["N", "V", "X"])[by_counting(labels, fold, words)]
    np.testing.assert_array_equal(found[[0, 1, 2, 3, 5, 6, 7]], labels[[0, 1, 2, 3, 5, 6, 7]])
    assert found[4] == "N"  # "a" is in no other fold


def test_its_own_fold_is_not_counted():
    labels = np.array(["N"] * 6 + ["V"] * 5)
    fold = np.array([0] * 6 + [1] * 5)
    assert by_counting(labels, fold).tolist() == [1] * 6 + [0] * 5


def test_shapes():
    with pytest.raises(ValueError, match="differ in shape"):
        by_counting(["N", "V"], [0])


def test_balanced_subset():
    labels = RNG(0).choice(list("NVDX"), 400, p=[0.5, 0.3, 0.19, 0.01])
    rows = balanced_subset(labels, fewest=20)
    names, counts = np.unique(labels[rows], return_counts=True)
    assert names.tolist() == ["D", "N", "V"]
    assert set(counts) == {(labels == "D").sum()}
    assert (np.diff(rows) > 0).all()
    assert set(np.unique(labels[balanced_subset(labels, most=3)], return_counts=True)[1]) == {3}
    assert (balanced_subset(labels, fewest=20, seed=1) != rows).any()
    even = np.tile(list("NV"), 30)
    np.testing.assert_array_equal(balanced_subset(even), np.arange(60))
    assert len(balanced_subset(labels, fewest=1000)) == 0
    with pytest.raises(ValueError, match="give"):
        balanced_subset([["N"]])
