"""Entropy against context length: closed forms, and what the published code computes instead."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from attention.entropy import row_entropy
from attention.reach import (
    double_softmax,
    double_softmax_floor,
    entropy_line,
    entropy_of_mean,
    log_visible,
    logit_scale,
)


def test_mean_log_of_a_bin_is_that_of_its_rows() -> None:
    start, end = np.array([0, 1, 2, 64, 70]), np.array([1, 2, 5, 70, 200])
    wanted = [np.log(np.arange(a + 1, b + 1)).mean() for a, b in zip(start, end, strict=True)]
    np.testing.assert_allclose(log_visible(start, end), wanted)
    with pytest.raises(ValueError, match="start < end"):
        log_visible([3], [3])


def test_uniform_attention_has_slope_one_and_a_fixed_reach_slope_zero() -> None:
    start = np.arange(0, 64)
    x = log_visible(start, start + 1)
    line = entropy_line(x, x, np.full(64, 5))
    assert line.slope == pytest.approx(1)
    assert line.intercept == pytest.approx(0, abs=1e-12)
    flat = entropy_line(np.full(64, 1.7), x, np.ones(64))
    assert flat.slope == pytest.approx(0, abs=1e-12)
    assert flat.intercept == pytest.approx(1.7)


def test_the_row_that_sees_one_key_is_left_out() -> None:
    x = np.log(np.arange(1, 30))
    y = 0.5 * x + 1
    y[0] = 0  # by force
    found = entropy_line(y, x, np.ones(29))
    assert found.slope == pytest.approx(0.5)
    assert found.intercept == pytest.approx(1)


@given(seed=st.integers(0, 1000))
def test_the_line_is_the_one_of_weighted_least_squares(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.log(np.arange(1, 40))
    y, w = rng.normal(size=(2, 39)), rng.integers(0, 9, (2, 39))
    found = entropy_line(y, x, w)
    for row in range(2):
        fit = sm.WLS(y[row, 1:], sm.add_constant(x[1:]), weights=w[row, 1:]).fit()
        np.testing.assert_allclose([found.intercept[row], found.slope[row]], fit.params, atol=1e-9)


def test_nan_is_not_left_out_unless_it_has_no_weight() -> None:
    x = np.log(np.arange(1, 10))
    y = x.copy()
    y[4] = np.nan
    assert np.isnan(entropy_line(y, x, np.ones(9)).slope)
    assert entropy_line(y, x, np.arange(9) != 4).slope == pytest.approx(1)
    assert np.isnan(entropy_line(x[:2], x[:2], np.ones(2)).slope)


def test_logits_are_scaled_beyond_the_context_of_training() -> None:
    np.testing.assert_allclose(logit_scale([1, 2, 4096], 4096), 1)
    assert logit_scale(4096**2, 4096) == pytest.approx(2)
    assert logit_scale(8192, 4096) == pytest.approx(1 + np.log(2) / np.log(4096))
    place = np.arange(1, 9000)
    theirs = np.clip(np.log(place) / np.log(4096), 1, None)
    np.testing.assert_allclose(logit_scale(place, 4096), theirs)
    with pytest.raises(ValueError, match="above 1"):
        logit_scale(3, 1)


@given(seed=st.integers(0, 1000), spread=st.floats(0, 8))
def test_entropy_of_the_mean_is_at_least_the_mean_of_entropies(seed: int, spread: float) -> None:
    """Reference §5 item 12 (Jensen); equal where all samples attend alike."""
    p = softmax(np.random.default_rng(seed).normal(size=(6, 3, 20)) * spread, axis=-1)
    gap = entropy_of_mean(p) - row_entropy(p).mean(0)
    assert (gap >= -1e-12).all()
    same = np.repeat(p[:1], 4, axis=0)
    np.testing.assert_allclose(entropy_of_mean(same), row_entropy(p[0]), atol=1e-12)


def test_the_double_softmax_floor() -> None:
    """Reference §1.4 and §5 item 13."""
    assert double_softmax_floor(4096) == pytest.approx(8.3175, abs=5e-5)
    assert round(float(double_softmax_floor(4096)), 5) == 8.31752
    for n in (2, 10, 4096):
        one = np.eye(1, n)[0]
        assert row_entropy(double_softmax(one)) == pytest.approx(float(double_softmax_floor(n)))
    np.testing.assert_allclose(row_entropy(double_softmax(np.full(50, 1 / 50))), np.log(50))


@given(seed=st.integers(0, 1000), n=st.integers(1, 60), spread=st.floats(0, 20))
def test_no_row_is_below_the_floor(seed: int, n: int, spread: float) -> None:
    p = softmax(np.random.default_rng(seed).normal(size=n) * spread)
    entropy = float(row_entropy(double_softmax(p)))
    assert double_softmax_floor(n) - 1e-9 <= entropy <= np.log(n) + 1e-9
