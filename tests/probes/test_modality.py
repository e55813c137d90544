"""Relative uncertainty, following, monotonicity and oscillations: closed forms and invariances."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr

from probes.modality import (
    candidate_entropy,
    followed,
    following_rate,
    high_total,
    isotonic_residual,
    monotonicity,
    oscillations,
    oscillations_by_third,
    relative_uncertainty,
    saturated_share,
    sign_changes,
    solved_both,
    swapped_labels,
    uncertainty_difference,
)

ENTROPIES = arrays(np.float64, 12, elements=st.floats(0, 12))


@given(ENTROPIES, ENTROPIES, st.floats(0.01, 100))
def test_relative_uncertainty_is_bounded_negates_and_has_no_unit(text, vision, unit):
    delta = relative_uncertainty(text, vision)
    known = ~np.isnan(delta)
    assert (np.abs(delta[known]) <= 2).all()
    np.testing.assert_array_equal(known, text + vision > 0)
    np.testing.assert_array_equal(relative_uncertainty(vision, text), -delta)
    wide = (text + vision > 1e-300) & (unit * (text + vision) > 1e-300)
    np.testing.assert_allclose(relative_uncertainty(unit * text, unit * vision)[wide], delta[wide])
    difference = uncertainty_difference(text, vision)
    apart = known & (np.abs(text - vision) > 1e-9)
    assert (np.sign(difference[apart]) == np.sign(delta[apart])).all()


def test_relative_uncertainty_has_the_papers_sign():
    assert relative_uncertainty(1.0, 3.0) == -1  # the text is easier
    assert relative_uncertainty(0.0, 0.7) == -2
    assert relative_uncertainty(0.7, 0.0) == 2
    assert np.isnan(relative_uncertainty(0.0, 0.0))
    assert relative_uncertainty(0.0, 0.0, floor=0.1) == 0
    assert relative_uncertainty(1.0, 0.5, floor=0.5) == 0.5
    assert np.isnan(relative_uncertainty(np.nan, 1.0))
    with pytest.raises(ValueError, match=r"an uncertainty is -0\.5"):
        relative_uncertainty(-0.5, 1.0)
    with pytest.raises(ValueError, match="floor"):
        relative_uncertainty(0.5, 1.0, floor=-1)


def test_shares_of_doubtful_ratios():
    text = np.array([0.0, 0.001, 1.0, 2.0, np.nan])
    vision = np.array([0.0, 0.002, 0.01, 2.0, 1.0])
    near, beyond = saturated_share(text, vision)
    assert (near, beyond) == (0.5, 0.25)
    assert np.isnan(saturated_share([np.nan], [1.0])).all()


def test_candidate_entropy_is_that_of_the_renormalised_candidates():
    even = candidate_entropy([[3.0, 3.0, 3.0, np.nan], [0.0, -np.inf, -np.inf, -np.inf]])
    np.testing.assert_allclose(even, [np.log(3), 0.0])
    p = np.array([0.7, 0.2, 0.1])
    np.testing.assert_allclose(candidate_entropy(np.log(p) + 5), -(p * np.log(p)).sum())
    assert np.isnan(candidate_entropy([np.nan, np.nan]))


@given(arrays(np.int64, (3, 30), elements=st.integers(0, 4)))
def test_followed_is_symmetric_in_the_modalities(said):
    both, text, image = said
    one, other = followed(both, text, image), followed(both, image, text)
    np.testing.assert_array_equal(one, 1 - other)
    assert np.isnan(one[text == image]).all()


def test_solved_both_needs_both_and_a_conflict():
    text, image = np.array([1, 1, 1, 2]), np.array([2, 2, 2, 2])
    solved = solved_both([1, 0, 1, 2], [2, 2, 0, 2], text, image)
    np.testing.assert_array_equal(solved, [True, False, False, False])


def test_following_rate_drops_those_of_neither_and_counts_them():
    found = following_rate([1, 1, 0, np.nan, 1, np.nan, 0, 0], [0, 0, 1, 1, 2, 2, 3, 3])
    assert found.value == 0.5
    assert (found.other, found.cases) == (0.25, 8)
    assert found.lower < 0.5 < found.upper
    # The same cases in groups of like outcomes are less sure.
    like = following_rate([1, 1, 0, 0] * 10, np.repeat(np.arange(20), 2))
    mixed = following_rate([1, 0] * 20, np.repeat(np.arange(20), 2))
    assert mixed.standard_error == 0 < like.standard_error
    none = following_rate([np.nan, np.nan], [0, 1])
    assert np.isnan(none.value)
    assert none.other == 1


def test_high_total_is_above_the_median():
    np.testing.assert_array_equal(
        high_total([0.1, 0.2, 0.3, 5.0, np.nan], [0.0, 0.0, 0.0, 1.0, 1.0]),
        [False, False, True, True, False],
    )
    assert not high_total([np.nan], [np.nan]).any()


def test_oscillations_of_the_papers_example():
    assert oscillations(["vision", "other", "text"]) == 1
    assert oscillations(["vision", "irrelevant", "text"]) == 1
    assert oscillations(["other", "vision", "vision", "other"]) == 0
    assert oscillations(["text", "vision", "other", "other", "text", "text"]) == 2
    assert oscillations(["other"]) == 0
    assert oscillations([["vision", "text"], ["text", "text"]]).tolist() == [1, 0]
    with pytest.raises(ValueError, match="'blue'"):
        oscillations(["blue"])
    with pytest.raises(ValueError, match="side is"):
        oscillations([0, 2])


SIDES = arrays(
    np.int8, st.tuples(st.integers(1, 4), st.integers(1, 12)), elements=st.integers(-1, 1)
)


@given(SIDES)
def test_oscillations_count_as_a_loop_does_and_by_third_sum_to_it(sides):
    def by_hand(row):
        seen = [s for s in row if s]
        return sum(a != b for a, b in pairwise(seen))

    counts = oscillations(sides)
    assert counts.tolist() == [by_hand(row) for row in sides.tolist()]
    np.testing.assert_array_equal(oscillations(-sides), counts)
    np.testing.assert_array_equal(oscillations(sides[:, ::-1]), counts)
    thirds = oscillations_by_third(sides)
    np.testing.assert_array_equal(thirds.sum(-1), counts)
    words = np.array(["vision", "other", "text"])[sides.astype(int) + 1]
    np.testing.assert_array_equal(oscillations(words), counts)


def test_thirds_belong_to_the_layer_of_the_new_side():
    # Seven layers: switches can happen at 1 … 6, two in each third.
    for layer, third in zip(range(1, 7), (0, 0, 1, 1, 2, 2), strict=True):
        sides = np.where(np.arange(7) < layer, -1, 1)
        assert oscillations_by_third(sides).tolist() == [int(i == third) for i in range(3)]


def test_sides_of_a_logit_difference():
    assert sign_changes([0.5, -2.0, 0.0, np.nan, -1.0, 3.0]).tolist() == [1, -1, 0, 0, -1, 1]
    assert oscillations(sign_changes([0.5, -2.0, 0.0, np.nan, -1.0, 3.0])) == 2


@given(st.integers(0, 1000))
def test_swapped_labels_are_two_that_nobody_supports(seed):
    rng = np.random.default_rng(seed)
    count = rng.integers(2, 7, 40)
    image, text = rng.integers(0, count), rng.integers(0, count)
    one, two = swapped_labels(image, text, count, seed=seed)
    free = count - 2 + (image == text)
    np.testing.assert_array_equal(one >= 0, free >= 2)
    some = one >= 0
    for pair in (one[some], two[some]):
        assert (pair < count[some]).all()
        assert ((pair != image[some]) & (pair != text[some])).all()
    assert (one[some] != two[some]).all()
    assert (two[~some] == -1).all()


def falling(seed, gain, groups=60, each=4):
    rng = np.random.default_rng(seed)
    delta = rng.uniform(-2, 2, (groups, each))
    text = rng.random(delta.shape) < 1 / (1 + np.exp(gain * delta))
    return delta.ravel(), text.ravel().astype(float), np.repeat(np.arange(groups), each)


def test_a_falling_curve_is_monotone_by_every_reading():
    delta, text, groups = falling(0, 1.5, groups=600)
    found = monotonicity(delta, text, groups)
    assert found.spearman == pytest.approx(spearmanr(delta, text).statistic)
    assert found.upper < 0
    assert found.p_value == pytest.approx(1 / 1000)
    assert found.residual < 0.05
    assert found.decreasing == 1
    rising = monotonicity(delta, 1 - text, groups)
    assert rising.spearman == pytest.approx(-found.spearman)
    assert rising.p_value > 0.99
    assert rising.residual > 0.2


def test_isotonic_residual_of_known_curves():
    x = np.repeat(np.arange(4.0), 10)
    steps = [np.arange(10) < 10 * r for r in (0.9, 0.6, 0.3, 0.1)]
    assert isotonic_residual(x, np.concatenate(steps), bins=4) == (0.0, 1.0)
    up = [np.arange(10) < 10 * r for r in (0.2, 0.4, 0.2, 0.4)]
    # Falling fits: everything pooled at 0.3, each bin 0.1 away.
    residual, share = isotonic_residual(x, np.concatenate(up), bins=4)
    assert residual == pytest.approx(0.1)
    assert share == pytest.approx(1 / 3)
    assert np.isnan(isotonic_residual(np.zeros(20), np.ones(20))).all()


def test_the_sign_flip_test_keeps_groups_whole():
    """Outcomes of a group alike and Δ of a group alike: without groups it would reject too often."""
    rejected = {True: 0, False: 0}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(25), 8)
        delta = rng.normal(size=25)[groups] + 0.1 * rng.normal(size=200)
        text = (rng.random(25) < 0.5).astype(float)[groups]
        for grouped in (True, False):
            found = monotonicity(delta, text, groups if grouped else None, flips=99, seed=seed)
            rejected[grouped] += found.p_value <= 0.05
    assert rejected[True] <= 9  # 3 are expected
    assert rejected[False] > 12


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(-3, 3))
def test_monotonicity_is_invariant_to_a_swap_of_modalities(seed, gain):
    delta, text, groups = falling(seed, gain, groups=20)
    one = monotonicity(delta, text, groups, flips=19)
    other = monotonicity(-delta, 1 - text, groups, flips=19)
    np.testing.assert_allclose(other.spearman, one.spearman)
    np.testing.assert_allclose([other.lower, other.upper], [one.lower, one.upper])
    assert other.decreasing == one.decreasing
    assert other.residual == pytest.approx(one.residual, abs=1e-12)


def test_a_law_inside_groups_of_unlike_sizes_is_seen():
    """Every group asks the same ladder of Δ, some of its cases are missing."""
    rng = np.random.default_rng(0)
    groups, delta = np.repeat(np.arange(30), 12), np.tile(np.linspace(-2, 2, 12), 30)
    kept = rng.random(360) < 0.8
    text = (rng.random(360) < 1 / (1 + np.exp(2 * delta))).astype(float)
    assert monotonicity(delta[kept], text[kept], groups[kept]).p_value == pytest.approx(1 / 1000)
    assert monotonicity(delta[kept], 1 - text[kept], groups[kept]).p_value > 0.99


def test_monotonicity_without_cases_says_nothing():
    found = monotonicity([np.nan] * 9, [1.0] * 9)
    assert np.isnan(found[:7]).all()
    assert found.cases == 0
