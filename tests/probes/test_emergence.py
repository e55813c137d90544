"""When a curve crosses for good: closed forms, simulation, and groups that share a step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from probes.emergence import emergence, together

UP = np.array([0.0, 0.1, 0.5, 0.2, 0.4, 0.8, 0.9])


def test_a_curve_without_errors_crosses_at_its_last_way_up() -> None:
    found = emergence(UP, np.zeros(7), threshold=0.3)
    assert (found.first, found.lower, found.upper) == (4, 4, 4)
    assert found.probability.tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_above_from_the_start_and_never() -> None:
    start = emergence(UP + 1, np.full(7, 0.01), threshold=0.3)
    assert (start.first, start.lower, start.upper) == (0, 0, 0)
    never = emergence(UP[::-1], np.full(7, 0.01), threshold=0.3)
    assert (never.first, never.lower, never.upper) == (7, 7, 7)


def test_on_the_threshold_is_above() -> None:
    assert emergence(np.array([0.0, 0.3]), np.zeros(2), threshold=0.3).first == 1


def test_one_doubtful_checkpoint_is_a_normal_tail() -> None:
    """At 1.2 errors above the threshold: Φ(1.2) that it is above, so the interval takes in the next."""
    values, errors = np.array([0.0, 0.3 + 1.2 * 0.05, 0.9]), np.full(3, 0.05)
    found = emergence(values, errors, threshold=0.3)
    np.testing.assert_allclose(found.probability, [norm.cdf(-6) * norm.cdf(1.2), norm.cdf(1.2), 1])
    assert (found.first, found.lower, found.upper) == (1, 1, 2)


def test_it_is_what_a_parametric_bootstrap_finds() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([np.linspace(0, 0.6, 15), np.full(5, 0.6)])
    errors = np.full(20, 0.06)
    found = emergence(values, errors, threshold=0.3)
    drawn = values + errors * rng.standard_normal((40_000, 20))
    low = drawn < 0.3
    crossed = np.where(low.any(1), 20 - np.argmax(low[:, ::-1], axis=1), 0)
    share = (crossed[:, None] <= np.arange(20)).mean(0)
    np.testing.assert_allclose(found.probability, share, atol=0.01)
    assert found.lower == np.quantile(crossed, 0.025, method="inverted_cdf")
    assert found.upper == np.quantile(crossed, 0.975, method="inverted_cdf")


def test_a_checkpoint_without_a_value_does_not_count() -> None:
    values, errors = UP.copy(), np.full(7, 0.02)
    values[3] = np.nan  # the one that fell back
    found = emergence(values, errors, threshold=0.3)
    whole = emergence(np.delete(UP, 3), np.full(6, 0.02), threshold=0.3)
    assert found.first == whole.first == 2
    np.testing.assert_array_equal(np.delete(found.probability, 3), whole.probability)
    assert found.probability[3] == found.probability[4]
    nothing = emergence(np.full(3, np.nan), np.full(3, 0.1), threshold=0.3)
    assert nothing.first == 3
    assert np.isnan(nothing.probability).all()


def test_an_unknown_error_makes_the_interval_the_whole_run() -> None:
    errors = np.full(7, 0.02)
    errors[2] = np.nan
    found = emergence(UP, errors, threshold=0.3)
    assert (found.first, found.lower, found.upper) == (4, 0, 7)
    assert np.isnan(found.probability[:3]).all()
    assert not np.isnan(found.probability[3:]).any()


CURVES = st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 0.5)), min_size=1, max_size=12)


@given(CURVES, st.floats(-0.9, 0.9))
@settings(max_examples=150, deadline=None)
def test_probabilities_rise_and_the_interval_is_in_order(
    curve: list[tuple[float, float]], threshold: float
) -> None:
    values, errors = np.array(curve).T
    found = emergence(values, errors, threshold=threshold)
    assert (np.diff(found.probability) >= -1e-12).all()
    assert 0 <= found.lower <= found.upper <= len(values)
    assert 0 <= found.first <= len(values)
    assert (values[found.first :] >= threshold).all()
    assert found.first == 0 or values[found.first - 1] < threshold
    higher = emergence(values, errors, threshold=threshold + 0.05)
    assert higher.first >= found.first
    assert (higher.probability <= found.probability + 1e-12).all()


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), min_size=1, max_size=14))
@settings(max_examples=150, deadline=None)
def test_all_of_a_group_share_a_step(ends: list[tuple[int, int]]) -> None:
    lower = np.array([low for low, _ in ends])
    upper = lower + np.array([more for _, more in ends])
    groups = together(lower, upper, never=8)
    assert ((groups >= 0) == (lower < 8)).all()
    last = -1
    for number in range(groups.max() + 1):
        mine = groups == number
        assert mine.any()
        assert lower[mine].max() <= upper[mine].min()
        # Two groups' earliest ends cannot be shared, or they would be one.
        assert (lower[mine] > last).all()
        last = upper[mine].min()


def test_a_chain_of_overlaps_is_not_one_group() -> None:
    groups = together(np.array([0, 2, 4, 9]), np.array([2, 4, 6, 9]), never=9)
    assert groups.tolist() == [0, 0, 1, -1]


@pytest.mark.parametrize("level", [0.5, 0.99])
def test_a_wider_level_is_a_wider_interval(level: float) -> None:
    errors = np.full(7, 0.1)
    mine = emergence(UP, errors, threshold=0.3, level=level)
    usual = emergence(UP, errors, threshold=0.3)
    assert (mine.upper - mine.lower >= usual.upper - usual.lower) == (level > 0.95)
