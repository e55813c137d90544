"""When a class stands apart: closed forms, coverage of a known step, and what does not rise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from probes.class_emergence import class_emergence
from probes.emergence import emergence

UP = np.array([0.5, 0.52, 0.6, 0.68, 0.8, 0.9])
SMALL = np.full(6, 1e-6)


def test_without_noise_it_is_the_checkpoint_halfway_up() -> None:
    found = class_emergence(UP, SMALL)
    assert (found.first, found.lower, found.upper) == (4, 4, 4)  # 0.7 is halfway
    assert found.threshold == pytest.approx(0.7)
    assert found.rise == pytest.approx(0.4)
    assert found.separated
    assert class_emergence(UP, SMALL, fraction=0.2).first == 2  # 0.58


def test_one_that_falls_back_emerges_when_it_is_up_for_good() -> None:
    assert class_emergence(np.array([0.5, 0.9, 0.6, 0.8, 0.9]), SMALL[:5]).first == 3


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1, 1), min_size=3, max_size=12),
    st.floats(0.1, 10),
    st.floats(-5, 5),
)
def test_the_unit_of_the_measure_does_not_matter(
    drawn: list[float], scale: float, shift: float
) -> None:
    values = np.round(np.array(drawn), 3)
    values[-1] = values.max() + 1
    errors = np.full(len(drawn), 0.01)
    one = class_emergence(values, errors, draws=200)
    other = class_emergence(scale * values + shift, scale * errors, draws=200)
    gap = np.abs(values - one.threshold).min()
    if gap > 1e-6:  # otherwise rounding decides
        assert one.first == other.first
    np.testing.assert_allclose(one.probability, other.probability, atol=0.011)


@pytest.mark.parametrize("values", [np.full(6, 0.7), UP[::-1], 0.5 + 0.02 * np.arange(6) / 5])
def test_what_does_not_rise_beyond_its_noise_has_not_emerged(values: np.ndarray) -> None:
    found = class_emergence(values, np.full(6, 0.02))
    assert not found.separated
    assert found.first == 6
    assert found.upper == 6
    assert found.rise_lower < 0


def test_the_rise_has_the_interval_of_a_difference() -> None:
    found = class_emergence(UP, np.array([0.03, 1, 1, 1, 1, 0.04]), level=0.9)
    half = norm.ppf(0.95) * 0.05
    assert (found.rise_lower, found.rise_upper) == pytest.approx((0.4 - half, 0.4 + half))


def test_a_step_between_plateaus_has_a_closed_form() -> None:
    """One checkpoint in doubt: it is above if its error and those of both ends say so, a normal each."""
    values, s = np.array([0.0, 0.6, 1.0]), np.array([0.1, 0.15, 0.1])
    found = class_emergence(values, s, draws=200_000)
    # Gap v1 − (v0 + v2)/2 has mean 0.1 and variance s1² + (s0² + s2²)/4; rising is as good as certain.
    wanted = norm.cdf(0.1 / np.sqrt(0.15**2 + 0.02 / 4))
    np.testing.assert_allclose(found.probability, [0, wanted, 1], atol=0.005)
    assert (found.first, found.lower, found.upper) == (1, 1, 2)


@pytest.mark.parametrize("noise", [0.01, 0.03])
def test_the_interval_covers_the_step_of_the_curve_without_noise(noise: float) -> None:
    rng = np.random.default_rng(3)
    steps = np.arange(24)
    inside = 0
    for _ in range(100):
        truth = 0.55 + 0.35 / (1 + np.exp(-(steps - rng.uniform(6, 16)) / 2))
        since = class_emergence(truth, np.zeros(24)).first
        seen = class_emergence(truth + noise * rng.standard_normal(24), np.full(24, noise))
        inside += seen.lower <= since <= seen.upper
    assert inside >= 90


def test_a_fixed_threshold_is_the_other_measure() -> None:
    errors = np.full(6, 0.05)
    found, plain = (
        class_emergence(UP, errors, threshold=0.65),
        emergence(UP, errors, threshold=0.65),
    )
    assert found[:3] == plain[:3]
    np.testing.assert_array_equal(found.probability, plain.probability)
    assert found.threshold == 0.65
    assert class_emergence(UP, errors, threshold=0.4).first == 0
    never = class_emergence(UP, errors, threshold=0.95)
    assert not never.separated
    assert never.first == 6


def test_a_checkpoint_without_a_value_is_none() -> None:
    values = np.insert(UP, 3, np.nan)
    found = class_emergence(values, np.full(7, 0.001))
    assert (found.first, found.lower, found.upper) == (5, 5, 5)
    assert np.isnan(found.probability[3])
    lone = class_emergence(np.array([np.nan, 0.5, np.nan]), np.full(3, 0.1))
    assert (lone.first, lone.lower, lone.upper, lone.separated) == (3, 0, 3, False)


def test_an_unknown_error_leaves_the_whole_run_open() -> None:
    errors = np.full(6, 0.01)
    errors[2] = np.nan
    found = class_emergence(UP, errors)
    assert (found.first, found.lower, found.upper) == (4, 0, 6)


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="fraction is 1"):
        class_emergence(UP, SMALL, fraction=1)


def test_the_same_curve_gives_the_same_interval() -> None:
    errors = np.full(6, 0.05)
    one, other = class_emergence(UP, errors), class_emergence(UP, errors)
    np.testing.assert_array_equal(one.probability, other.probability)
