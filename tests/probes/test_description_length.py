"""Online code: bounds, order of documents, the code by its definition, and what it cannot know."""

import numpy as np
import pytest

from probes.classifiers import STRENGTHS, linear, standardised
from probes.description_length import FRACTIONS, online_code

RNG = np.random.default_rng


def material(seed=0, n=600, classes=4, strength=3.0):
    rng = RNG(seed)
    labels = rng.integers(0, classes, n)
    x = rng.normal(size=(n, 8)) + strength * np.eye(8)[labels]
    return x, labels, np.arange(n) // 3


def test_labels_that_states_hold_are_cheap_and_others_cost_log2_k():
    x, labels, groups = material()
    known = online_code(x, labels, groups)
    assert known.per_sample.upper < 0.8
    assert known.compression == pytest.approx(2 / known.per_sample.value)
    assert known.compression > 2.5
    random = online_code(x, RNG(1).permutation(labels), groups)
    assert random.per_sample.value == pytest.approx(2, abs=0.08)
    assert random.compression == pytest.approx(1, abs=0.04)


def test_is_the_sum_of_its_blocks():
    x, labels, groups = material(2, n=300)
    code = online_code(x, labels, groups, fractions=(0.1, 0.4, 1.0), seed=5)
    assert code.per_sample.value == pytest.approx(code.bits.mean())
    assert (code.bits[code.bits == 2.0].size) == 30  # the first tenth costs log2 4 each
    first = np.flatnonzero(code.bits == 2.0)
    # Whole documents come first, and the order is the seed's.
    assert np.isin(groups, groups[first]).sum() == 30
    place = RNG(5).permutation(100)
    order = np.argsort(place[groups], kind="stable")
    assert set(order[:30]) == set(first)
    train, block = standardised(x[order[:30]], x[order[30:120]])
    costs = [
        -linear(train, labels[order[:30]], block, 4, strength=c)[
            np.arange(90), labels[order[30:120]]
        ]
        / np.log(2)
        for c in STRENGTHS
    ]
    np.testing.assert_allclose(code.bits[order[30:120]], costs[0], rtol=1e-6)
    best = STRENGTHS[int(np.argmin([c.sum() for c in costs]))]  # for the next block
    train, block = standardised(x[order[:120]], x[order[120:]])
    rest = linear(train, labels[order[:120]], block, 4, strength=best)
    wanted = -rest[np.arange(180), labels[order[120:]]] / np.log(2)
    np.testing.assert_allclose(code.bits[order[120:]], wanted, rtol=1e-6)


def test_fractions_are_the_paper_s():
    assert FRACTIONS[0] == 0.001
    assert FRACTIONS[-6:] == (0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)


def test_easy_before_hard():
    lengths = [online_code(*material(3, strength=s)).per_sample.value for s in (0.5, 1.5, 4.0)]
    assert lengths[0] > lengths[1] > lengths[2]


def test_nothing_to_say():
    x, labels, groups = material()
    x[3, 2] = np.inf
    found = online_code(x, labels, groups)
    assert np.isnan(found.bits).all()
    assert np.isnan(found.compression)
    with pytest.raises(ValueError, match="1 classes"):
        online_code(x, np.zeros(len(x)), groups)
    with pytest.raises(ValueError, match="rise to 1"):
        online_code(x, labels, groups, fractions=(0.5, 0.9))
    with pytest.raises(ValueError, match="labels"):
        online_code(x, labels[:3], groups)
