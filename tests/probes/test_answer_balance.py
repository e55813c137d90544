"""Pairs of answers: never equal, balanced, and the published counts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.answer_balance import cyclic_pairs, proportional_pairs

REST = {"rest_image": (0, 1, 2, 5, 3, 4), "rest_text": (2, 0, 3, 5, 1, 4)}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 140), st.integers(0, 1000))
def test_answers_differ_and_are_balanced_whatever_the_number(groups: int, seed: int) -> None:
    pairs = cyclic_pairs(groups, answers=6, seed=[seed], **REST)
    assert pairs.shape == (groups, 2)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    for side in pairs.T:
        counts = np.bincount(side, minlength=6)
        assert np.ptp(counts) <= 1
    pairs_seen = Counter(map(tuple, pairs.tolist()))
    assert max(pairs_seen.values()) - min(pairs_seen.values(), default=0) <= 2


@settings(max_examples=30, deadline=None)
@given(st.integers(6, 90), st.integers(1, 60))
def test_groups_do_not_depend_on_how_many_follow(groups: int, more: int) -> None:
    whole = groups - groups % 6
    short = cyclic_pairs(groups, answers=6, seed=[3], **REST)[:whole]
    long = cyclic_pairs(groups + more, answers=6, seed=[3], **REST)[:whole]
    np.testing.assert_array_equal(short, long)


def test_thirty_groups_have_every_pair_once() -> None:
    pairs = cyclic_pairs(30, answers=6, seed=[5], **REST)
    assert len({*map(tuple, pairs.tolist())}) == 30


def test_a_rest_that_cannot_be_paired_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be paired"):
        cyclic_pairs(1, answers=3, rest_image=(0,), rest_text=(0,), seed=[0])


COUNTS = {(0, 1): 46, (0, 2): 62, (1, 0): 54, (1, 2): 46, (2, 0): 46, (2, 1): 46}


def test_proportional_pairs_come_exactly_so_often() -> None:
    pairs = proportional_pairs(600, COUNTS)
    for part in (pairs[:300], pairs[300:]):
        assert Counter(map(tuple, part.tolist())) == Counter(COUNTS)


def test_every_beginning_is_nearly_proportional() -> None:
    pairs = [tuple(pair) for pair in proportional_pairs(300, COUNTS).tolist()]
    for end in range(1, 301):
        seen = Counter(pairs[:end])
        assert all(abs(seen[p] - end * n / 300) <= 1.5 for p, n in COUNTS.items())
